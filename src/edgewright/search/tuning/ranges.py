"""Values that may vary: `{low = 0.3, high = 0.7}` or `{choices = [1, 2, 4]}` instead of a plain value. Pure."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from edgewright.core.codec import unknown_key
from edgewright.errors import ConfigError

Path = tuple[str | int, ...]
"""Keys and indices that lead from the top of plain values to one of them."""
Plain = bool | int | float | str | None
_KEYS = ("low", "high", "log", "step")
_HINT = "write {low = 0.3, high = 0.7}, with log = true for rates, or {choices = [1, 2, 4]}"


@dataclass(frozen=True, slots=True)
class Span:
    """Numbers between two.

    Attributes:
        low: The smallest.
        high: The largest, included.
        log: Equal ratios are equally likely, not equal differences.
        step: Distance between values; None for any number (1 between integers).
    """

    low: int | float
    high: int | float
    log: bool = False
    step: int | float | None = None

    @property
    def whole(self) -> bool:
        """True where only integers are meant."""
        return all(isinstance(value, int) for value in (self.low, self.high, self.step) if value is not None)


@dataclass(frozen=True, slots=True)
class Choices:
    """One of several values."""

    choices: tuple[Plain, ...]


@dataclass(frozen=True, slots=True)
class Parameter:
    """One value that may vary.

    Attributes:
        name: As tables show it: `prune.latency`; of several equal passes `distill-2.epochs`.
        path: Where it stands.
        range: What it may be.
    """

    name: str
    path: Path
    range: Span | Choices

    @property
    def example(self) -> Plain:
        """A value it may have."""
        return self.range.choices[0] if isinstance(self.range, Choices) else self.range.low


def parameters(table: Mapping[str, Any], where: str) -> tuple[Parameter, ...]:
    """Finds the ranges in a table as TOML gives it: one of `[[recipes]]`, or `[training]`.

    Raises:
        ConfigError: A range cannot be meant.
    """
    names = {path: _name(table, path) for path, _ in _ranges(table, ())}
    return tuple(Parameter(names[p], p, _range(value, f"{where}: {names[p]}")) for p, value in _ranges(table, ()))


def has_ranges(value: Any) -> bool:
    """Says whether anything in `value` is a range."""
    return next(_ranges(value, ()), None) is not None


def filled(table: Any, values: Mapping[Path, Plain]) -> Any:
    """Returns `table` with plain values where its ranges stand.

    Args:
        table: As TOML gives it.
        values: Path of each parameter -> its value.
    """
    return _filled(table, (), values)


def _filled(value: Any, path: Path, values: Mapping[Path, Plain]) -> Any:
    if path in values:
        return values[path]
    if isinstance(value, Mapping):
        return {key: _filled(item, (*path, key), values) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_filled(item, (*path, index), values) for index, item in enumerate(value)]
    return value


def _ranges(value: Any, path: Path) -> Iterator[tuple[Path, Mapping[str, Any]]]:
    if isinstance(value, Mapping):
        if "choices" in value or {"low", "high"} & set(value):
            yield path, value
        else:
            for key, item in value.items():
                yield from _ranges(item, (*path, key))
    elif isinstance(value, (list, tuple)):
        for index, item in enumerate(value):
            yield from _ranges(item, (*path, index))


def _name(table: Mapping[str, Any], path: Path) -> str:
    """Names a parameter after its pass and field."""
    if path[0] != "passes" or len(path) < 2:
        return ".".join(map(str, path))
    passes: Sequence[Mapping[str, Any]] = table["passes"]
    index = path[1]
    assert isinstance(index, int)
    name = str(passes[index].get("name", "?"))
    alike = [i for i, each in enumerate(passes) if each.get("name") == name]
    number = f"-{alike.index(index) + 1}" if len(alike) > 1 else ""
    return ".".join((f"{name}{number}", *map(str, path[2:])))


def _range(value: Mapping[str, Any], where: str) -> Span | Choices:
    if "choices" in value:
        return _choices(value, where)
    for key in value:
        if key not in _KEYS:
            raise unknown_key(str(key), _KEYS, where)
    low, high, step = (_number(value.get(key), f"{where}: {key}") for key in ("low", "high", "step"))
    log = value.get("log", False)
    if low is None or high is None or not low < high:
        raise ConfigError(f"{where}: low = {low!r}, high = {high!r}", hint=f"two numbers, low below high: {_HINT}")
    if not isinstance(log, bool) or (step is not None and step <= 0):
        hint = "log is true or false, step a number above 0"
        raise ConfigError(f"{where}: log = {log!r}, step = {step!r}", hint=hint)
    if log and (low <= 0 or step is not None):
        hint = "with log = true, low is above 0 and there is no step"
        raise ConfigError(f"{where}: low = {low!r}, step = {step!r}, log = true", hint=hint)
    return Span(low, high, log, step)


def _choices(value: Mapping[str, Any], where: str) -> Choices:
    choices = value["choices"]
    plain = isinstance(choices, (list, tuple)) and len(choices) > 0
    if set(value) != {"choices"} or not plain or not all(isinstance(each, (bool, int, float, str)) for each in choices):
        hint = "numbers, strings or booleans, at least one: {choices = [1, 2, 4]}"
        raise ConfigError(f"{where}: choices = {choices!r}", hint=hint)
    return Choices(tuple(choices))


def _number(value: Any, where: str) -> int | float | None:
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not math.isfinite(value):
        raise ConfigError(f"{where} = {value!r}", hint=f"a number: {_HINT}")
    return value
