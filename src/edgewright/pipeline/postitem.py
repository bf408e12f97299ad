"""What travels from one post-processing operation to the next."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Protocol

from numpy.typing import NDArray

from edgewright.core.decision import Classification, Decision, Detections
from edgewright.errors import ConfigError, DataError


@dataclass(frozen=True, slots=True, eq=False)
class Outcome:
    """The outputs of a model on their way to a decision.

    Attributes:
        tensors: Output name -> array without the batch axis.
        geometry: From `Prepared.geometry`.
        decision: None until an operation has decided.
        scores: Name of the output that now holds one score per class; a list that ends with scores decides by
            `top-k`.
    """

    tensors: Mapping[str, NDArray[Any]]
    geometry: Mapping[str, Any]
    decision: Decision | None = None
    scores: str | None = None

    def with_scores(self, name: str, array: NDArray[Any]) -> Outcome:
        """Returns the outcome with class scores in the output `name`."""
        return Outcome({**self.tensors, name: array}, self.geometry, self.decision, name)

    def with_decision(self, decision: Decision) -> Outcome:
        """Returns the outcome, decided."""
        return Outcome(self.tensors, self.geometry, decision, self.scores)


class PostOperation(Protocol):
    """One post-processing operation: a frozen dataclass whose fields are its table's keys."""

    op: ClassVar[str]
    files: ClassVar[tuple[str, ...]]

    def __call__(self, outcome: Outcome, memory: dict[str, Any]) -> Outcome:
        """Returns the next outcome.

        Args:
            outcome: So far.
            memory: Kept from sample to sample until `Postprocess.reset`; empty at first.

        Raises:
            DataError: The outputs are not what the operation takes.
        """


def chosen(outcome: Outcome, name: str, op: str) -> tuple[str, NDArray[Any]]:
    """Returns the output called `name`, or the only one when `name` is empty.

    Raises:
        ConfigError: There is no such output, or there are several and none is named.
    """
    known = ", ".join(outcome.tensors)
    if not name and outcome.scores is not None:
        name = outcome.scores
    if not name and len(outcome.tensors) != 1:
        message = f"{op}: the model has {len(outcome.tensors)} outputs and none is chosen"
        raise ConfigError(message, hint=f"add output = one of: {known}")
    name = name or next(iter(outcome.tensors))
    if name not in outcome.tensors:
        raise ConfigError(f'{op}: the model has no output "{name}"', hint=f"its outputs are: {known}")
    return name, outcome.tensors[name]


def score_vector(outcome: Outcome, name: str, op: str) -> tuple[str, NDArray[Any]]:
    """Returns the chosen output as one score per class, float [classes].

    Raises:
        DataError: It has more than one axis that is not of length 1.
    """
    name, array = chosen(outcome, name, op)
    if sum(n != 1 for n in array.shape) > 1:
        raise DataError(
            f"{op} takes one score per class, the output {name} is {list(array.shape)} per sample",
            hint="choose the right output, or use argmax-mask for one class per pixel, yolo for boxes",
        )
    return name, array.reshape(-1).astype(float)


def decided(outcome: Outcome, op: str) -> Classification | Detections:
    """Returns the classification or the detections decided so far.

    Raises:
        ConfigError: Nothing of that kind has been decided.
    """
    if isinstance(outcome.decision, (Classification, Detections)):
        return outcome.decision
    hint = 'put an operation that decides before it: "top-k" or "yolo"'
    raise ConfigError(f"{op} needs classes or boxes, and nothing has been decided yet", hint=hint)
