"""A comparison of two releases as one self-contained HTML page that opens offline; no script."""

from __future__ import annotations

from dataclasses import dataclass
from importlib.resources import files

import edgewright
from edgewright.errors import ToolchainMissing
from edgewright.report.release_rows import (
    ChangeRow,
    FindingRow,
    change_rows,
    changed_sentence,
    finding_rows,
    headline,
)
from edgewright.report.release_text import moved_lines
from edgewright.search.release import Finding, ReleaseDiff, TargetDiff

EXAMPLES = 48
_WIDEST = 0.9
"""Share of half the axis that the farthest point of a row takes."""


@dataclass(frozen=True, slots=True)
class Axis:
    """Where a change lies between worse (left) and better (right), in per cent of the axis; 50 is no change."""

    low: float
    width: float
    value: float
    limit: float


@dataclass(frozen=True, slots=True)
class TargetPage:
    """Everything the page says about one target."""

    diff: TargetDiff
    rows: tuple[tuple[FindingRow, Axis | None], ...]
    changed: str
    changes: tuple[ChangeRow, ...]
    moved: list[str]


def diff_html(diff: ReleaseDiff) -> str:
    """Returns the page; names that look like markup stay text.

    Raises:
        ToolchainMissing: jinja2 is not installed.
    """
    try:
        import jinja2
    except ImportError as error:
        raise ToolchainMissing("the page needs jinja2", hint='pip install "edgewright[build]"') from error
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("edgewright.report"), autoescape=True, undefined=jinja2.StrictUndefined
    )
    css = files("edgewright.report").joinpath("templates/report.css").read_text(encoding="utf-8")
    return environment.get_template("release.html.jinja").render(
        diff=diff,
        headline=headline(diff),
        reasons=tuple(diff.reasons()),
        pages=[_page(target) for target in diff.targets],
        css=css,
        version=edgewright.__version__,
    )


def _page(target: TargetDiff) -> TargetPage:
    rows = tuple(zip(finding_rows(target), map(axis, target.findings), strict=True))
    return TargetPage(target, rows, changed_sentence(target), change_rows(target, EXAMPLES), moved_lines(target))


def axis(found: Finding) -> Axis | None:
    """Places a change with its interval and its limit on an axis whose left is worse; None where nothing is known."""
    if found.change is None or found.low is None or found.high is None:
        return None
    sign = 1.0 if found.higher_is_better else -1.0
    low, high = sorted((sign * found.low, sign * found.high))
    value, limit = sign * found.change, -found.allowed
    reach = max(map(abs, (low, high, value, limit)), default=0.0) or 1.0

    def at(position: float) -> float:
        return round(50 + 50 * _WIDEST * max(-1.0, min(1.0, position / reach)), 2)

    return Axis(at(low), round(max(at(high) - at(low), 0.6), 2), at(value), at(limit))
