"""The comparison of two releases as text, Markdown, JUnit and a page: the same verdicts, and names stay text."""

from __future__ import annotations

import io
import re
from dataclasses import replace
from html.parser import HTMLParser
from typing import Any
from xml.etree import ElementTree as ET

import pytest
from rich.console import Console

from edgewright.core.decision import Classification, Detections, decision_to_json
from edgewright.report.markdown import study_markdown
from edgewright.report.release_html import axis, diff_html
from edgewright.report.release_junit import diff_junit
from edgewright.report.release_rows import change_rows, changed_sentence, headline
from edgewright.report.release_text import diff_markdown, show_diff
from edgewright.search.release import Change, Finding, Moved, ReleaseDiff, TargetDiff, Tolerance
from edgewright.search.release.values import (
    ALLOWED,
    BYTES,
    MEMORY,
    MILLISECONDS,
    NOISE,
    QUALITY,
    SHARE,
    SIZE,
    SPEED,
    WORSE,
    unknown,
)

EVIL = '<img src=x onerror="alert(1)">|`*_{{7*7}}'


def classified(index: int) -> dict[str, Any]:
    return decision_to_json(Classification((index,), (0.75,)))


def boxes(*classes: int) -> dict[str, Any]:
    return decision_to_json(Detections(((0, 0, 9, 9),) * len(classes), (0.9,) * len(classes), classes))


@pytest.fixture
def diff() -> ReleaseDiff:
    findings = (
        Finding(QUALITY, "top-1 on test", SHARE, 0.9, 0.86, -0.04, -0.07, -0.01, 0.005, WORSE, "paired", "fell", True),
        Finding(SPEED, "time per sample", MILLISECONDS, 1.0, 1.2, 0.2, -0.1, 0.4, 0.1, NOISE, "timed", "may be chance"),
        Finding(SIZE, "size on disk", BYTES, 1000, 1050, 0.05, 0.05, 0.05, 0.1, ALLOWED, "exact", "grew"),
        unknown(MEMORY, "peak memory", BYTES, 0.1, "other machines"),
    )
    changes = (
        Change("right before.png", 0, classified(0), classified(1)),
        Change(EVIL, 1, classified(0), classified(1)),
        Change("neither", 2, classified(0), classified(1)),
        Change("objects", None, boxes(0, 0), boxes(1)),
    )
    moves = (Moved("conv", "int8 on CPU", "float32 on CPU", True, EVIL), Moved("add", "a", "b", False, ""))
    target = TargetDiff("onnxruntime", "int8", EVIL, findings, 80, changes, moves, ("cat", EVIL, "bee"), ("a note",))
    return ReleaseDiff(1, EVIL, "v1", "v2", Tolerance(), (target,), ("litert",), ("openvino",), ())


def test_the_sentences(diff: ReleaseDiff) -> None:
    assert headline(diff) == "v2 is worse than v1: 2 reasons"
    told = changed_sentence(diff.targets[0])
    assert told.startswith("4 of 80 samples are decided differently (5.0%)")
    assert "old is right about 1; new is right about 1" in told
    rows = {row.id: row for row in change_rows(diff.targets[0])}
    assert (rows["right before.png"].old, rows["right before.png"].right) == ("cat (0.75)", "old")
    assert rows[EVIL].right == "new"
    assert rows["objects"].old == "2 cat"
    assert headline(replace(diff, targets=(), gone=())) == "v2 and v1 have no target in common"


def test_a_terminal_shows_every_figure_and_ends_with_the_reasons(diff: ReleaseDiff) -> None:
    out = io.StringIO()
    show_diff(diff, Console(file=out, width=140))
    text = out.getvalue()
    for shown in ("90.0%", "86.0%", "-4.0 points", "1.2 ms", "1.05 kB", "not compared", "may be chance", "a note"):
        assert shown in text
    assert "conv left int8 on CPU for float32 on CPU" in text
    assert "openvino is new" in text
    assert text.rstrip().splitlines()[-3:] == [
        "FAIL litert: the old release has an artifact for it, the new one has none",
        "FAIL onnxruntime: fell",
        "v2 is worse than v1: 2 reasons",
    ]


def test_markdown_keeps_its_tables_whatever_the_names_are(diff: ReleaseDiff) -> None:
    text = diff_markdown(diff)
    assert "- :x: **onnxruntime: fell**" in text
    rows = [line for line in text.splitlines() if line.startswith("|")]
    assert len(rows) == 2 + 4
    assert {len(re.findall(r"(?<!\\)\|", row)) for row in rows} == {8}
    assert "<img" not in text.replace("\\<", "")


def test_junit_fails_what_is_worse_and_skips_what_is_not_known(diff: ReleaseDiff) -> None:
    root = ET.fromstring(diff_junit(diff))
    assert (root.get("tests"), root.get("failures"), root.get("skipped")) == ("5", "2", "1")
    failures = [case.get("message") for case in root.iter("failure")]
    assert failures == ["fell", "the old release has an artifact for it, the new one has none"]


class Page(HTMLParser):
    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.words = ""
        self.links: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.links += [value or "" for name, value in attrs if name in ("src", "href") or name.startswith("on")]

    def handle_data(self, data: str) -> None:
        self.words += data


def test_the_page_is_offline_and_names_stay_text(diff: ReleaseDiff) -> None:
    page = Page(diff_html(diff))
    assert "script" not in page.tags
    assert "img" not in page.tags
    assert page.links == []
    assert page.words.count(EVIL) >= 4
    assert "onnxruntime: fell" in page.words
    better = replace(diff, gone=(), targets=())
    assert "passed" in diff_html(better)


def test_left_is_worse_on_every_axis(diff: ReleaseDiff) -> None:
    quality, speed, size, memory = map(axis, diff.targets[0].findings)
    assert memory is None
    assert quality is not None
    assert speed is not None
    assert size is not None
    assert quality.value < quality.limit < 50
    assert quality.low + quality.width < 50
    assert speed.value < speed.limit < 50 < speed.low + speed.width
    assert size.limit < size.value < 50


def test_the_summary_of_a_study_names_every_target(keywords: Any) -> None:
    text = study_markdown(keywords)
    assert text.startswith("## keyword-spotting: the budget is not met on ")
    assert "**null**: no candidate ran" in text
    rows = [line for line in text.splitlines() if line.startswith("| ")]
    assert {len(re.findall(r"(?<!\\)\|", row)) for row in rows} == {9}
