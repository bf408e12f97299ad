"""Differences around the model: how its input is prepared, and which output stands for which class."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgewright.measure.why import figures
from edgewright.measure.why.evidence import Convention, LabelOrder
from edgewright.measure.why.thresholds import Thresholds

Array = NDArray[Any]
Table = Mapping[str, Any]
Tables = tuple[Table, ...]
_FACTORS = (255.0, 1 / 255.0, 127.5, 1 / 127.5, 1 / 128.0, 128.0)


def compared_inputs(wanted: Array, found: Array, tables: Tables, thresholds: Thresholds) -> tuple[Convention, ...]:
    """Explains why the same raw samples become two different inputs.

    Args:
        wanted: As the reference's project prepares them, batch first.
        found: As the candidate's project does.
        tables: The reference's preprocessing.
        thresholds: See there.
    """
    if wanted.shape == found.shape and np.allclose(wanted, found, rtol=1e-4, atol=1e-5):
        return ()
    checks = (_layout, _channel_order, _scaled)
    told = [made for check in checks if (made := check(wanted, found, thresholds)) is not None]
    if not told:
        told = [("input scale", 0.3, "the two projects prepare the same samples differently")]
    return tuple(Convention(cause, strength, text, tables) for cause, strength, text in told)


_Told = tuple[str, float, str]


def _layout(wanted: Array, found: Array, thresholds: Thresholds) -> _Told | None:
    """The same numbers in other places, and not merely other channels."""
    if wanted.size != found.size:
        return None
    if wanted.shape != found.shape:
        return "layout", 1.0, f"the shapes are {list(wanted.shape[1:])} and {list(found.shape[1:])}"
    if _is_reversed(wanted, found):
        return None
    one, other = (np.sort(a.reshape(len(a), -1), axis=1) for a in (wanted, found))
    if np.allclose(one, other, rtol=1e-3, atol=1e-4):
        moved = float((~np.isclose(wanted, found, rtol=1e-3, atol=1e-4)).mean())
        return "layout", 1.0, f"the inputs hold the same numbers, {moved:.0%} of them in other places"
    if wanted.ndim == 4 and _fit(wanted, found)[2] < thresholds.fit:
        for axes, name in _turns(wanted):
            if _per_channel_fit(axes, found) >= thresholds.fit:
                return "layout", 0.9, f"the input fits after {name}"
    return None


def _turns(values: Array) -> list[tuple[Array, str]]:
    """Returns other readings of channels-first pictures."""
    count, channels, rows, columns = values.shape
    last = values.transpose(0, 2, 3, 1)
    found = [(last.reshape(count, channels, rows, columns), "reshaping instead of turning it")]
    if rows == columns:
        found.append((values.transpose(0, 1, 3, 2), "swapping rows and columns"))
    return found


def _is_reversed(wanted: Array, found: Array) -> bool:
    return wanted.ndim == 4 and wanted.shape[1] == 3 and np.allclose(wanted[:, ::-1], found, rtol=1e-3, atol=1e-4)


def _channel_order(wanted: Array, found: Array, thresholds: Thresholds) -> _Told | None:
    if wanted.ndim != 4 or wanted.shape != found.shape or 3 not in (wanted.shape[1], wanted.shape[-1]):
        return None
    axis = 1 if wanted.shape[1] == 3 else 3
    straight = _per_channel_fit(wanted, found, axis)
    turned = _per_channel_fit(np.flip(wanted, axis), found, axis)
    if turned >= thresholds.fit > straight:
        return "channel order", 1.0, f"channels reversed explain {turned:.0%} of the input, in order {straight:.0%}"
    return None


def _scaled(wanted: Array, found: Array, thresholds: Thresholds) -> _Told | None:
    if wanted.shape != found.shape:
        return None
    slope, offset, share = _fit(wanted, found)
    axis = 1 if wanted.ndim == 4 else None
    best = _per_channel_fit(wanted, found, axis) if axis else share
    if best < thresholds.fit:
        return None
    lines = [_fit(np.take(wanted, c, axis), np.take(found, c, axis)) for c in range(wanted.shape[axis])] if axis else []
    slopes, offsets = [s for s, _, _ in lines] or [slope], [o for _, o, _ in lines] or [offset]
    spread = float(wanted.std())
    text = f"the candidate's input is {_numbers(slopes)} times the reference's plus {_numbers(offsets)}"
    factor = float(np.median(np.abs(slopes)))
    if max(factor, 1 / max(factor, 1e-9)) > 12:
        return "input scale", 1.0, text
    moved = float(np.abs(offsets).max()) > 0.1 * factor * spread or np.ptp(slopes) > 0.02 * factor
    return ("mean and std", 1.0, text) if moved else ("input scale", 1.0, text)


def _numbers(values: Sequence[float]) -> str:
    same = np.ptp(values) <= 0.01 * max(abs(values[0]), 1e-9)
    return f"{values[0]:.4g}" if same else " / ".join(f"{v:.3g}" for v in values)


def _fit(wanted: Array, found: Array) -> tuple[float, float, float]:
    """Returns slope, offset and the share of the variance of `found` that the line explains."""
    one, other = wanted.reshape(-1).astype(np.float64), found.reshape(-1).astype(np.float64)
    mean, middle = one.mean(), other.mean()
    variance = float(np.square(one - mean).mean())
    slope = float(((one - mean) * (other - middle)).mean() / max(variance, 1e-20))
    left = np.square(other - middle - slope * (one - mean)).mean()
    return slope, float(middle - slope * mean), float(1 - left / max(float(np.square(other - middle).mean()), 1e-20))


def _per_channel_fit(wanted: Array, found: Array, axis: int = 1) -> float:
    if wanted.shape != found.shape:
        return 0.0
    count = wanted.shape[axis]
    return min(_fit(np.take(wanted, c, axis), np.take(found, c, axis))[2] for c in range(count))


def tried_inputs(
    outputs: Callable[[Tables], Array | None],
    wanted: Array,
    tables: Tables,
    thresholds: Thresholds,
) -> tuple[Convention, ...]:
    """Finds the convention of the input that a candidate was made for, by trying others.

    Args:
        outputs: Tables of preprocessing -> what the candidate makes of the samples; None where it cannot take them.
        wanted: The reference's output.
        tables: Of the project.
        thresholds: See there.
    """
    before = _likeness(wanted, outputs(tables))
    if before > 1 - thresholds.agreement:
        return ()
    found = []
    for cause, title, changed in variants(tables):
        after = _likeness(wanted, outputs(changed))
        if after - before > thresholds.agreement and after > 0.75:
            text = f"with {title} the outputs are {after:.0%} like the reference's, as it is {before:.0%}"
            found.append(Convention(cause, after, text, changed))
    return tuple(sorted(found, key=lambda convention: -convention.strength)[:2])


def _likeness(wanted: Array, found: Array | None) -> float:
    """Returns the mean correlation of matching columns, 0 to 1."""
    if found is None or found.shape != wanted.shape:
        return 0.0
    straight = np.diag(figures.correlations(wanted, found))
    errors = figures.columns_db(wanted, found)
    near = 1.0 if errors > 6 else max(0.0, 0.6 + errors / 60)
    return float(np.clip(straight.mean(), 0, 1)) * near


def variants(tables: Tables) -> list[tuple[str, str, Tables]]:
    """Returns cause, title and tables of the conventions worth trying."""
    found: list[tuple[str, str, Tables]] = []
    layout = next((i for i, t in enumerate(tables) if t.get("op") == "layout"), None)
    given = [i for i, t in enumerate(tables) if t.get("op") == "channel-order"]
    if given:
        kept = tuple(t for i, t in enumerate(tables) if i not in given)
        found.append(("channel order", "the colours the other way round", kept))
    elif layout is not None:
        first = 1 if tables and tables[0].get("op") == "decode" else 0
        turn = {"op": "channel-order", "order": "bgr"}
        found.append(("channel order", "BGR", (*tables[:layout], turn, *tables[layout:])))
        if layout > first:
            title = "BGR before anything else"
            found.append(("channel order", title, (*tables[:first], turn, *tables[first:])))
    cast = len(tables) - 1 if tables and tables[-1].get("op") == "cast" else len(tables)
    for factor in _FACTORS:
        scaled = (*tables[:cast], {"op": "scale", "by": factor})
        found.append(("input scale", f"the input times {factor:.6g}", scaled))
    plain = tuple(t for t in tables if t.get("op") != "normalise")
    if len(plain) != len(tables):
        cast_table = {"op": "cast", "dtype": "float32"}
        found.append(("mean and std", "raw pixels", (*plain, cast_table)))
        found.append(("mean and std", "pixels in 0..1", (*plain, {"op": "scale", "by": 1 / 255})))
    return found


def label_order(
    wanted: Array, found: Array, labels: Sequence[str], deployed: Sequence[str], thresholds: Thresholds
) -> LabelOrder | None:
    """Says whether classes are in another order: by the names given, or by what the outputs do.

    Args:
        wanted: The reference's output, one column per class.
        found: The candidate's.
        labels: Names of the reference's project.
        deployed: Names of the candidate's project.
        thresholds: See there.
    """
    alike = (
        figures.correlations(wanted, found) if wanted.shape == found.shape and wanted.ndim == 2 else np.zeros((0, 0))
    )
    best = alike.argmax(1) if alike.size else np.zeros(0, np.int64)
    straight = np.arange(len(best))
    permuted = len(best) > 2 and sorted(best) == list(straight) and not np.array_equal(best, straight)
    if permuted and alike[straight, best].mean() > thresholds.correlation > np.diag(alike).mean() + 0.2:
        moved = int((best != straight).sum())
        names = list(labels) if len(labels) == len(best) else [str(i) for i in straight]
        order = [names[int(np.flatnonzero(best == column)[0])] for column in straight]
        text = (
            f"{moved} of {len(best)} outputs follow another class of the reference (correlation "
            f"{alike[straight, best].mean():.2f}, in order {np.diag(alike).mean():.2f})"
        )
        return LabelOrder(text, tuple(order), float(alike[straight, best].mean()))
    if labels and deployed and tuple(labels) != tuple(deployed) and sorted(labels) == sorted(deployed):
        index = next(i for i, (a, b) in enumerate(zip(labels, deployed, strict=True)) if a != b)
        moved = sum(a != b for a, b in zip(labels, deployed, strict=True))
        text = f'{moved} of {len(labels)} class names differ: {index} is "{labels[index]}" and "{deployed[index]}"'
        return LabelOrder(text, tuple(labels), 1.0)
    return None
