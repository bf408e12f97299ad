"""The search on a terminal: what runs now, how far it is and when it ends; plain lines where there is no terminal."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from types import TracebackType

from rich.console import Console, Group
from rich.live import Live
from rich.markup import escape
from rich.progress_bar import ProgressBar
from rich.spinner import Spinner
from rich.table import Table
from rich.text import Text

from edgewright.core.measurement import Measurement
from edgewright.core.recipe import BROKE, DOMINATED, FAILED, MET, REFUSED, Candidate, Study
from edgewright.report.rows import STYLES, reported
from edgewright.search import wording

QUIET_SECONDS = 15.0
LONG_STEP_SECONDS = 20.0
"""A step that takes longer says how long it still takes."""
MARKS = {MET: "+", BROKE: "x", DOMINATED: "-", FAILED: "!", REFUSED: "/"}


class SearchProgress:
    """Observes a search. Use as a context manager; every method may be called at any time in between.

    On a terminal one live block shows phase, candidate, bar and remaining time, and finished candidates scroll
    above it. Elsewhere each event is one line, and a long candidate speaks at most every 15 seconds.

    Args:
        console: Where to write; standard error by default, so that `--json` output stays clean.
        clock: Seconds; replaced in tests.
    """

    def __init__(self, console: Console | None = None, clock: Callable[[], float] = time.monotonic) -> None:
        self._console = console or Console(stderr=True)
        self._clock = clock
        self._started = self._spoke = clock()
        self._phase, self._note, self._title = "starting", "", ""
        self._fraction, self._index, self._total = 0.0, 0, 0
        self._step_started = self._started
        self._live: Live | None = None
        self._spinner = Spinner("dots")

    def __enter__(self) -> SearchProgress:
        self._started = self._spoke = self._step_started = self._clock()
        if self._console.is_terminal:
            self._live = Live(console=self._console, get_renderable=self._block, refresh_per_second=8, transient=True)
            self._live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._live is not None:
            self._live.stop()
            self._live = None

    def phase(self, text: str) -> None:
        """Says what begins: importing, profiling, searching..."""
        self._phase, self._note, self._title = text, "", ""
        self._fraction, self._index, self._total = 0.0, 0, 0
        self._step_started = self._clock()
        self._say(f"[bold]{escape(text)}[/]")

    def candidate_started(self, title: str, target: str, index: int, total: int) -> None:
        """Says which candidate is in work; `index` counts from 1, `total` is 0 while it is not known."""
        self._title, self._note = f"{title} on {target}", ""
        self._index, self._total, self._fraction = index, total, 0.0
        self._step_started = self._clock()
        if self._live is None:
            self._say(f"{self._counted()} {self._title}".strip(), markup=False)

    def progress(self, fraction: float, note: str = "") -> None:
        """Says how far the work at hand is, 0 to 1."""
        if fraction < self._fraction:
            self._step_started = self._clock()
        self._fraction, self._note = min(max(fraction, 0.0), 1.0), note
        if self._live is None and self._clock() - self._spoke >= QUIET_SECONDS:
            self._say(f"  {100 * self._fraction:.0f}% {self._noted()}, {self._left()}", markup=False)

    def candidate_finished(self, candidate: Candidate) -> None:
        """Leaves one line per candidate."""
        self._fraction, self._note = 1.0, ""
        self._console.print(finished_line(candidate), soft_wrap=True)
        self._spoke = self._clock()

    def eta(self) -> float | None:
        """Returns the remaining seconds; None before anything is known.

        Of the whole search where the number of candidates is known, else of the step at hand.
        """
        began = self._started if self._total else self._step_started
        done = self._done()
        return (self._clock() - began) * (1 - done) / done if done > 0.01 else None

    def _done(self) -> float:
        return min((max(self._index - 1, 0) + self._fraction) / self._total, 1.0) if self._total else self._fraction

    def _left(self) -> str:
        eta = self.eta()
        if eta is None:
            return "estimating"
        return f"about {duration(eta)} left" + ("" if self._total else " in this step")

    def _noted(self) -> str:
        """Returns what the step said, and how long it still takes where that is not the whole search: training does."""
        gone = self._clock() - self._step_started
        if not (self._note and self._total and gone > LONG_STEP_SECONDS and 0.01 < self._fraction < 1):
            return self._note
        left = gone * (1 - self._fraction) / self._fraction
        return f"{self._note} ({self._fraction:.0%} of this step, {duration(left)} left)"

    def _counted(self) -> str:
        if self._total:
            return f"[{self._index}/{self._total}]"
        return f"[{self._index}]" if self._index else ""

    def _say(self, text: str, *, markup: bool = True) -> None:
        self._console.print(text, markup=markup, highlight=False, soft_wrap=True)
        self._spoke = self._clock()

    def _block(self) -> Group:
        done = self._done()
        line = Table.grid(padding=(0, 1))
        line.add_row(self._spinner, Text(self._title or self._phase, style="bold"), Text(self._counted(), style="dim"))
        elapsed = duration(self._clock() - self._started)
        status = Table.grid(padding=(0, 1))
        status.add_row(
            Text(" "),
            ProgressBar(total=1.0, completed=done, width=32),
            Text(f"{100 * done:3.0f}%"),
            Text(f"{elapsed} gone, {self._left()}", style="dim"),
        )
        return Group(line, status, Text(f"  {self._noted()}", style="dim", overflow="ellipsis", no_wrap=True))


def show_study(study: Study, console: Console | None = None) -> None:
    """Prints the final tables, one per target."""
    from edgewright.report.tables import print_study

    print_study(study, console)


def show_stages(report: Path, winners: Mapping[str, str], console: Console | None = None) -> None:
    """Prints what every stage of the winners' pipelines did, from a `report.json`; nothing where none was trained."""
    try:
        told = json.loads(report.read_bytes()).get("compression", {})
    except (OSError, ValueError):
        return
    console = console or Console()
    for target, found in told.items():
        for each in (each for each in found if each["id"] == winners.get(target)):
            console.print(Text(f"{target}: how {each['title']} was made", style="bold"))
            for number, stage in enumerate(each["stages"], start=1):
                details = "; ".join(text for text in (stage["did"], stage["quality"]) if text)
                console.print(Text(f"  {number}. {stage['title']}" + (f": {details}" if details else "")))
            if each["sparse"]:
                console.print(Text(f"  {each['sparse']['text']}"))
            console.print()


def duration(seconds: float) -> str:
    """Returns `42 s`, `3 min 05 s` or `1 h 12 min`."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02d} s"
    return f"{whole // 3600} h {whole % 3600 // 60:02d} min"


def finished_line(candidate: Candidate) -> Text:
    """Says in one line how a candidate fared, before all are compared."""
    style = STYLES.get(candidate.verdict, "")
    text = Text("  ").append(MARKS.get(candidate.verdict, " "), style=style)
    text.append(f" {candidate.recipe.title}", style="bold").append(f" on {candidate.target}: ", style="dim")
    if candidate.measurement is None:
        reason = (candidate.why or candidate.error or "not measured").splitlines()[0]
        return text.append(f"{candidate.verdict}: {reason}", style=style)
    text.append(", ".join(_figures(candidate.measurement)))
    if candidate.violations:
        text.append(f"  breaks {'; '.join(v.limit for v in candidate.violations)}", style=style)
    return text


def _figures(measurement: Measurement) -> list[str]:
    quality = reported(measurement)
    figure = quality.figures[0]
    share = wording.figure_is_share(figure)
    found = [f"{figure.metric} {wording.quality(figure.value, share)} on {figure.split}"]
    if quality.difference:
        found.append(wording.difference(quality.difference[0].value, share))
    if measurement.timing is not None:
        timing = measurement.timing
        found.append(f"{wording.milliseconds(timing.latency_ms.p50)} p50, {wording.speed(timing.speedup.value)}")
    elif measurement.size is not None:
        found.append(f"{wording.size(measurement.size)}, unproven: it does not run here")
    return found
