"""From the outputs of a model to a decision."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from edgewright.core.data import Prepared
from edgewright.core.decision import Decision
from edgewright.errors import EdgewrightError
from edgewright.pipeline.postitem import Outcome, PostOperation
from edgewright.pipeline.scores import ArgmaxMask, Raw, Sigmoid, Smooth, Softmax, Suppress, Threshold, TopK
from edgewright.pipeline.spec import Table, operations
from edgewright.pipeline.yolo import Yolo

_ALL: tuple[type[PostOperation], ...] = (
    Softmax,
    Sigmoid,
    TopK,
    Threshold,
    Smooth,
    Suppress,
    Yolo,
    ArgmaxMask,
    Raw,
)
POSTPROCESSING: Mapping[str, type[PostOperation]] = {kind.op: kind for kind in _ALL}
"""`op` name -> operation."""


class Postprocess:
    """Turns outputs into a decision by a list of operations. Build it with `from_spec`.

    An empty list decides nothing and gives the outputs themselves; a list that ends with class scores (`softmax`,
    `sigmoid`, `smooth`) decides by `top-k` with its default.

    Attributes:
        spec: The tables, as written.
        stateful: True when a decision depends on earlier samples (`smooth`, `suppress`).
    """

    def __init__(self, spec: Sequence[Table], steps: Sequence[PostOperation]) -> None:
        self.spec = tuple(spec)
        self.stateful = any(isinstance(step, (Smooth, Suppress)) for step in steps)
        self._steps = tuple(steps)
        self._memory: tuple[dict[str, Any], ...] = ()
        self.reset()

    @classmethod
    def from_spec(cls, ops: Sequence[Table], root: Path) -> Postprocess:
        """Builds the list of operations.

        Args:
            ops: One table per operation; `op` names it, the other keys are its fields.
            root: Folder that relative paths are taken from; no operation reads a file yet.

        Raises:
            ConfigError: An unknown operation or key, or a value that does not fit.
        """
        del root
        tables = [dict(table) if isinstance(table, Mapping) else table for table in ops]
        return cls(tables, operations(POSTPROCESSING, tables, "postprocess"))

    def __call__(self, outputs: Mapping[str, NDArray[Any]], prepared: Prepared) -> Decision:
        """Decides about one sample.

        Args:
            outputs: Output name -> array without the batch axis.
            prepared: The sample as it went into the model.

        Raises:
            ConfigError: An operation does not fit the model's outputs.
            DataError: An output has a shape that an operation does not take.
        """
        outcome = Outcome(outputs, prepared.geometry)
        for index, (step, memory) in enumerate(zip(self._steps, self._memory, strict=True)):
            try:
                outcome = step(outcome, memory)
            except EdgewrightError as error:
                raise type(error)(f"postprocess[{index}]: {error.message}", hint=error.hint) from error
        if outcome.decision is None:
            outcome = (Raw() if outcome.scores is None else TopK())(outcome, {})
        assert outcome.decision is not None
        return outcome.decision

    def reset(self) -> None:
        """Forgets earlier samples: call it where a new stream begins."""
        self._memory = tuple({} for _ in self._steps)
