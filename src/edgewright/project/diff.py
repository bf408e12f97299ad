"""Two releases compared, timed here if asked, and written in every form a build server reads."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from edgewright.errors import ToolchainMissing, UsageError
from edgewright.store.files import write_atomic

if TYPE_CHECKING:
    from edgewright.search.release import Release, ReleaseDiff, Shipped, Timed, Tolerance

LOCAL = "local"
"""Name of the machine that measures itself."""
NO_BUNDLES = "not timed here: a bundle is missing"


@dataclass(frozen=True, slots=True)
class Timing:
    """How both releases are timed here.

    Attributes:
        seconds: Limit per target.
        progress: Told how far it is.
    """

    seconds: float
    progress: Callable[[float, str], None] = lambda fraction, note: None


def diff(
    old: Path, new: Path, tolerance: Tolerance, *, targets: Sequence[str] = (), timing: Timing | None = None
) -> ReleaseDiff:
    """Compares two releases.

    Args:
        old: See `edgewright.search.release.read_release`.
        new: The same.
        tolerance: How much worse the new one may be.
        targets: Only these; all by default.
        timing: Time both in turn on this machine, where their bundles are there and can be opened.

    Raises:
        UsageError: A release or a target is not there.
        Corrupt: One of them is damaged.
        StepFailed: An artifact does not run here although its runtime is installed.
    """
    from edgewright.search.release import compare, read_release

    before, after = (_only(read_release(path), targets) for path in (old, new))
    if targets and not after.shipped and not before.shipped:
        raise UsageError(f"neither release has {', '.join(targets)}", hint="name a target of the project")
    timed: dict[str, Timed | str] = {}
    if timing is not None:
        shared = [target for target in after.shipped if target in before.shipped]
        timed = {target: _timed(before.shipped[target], after.shipped[target], timing) for target in shared}
    return replace(compare(before, after, tolerance, timed), old=_named(old, new), new=_named(new, old))


def _only(release: Release, targets: Sequence[str]) -> Release:
    if not targets:
        return release
    return replace(release, shipped={name: found for name, found in release.shipped.items() if name in targets})


def _timed(old: Shipped, new: Shipped, timing: Timing) -> Timed | str:
    from edgewright.search.release import time_in_turn

    reason = _not_here(old) or _not_here(new)
    if reason:
        return f"not timed here: {reason}"
    if old.bundle is None or new.bundle is None:
        return NO_BUNDLES
    try:
        return time_in_turn(old.bundle, new.bundle, seconds=timing.seconds, progress=timing.progress)
    except ToolchainMissing as error:
        return f"not timed here: {error.message}"


def _not_here(shipped: Shipped) -> str:
    """Says why this machine's clock would tell nothing about a target; empty where it would."""
    if shipped.quality is not None and shipped.quality.stand_in:
        return f"{shipped.target} does not run on this machine"
    return "" if shipped.device.name == LOCAL else f"{shipped.target} was measured on {shipped.device.name}"


def _named(path: Path, other: Path) -> str:
    """Returns a name that tells two releases apart."""
    return path.name if path.name != other.name else str(path)


def write_views(
    found: ReleaseDiff, *, html: Path | None = None, junit: Path | None = None, markdown: Path | None = None
) -> None:
    """Writes the views asked for, each whole or not at all.

    Raises:
        ToolchainMissing: jinja2 is not installed, and a page is wanted.
    """
    if junit is not None:
        from edgewright.report.release_junit import diff_junit

        write_atomic(junit, diff_junit(found))
    if markdown is not None:
        from edgewright.report.release_text import diff_markdown

        write_atomic(markdown, diff_markdown(found).encode())
    if html is not None:
        from edgewright.report.release_html import diff_html

        write_atomic(html, diff_html(found).encode())
