"""What no type can say about a project file: choices, ranges, names that must differ."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from edgewright.core.budget import Budget
from edgewright.core.codec import unknown_key
from edgewright.errors import ConfigError
from edgewright.search.ladder import RUNGS
from edgewright.search.pareto import OBJECTIVES
from edgewright.search.request import SearchConfig, TrainingConfig

if TYPE_CHECKING:
    from edgewright.project.config import ProjectFile

SCHEMA = 1
_PERCENTILES = (50, 90, 95, 99)
_STOPS = ("auto", "met", "exhausted")


def check_file(file: ProjectFile, where: str) -> None:
    """Checks a project file whose keys and types are right.

    Args:
        file: As decoded.
        where: Its name, for errors.

    Raises:
        ConfigError: A value is out of range, or two things have one name.
    """
    if file.schema != SCHEMA:
        hint = f"this release reads schema {SCHEMA}" + ("; install a newer one" if file.schema > SCHEMA else "")
        raise ConfigError(f"{where}: schema {file.schema}", hint=hint)
    if not file.targets:
        raise ConfigError(f"{where}: no targets", hint='add [[targets]] with name = "onnxruntime"')
    if not file.quality.metrics:
        raise ConfigError(f"{where}: [quality] metrics is empty", hint='name at least one, e.g. ["top-1"]')
    if file.seed < 0:
        raise ConfigError(f"{where}: seed = {file.seed}", hint="0 or larger")
    _unlike([table.get("label", table.get("name")) for table in file.targets], f"{where} [[targets]]", "label")
    _unlike([recipe.title for recipe in file.recipes], f"{where} [[recipes]]", "title")
    _check_search(file.search, f"{where} [search]")
    _check_budget(file.budget, f"{where} [budget]")
    _check_unit(file.budget, file.quality.metrics[0], f"{where} [budget]")


def _unlike(names: Sequence[Any], where: str, key: str) -> None:
    double = next((name for name in names if names.count(name) > 1), None)
    if double is not None:
        raise ConfigError(f'{where}: {key} "{double}" is given twice', hint=f"give each entry a {key} of its own")


def _check_search(search: SearchConfig, where: str) -> None:
    for name, value, choices in (("objective", search.objective, OBJECTIVES), ("stop", search.stop, _STOPS)):
        if value not in choices:
            raise ConfigError(f"{where}: {name} = {value!r}", hint=f"one of {', '.join(choices)}")
    for rung in search.ladder:
        if rung not in RUNGS:
            raise unknown_key(rung, RUNGS, f"{where} ladder")
    for name, counts in (("threads", search.threads), ("batch", search.batch)):
        if not counts or min(counts) < 1:
            raise ConfigError(f"{where}: {name} = {list(counts)}", hint="one or more numbers, 1 or larger")
    for name, number in (("timing_seconds", search.timing_seconds), ("timing_width", search.timing_width)):
        if not 0 < number < math.inf:
            raise ConfigError(f"{where}: {name} = {number:g}", hint="a number above 0")


def check_training(training: TrainingConfig, where: str) -> None:
    """Checks `[training]`; what the passes themselves refuse is found before anything runs.

    Raises:
        ConfigError: A value is out of range.
    """
    wholes = {name: getattr(training, name) for name in ("epochs", "qat_epochs", "batch", "rounds", "limit")}
    for name, whole in wholes.items():
        if whole is not None and whole < 1:
            raise ConfigError(f"{where}: {name} = {whole}", hint="1 or larger, or leave it out")
    rates = {name: getattr(training, name) for name in ("learning_rate", "qat_learning_rate", "time_limit")}
    for name, rate in rates.items():
        if rate is not None and not 0 < rate < math.inf:
            raise ConfigError(f"{where}: {name} = {rate:g}", hint="a number above 0, or leave it out")
    if training.labels < 0:
        raise ConfigError(f"{where}: labels = {training.labels:g}", hint="0 for none, 1 for as much as the original")
    if training.latency is not None and not 0 < training.latency < 1:
        hint = "a share of the latency that is left, such as 0.5, or leave it out"
        raise ConfigError(f"{where}: latency = {training.latency:g}", hint=hint)
    if isinstance(training.sparsity, float) and not 0 < training.sparsity < 1:
        raise ConfigError(f"{where}: sparsity = {training.sparsity:g}", hint='a share such as 0.7, or "2:4"')


def _check_budget(budget: Budget, where: str) -> None:
    if budget.latency_percentile not in _PERCENTILES:
        raise ConfigError(f"{where}: latency_percentile = {budget.latency_percentile}", hint="50, 90, 95 or 99")
    limits: Mapping[str, Any] = {f.name: getattr(budget, f.name) for f in dataclasses.fields(budget)}
    for name, limit in limits.items():
        lowest = -math.inf if name == "quality_floor" else 0
        if limit is not None and not (math.isfinite(limit) and limit >= lowest):
            raise ConfigError(f"{where}: {name} = {limit:g} can never be judged", hint="give a number, 0 or larger")


def _check_unit(budget: Budget, metric: str, where: str) -> None:
    """Points are written as shares: a drop of 1 would allow everything."""
    own_unit = metric == "mae" or ":" in metric
    drops = {"quality_drop": budget.quality_drop, "worst_class_drop": budget.worst_class_drop}
    shares = {"changed_share": budget.changed_share, **({} if own_unit else drops)}
    for name, limit in shares.items():
        if limit is not None and limit >= 1:
            hint = f"write {name} = {limit / 100:g} for {limit:g} points, or leave it out for no limit"
            raise ConfigError(f"{where}: {name} = {limit:g} allows everything: it is a share of 1", hint=hint)
