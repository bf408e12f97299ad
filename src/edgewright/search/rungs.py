"""What a ladder is made of: facts known beforehand, and rungs to try."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from edgewright.core.recipe import Candidate, Recipe, StepSpec
from edgewright.search.request import TrainingConfig

CLEAN_UP = StepSpec("clean-up")
CARRIES_QDQ = "the model already carries QuantizeLinear / DequantizeLinear and is read as it is"


@dataclass(frozen=True, slots=True)
class Trainable:
    """What is known about training before it is tried.

    Attributes:
        config: `[training]`.
        samples: Split -> how many there are.
        labelled: `train` has class labels.
        asked: The project has a table `[training]` or names rungs that train; otherwise they are tried only where
            nothing else meets the budget.
        wanted: Names of the rungs to try; empty for all.
        limits_cost: The budget limits more than quality.
        absent: What must be installed; empty where nothing is missing.
    """

    config: TrainingConfig
    samples: Mapping[str, int]
    labelled: bool = False
    asked: bool = False
    wanted: frozenset[str] = frozenset()
    limits_cost: bool = False
    absent: str = ""

    def wants(self, *names: str) -> bool:
        """Says whether any of these rungs is to be tried."""
        return not self.wanted or not self.wanted.isdisjoint(names)


@dataclass(frozen=True, slots=True)
class Facts:
    """What is known about the model before anything is tried.

    Attributes:
        quantized: It already carries QuantizeLinear and DequantizeLinear.
        refusals: Target -> why it will not take the model.
        time_share: Operator -> share of the original's measured run time.
        operators: Operator -> how many nodes.
        absent: Rung -> what must be installed for it, where that is not.
        reference: The original model, profiled.
        size_limited: The budget limits size or memory, so that smaller weights pay even where they are not faster.
        training: What is known about training; None where passes that train are not to be tried.
    """

    quantized: bool
    refusals: Mapping[str, tuple[str, ...]]
    time_share: Mapping[str, float]
    operators: Mapping[str, int] = field(default_factory=dict)
    size_limited: bool = False
    absent: Mapping[str, str] = field(default_factory=dict)
    reference: Candidate | None = None
    training: Trainable | None = None

    def share(self, operators: frozenset[str] | tuple[str, ...]) -> float:
        """Returns the share of the run time that `operators` take together."""
        return sum(share for op, share in self.time_share.items() if op in operators)

    def count(self, operator: str) -> int:
        """Returns how many nodes of the model are `operator`."""
        return self.operators.get(operator, 0)


@dataclass(frozen=True, slots=True)
class Rung:
    """One thing to try.

    Attributes:
        name: Of the rung, as `[search] ladder` names it.
        recipe: The passes.
        target: The target with its fields.
        refused: Why it is not worth trying; empty to try it.
        notes: For the candidate that comes of it.
        tentative: A value that a pass refuses fails the candidate and nothing else: the search chose it, not the user.
    """

    name: str
    recipe: Recipe
    target: StepSpec
    refused: str = ""
    notes: tuple[str, ...] = ()
    tentative: bool = False
