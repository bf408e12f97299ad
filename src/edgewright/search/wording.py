"""Figures as a reader wants them: units, points, and no more digits than are known."""

from __future__ import annotations

from edgewright.core.data import QualityFigure
from edgewright.core.recipe import Candidate

SHARES = ("top-", "f1", "roc-auc", "roc auc", "eer", "tar@", "map", "miou", "iou", "accuracy", "agreement")
PRECISIONS = {"float32": "FP32", "float16": "FP16", "bfloat16": "BF16", "int8": "INT8", "uint8": "INT8"}
_SIZES = ((1e9, "GB"), (1e6, "MB"), (1e3, "kB"))


def is_share(metric: str, value: float, higher_is_better: bool = True) -> bool:
    """True when a metric runs from 0 to 1, so that a hundredth of it is "a point".

    Known names decide; for another metric a value inside [0, 1] that is better when higher is taken as a share.
    """
    if metric.lower().startswith(SHARES):
        return True
    return higher_is_better and 0.0 <= value <= 1.0


def figure_is_share(figure: QualityFigure) -> bool:
    """Tells the same for a whole figure, its interval included."""
    return is_share(figure.metric, figure.value, figure.higher_is_better)


def quality(value: float, share: bool) -> str:
    """Returns `90.3%` for a share, else four significant digits."""
    return f"{100 * value:.1f}%" if share else f"{value:.4g}"


def difference(value: float, share: bool) -> str:
    """Returns a signed difference: `-0.2 points` for a share, else `+0.0123`."""
    shown = f"{100 * value:+.1f} points" if share else f"{value:+.3g}"
    return shown.replace("-0.0 points", "0.0 points").replace("+0.0 points", "0.0 points")


def amount(value: float, share: bool, beside: float | None = None) -> str:
    """Returns an unsigned difference: `28.3 points`, or `0.0123`.

    Args:
        value: The difference.
        share: Whether it is shown in points.
        beside: A limit it will be read beside: as many digits are shown as it takes to tell the two apart.
    """
    if not share:
        return f"{value:.3g}" if beside is None or f"{value:.3g}" != f"{beside:.3g}" else f"{value:.6g}"
    digits = 1
    while beside is not None and digits < 4 and f"{100 * value:.{digits}f}" == f"{100 * beside:.{digits}f}":
        digits += 1
    if 0 < abs(value) < 0.01:
        digits = max(digits, 2)
    return f"{100 * value:.{digits}f} points"


def size(count: float) -> str:
    """Returns bytes as kB, MB or GB (powers of 1000)."""
    for unit, name in _SIZES:
        if count >= unit:
            return f"{count / unit:.3g} {name}" if count / unit < 100 else f"{count / unit:.0f} {name}"
    return f"{count:.0f} B"


def milliseconds(value: float) -> str:
    """Returns three significant digits with the unit."""
    return f"{value:.3g} ms" if value < 100 else f"{value:.0f} ms"


def speed(value: float) -> str:
    """Returns a ratio of speeds: `1.62x`."""
    return f"{value:.2f}x"


def share(value: float) -> str:
    """Returns a share of samples in per cent."""
    return f"{100 * value:.1f}%"


def plural(count: int, noun: str) -> str:
    """Returns `1 thread`, `2 threads`."""
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"


def precision(name: str) -> str:
    """Returns the name of the field: INT8, BF16..."""
    return PRECISIONS.get(name, name)


def title(candidate: Candidate, among: tuple[Candidate, ...]) -> str:
    """Names a candidate; threads and batch are added where `among` holds several settings."""
    name = candidate.recipe.title or str(candidate.recipe)
    settings = []
    if len({c.threads for c in among}) > 1:
        settings.append(plural(candidate.threads, "thread"))
    if len({c.batch for c in among}) > 1:
        settings.append(f"batch {candidate.batch}")
    return f"{name} ({', '.join(settings)})" if settings else name
