"""The study as Markdown, for the summary of a build job and the note on a merge request."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from edgewright.core.recipe import Study
from edgewright.report.rows import row
from edgewright.report.standings import headline

_ESCAPED = str.maketrans({c: f"\\{c}" for c in "\\`*_[]<>|~"} | {"\n": " ", "\r": " "})


def study_markdown(study: Study) -> str:
    """Returns one table of the winners, and why each one does or does not meet the budget."""
    targets = tuple(dict.fromkeys(c.target for c in study.candidates))
    lines = [f"## {escaped(study.project)}: {_outcome(study, targets)}", ""]
    won = [target for target in targets if target in study.winners]
    if won:
        header = ("target", "winner", "quality", "change (95%)", "speed-up (95%)", "size", "memory", "budget")
        lines += [*table(header, [_cells(study, target) for target in won]), ""]
    lines += [f"- **{escaped(target)}**: {escaped(_why(study, target))}" for target in targets]
    if study.standings:
        lines += ["", escaped(headline(study)) + "."]
    if study.warnings:
        lines += ["", *(f"> {escaped(warning)}" for warning in study.warnings)]
    return "\n".join(lines) + "\n"


def _outcome(study: Study, targets: Sequence[str]) -> str:
    failed = [target for target in targets if not study.met.get(target, False)]
    return f"the budget is not met on {escaped(', '.join(failed))}" if failed else "every target meets the budget"


def _cells(study: Study, target: str) -> tuple[str, ...]:
    found = row(study, study.best(target), study.of_target(target))
    met = "met" if study.met.get(target, False) else "**not met**"
    change, speed = f"{found.drop} ({found.drop_interval})", f"{found.speedup} ({found.speedup_interval})"
    shown = (found.title, f"{found.quality} on {found.split}", change, speed, found.size, found.memory)
    return (escaped(target), *map(escaped, shown), met)


def _why(study: Study, target: str) -> str:
    if target in study.winners:
        return study.best(target).why
    return "no candidate ran: " + "; ".join(f"{c.recipe.title}: {c.why or c.error}" for c in study.of_target(target))


def table(header: Sequence[str], cells: Iterable[Sequence[str]]) -> list[str]:
    """Returns the lines of a table; its cells are Markdown already."""
    return [_line(header), _line(["---"] * len(header)), *map(_line, cells)]


def _line(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"


def escaped(text: str) -> str:
    """Returns text that Markdown shows as it is: a label that looks like markup stays text."""
    return text.translate(_ESCAPED)
