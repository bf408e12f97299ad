"""A comparison of two releases on a terminal and as Markdown."""

from __future__ import annotations

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table
from rich.text import Text

from edgewright.report.markdown import escaped, table
from edgewright.report.release_rows import ChangeRow, change_rows, changed_sentence, finding_rows, headline
from edgewright.search import wording
from edgewright.search.release import ReleaseDiff, TargetDiff
from edgewright.search.release.values import ALLOWED, BETTER, NOISE, WORSE

_STYLES = {WORSE: "bold red", NOISE: "yellow", ALLOWED: "yellow", BETTER: "green"}
_HEADER = ("", "old", "new", "change", "95%", "allowed", "verdict")
_MOVED = 10
_EXAMPLES = 5


def show_diff(diff: ReleaseDiff, console: Console | None = None) -> None:
    """Prints a table per target, what else differs, and the reasons for failing last."""
    console = console or Console()
    for target in diff.targets:
        console.print(_table(target))
        for line in _lines(target):
            console.print(Text(line, style="dim"), soft_wrap=True)
    for note in _notes(diff):
        console.print(Text(f"note: {note}", style="yellow"), soft_wrap=True)
    for reason in diff.reasons():
        console.print(Text(f"FAIL {reason}", style="bold red"), soft_wrap=True)
    console.print(Text(headline(diff), style="bold"), soft_wrap=True)


def _table(target: TargetDiff) -> Table:
    same = target.old if target.old == target.new else f"{target.old} -> {target.new}"
    title = Text(f"{target.target}: {same}", style="bold")
    made = Table(title=title, title_justify="left", box=SIMPLE_HEAD, pad_edge=False)
    for name in _HEADER:
        made.add_column(name, overflow="fold", justify="left" if name in ("", "verdict") else "right")
    for row in finding_rows(target):
        verdict = Text(row.word, style=_STYLES.get(row.verdict, ""))
        made.add_row(row.name, row.old, row.new, row.change, row.interval, row.allowed, verdict)
    return made


def _lines(target: TargetDiff) -> list[str]:
    """Says what a table cannot: why a figure is missing, nodes that moved, decisions that changed."""
    lines = [row.sentence for row in finding_rows(target) if row.verdict == NOISE or row.old == "-"]
    lines += [f"note: {note}" for note in target.notes]
    lines += moved_lines(target)
    changed = changed_sentence(target)
    return lines + ([changed] if changed else []) + [f"  {change_line(c)}" for c in change_rows(target, _EXAMPLES)]


def moved_lines(target: TargetDiff) -> list[str]:
    """Returns a sentence per node that left integers or the accelerator, and one that counts the other moves."""
    left = [each for each in target.moved if each.left]
    lines = [f"{m.node} left {m.old} for {m.new}{f': {m.why}' if m.why else ''}" for m in left[:_MOVED]]
    if len(left) > _MOVED:
        lines.append(f"{wording.plural(len(left) - _MOVED, 'more node')} left integers or the accelerator")
    others = len(target.moved) - len(left)
    if others:
        lines.append(f"{wording.plural(others, 'node')} moved to another precision or place without leaving those")
    return lines


def change_line(change: ChangeRow) -> str:
    """Returns one sample in one line."""
    label = "" if change.label == "-" else f" ({change.label})"
    right = "" if change.right == "unknown" else f", right: {change.right}"
    return f"{change.id}{label}: {change.old} -> {change.new}{right}"


def _notes(diff: ReleaseDiff) -> list[str]:
    added = [f"{target} is new: there is nothing to compare it with" for target in diff.added]
    return [*diff.notes, *added]


def diff_markdown(diff: ReleaseDiff) -> str:
    """Returns the comparison for the summary of a build job or the note on a merge request."""
    lines = [f"## {escaped(diff.project)}: {escaped(headline(diff))}", ""]
    lines += [f"- :x: **{escaped(reason)}**" for reason in diff.reasons()]
    for target in diff.targets:
        lines += ["", *_section(target)]
    notes = _notes(diff)
    return "\n".join([*lines, *(["", *(f"> {escaped(note)}" for note in notes)] if notes else [])]) + "\n"


def _section(target: TargetDiff) -> list[str]:
    rows = finding_rows(target)
    cells = [tuple(map(escaped, (r.name, r.old, r.new, r.change, r.interval, r.allowed, r.word))) for r in rows]
    lines = [f"### {escaped(target.target)}: {escaped(target.old)} → {escaped(target.new)}", ""]
    lines += [*table(("figure", *_HEADER[1:]), cells), ""]
    lines += [f"- {escaped(row.sentence)}" for row in rows if row.old == "-" or row.verdict == NOISE]
    lines += [f"- {escaped(note)}" for note in (*target.notes, *moved_lines(target))]
    changed = changed_sentence(target)
    return [
        *lines,
        *([f"- {escaped(changed)}"] if changed else []),
        *(f"  - {escaped(change_line(c))}" for c in change_rows(target, _EXAMPLES)),
    ]
