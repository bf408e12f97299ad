"""What is tuned: a recipe with ranges, or the table `[training]`. Pure."""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from edgewright.core.budget import Budget
from edgewright.core.recipe import Recipe, StepSpec
from edgewright.errors import ConfigError
from edgewright.search.tuning.ranges import Parameter, Path, Plain, filled, parameters
from edgewright.search.tuning.results import BOTH, OBJECTIVES, QUALITY

TRAINING = "training"


@dataclass(frozen=True, slots=True)
class Subject:
    """A table with ranges.

    Attributes:
        title: Of the recipe; `training` for `[training]`.
        table: As TOML gives it.
        parameters: Its ranges.
    """

    title: str
    table: Mapping[str, Any]
    parameters: tuple[Parameter, ...]

    @property
    def example(self) -> dict[str, Any]:
        """The table with values that its ranges allow."""
        return self.filled({each.path: each.example for each in self.parameters})

    def filled(self, values: Mapping[Path, Plain]) -> dict[str, Any]:
        """Returns the table with these values."""
        found: dict[str, Any] = filled(self.table, values)
        return found

    def named(self, values: Mapping[str, Any]) -> dict[str, Any]:
        """Returns the table with values by the names of its parameters."""
        return self.filled({each.path: values[each.name] for each in self.parameters if each.name in values})


def choose_subject(recipes: Mapping[str, Mapping[str, Any]], training: Mapping[str, Any] | None, name: str) -> Subject:
    """Returns what is to be tuned.

    Args:
        recipes: Title -> table of `[[recipes]]`.
        training: `[training]`; None where there is none.
        name: Title of a recipe, or `training`; empty where only one has ranges.

    Raises:
        ConfigError: Nothing has a range, or several have and none is named.
    """
    tables = {**recipes, **({TRAINING: training} if training is not None else {})}
    found = {title: Subject(title, table, parameters(table, title)) for title, table in tables.items()}
    ranged = {title: subject for title, subject in found.items() if subject.parameters}
    if name in ranged:
        return ranged[name]
    if not ranged:
        hint = "write a range where a value stands, e.g. latency = {low = 0.3, high = 0.7}"
        raise ConfigError("nothing to tune: neither [[recipes]] nor [training] has a range", hint=hint)
    if not name and len(ranged) == 1:
        return next(iter(ranged.values()))
    near = difflib.get_close_matches(name, ranged, n=1)
    hint = f'did you mean "{near[0]}"?' if near else f"name one with --recipe: {', '.join(ranged)}"
    message = f'no recipe "{name}" has a range' if name else f"{len(ranged)} tables have ranges"
    raise ConfigError(message, hint=hint)


def recipe(table: Mapping[str, Any], title: str) -> Recipe:
    """Returns the recipe that a table without ranges describes."""
    passes: Sequence[Mapping[str, Any]] = table["passes"]
    specs = (StepSpec(str(each["name"]), {k: v for k, v in each.items() if k != "name"}) for each in passes)
    return Recipe(title, tuple(specs))


def choose_objective(name: str, budget: Budget) -> str:
    """Returns `name`, or what the budget leaves open: it limits costs, so quality is sought; else both.

    Raises:
        ConfigError: There is no such objective.
    """
    if name and name not in OBJECTIVES:
        raise ConfigError(f'objective "{name}"', hint=f"one of {', '.join(OBJECTIVES)}")
    return name or (QUALITY if budget.limits_cost else BOTH)
