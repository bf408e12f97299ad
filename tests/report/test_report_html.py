"""The page: self-contained, escaped, and alive in a real browser."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from edgewright.core.recipe import Study
from edgewright.core.target import NodePlacement
from edgewright.report import write_report
from edgewright.report.evidence import NoEvidence
from edgewright.report.html import report_html
from edgewright.search.explain import annotate

EVIL = "<script>alert(1)</script><img src=x onerror=alert(2)>\"'--></style>{{7*7}}"
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
FETCHING = {"src", "href", "data", "poster", "srcset", "action", "formaction", "background"}
VOID = {"meta", "link", "img", "br", "input", "hr"}


class Page(HTMLParser):
    """Collects what a browser would act on, and whether every tag is closed."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.scripts: list[dict[str, str | None]] = []
        self.fetched: list[str] = []
        self.handlers: list[str] = []
        self.ids: list[str] = []
        self.anchors: list[str] = []
        self.open: list[str] = []
        self.words: list[str] = []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag not in VOID:
            self.open.append(tag)
        if tag == "script":
            self.scripts.append(dict(attrs))
        for name, value in attrs:
            if name in FETCHING and value is not None:
                (self.anchors if value.startswith("#") else self.fetched).append(value)
            if name.startswith("on"):
                self.handlers.append(name)
            if name == "id" and value:
                self.ids.append(value)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.handle_starttag(tag, attrs)
        if tag not in VOID:
            self.handle_endtag(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open, f"</{tag}> closes nothing"
        assert self.open.pop() == tag, f"</{tag}> does not close what is open"

    def handle_data(self, data: str) -> None:
        if self.open and self.open[-1] not in ("script", "style"):
            self.words.append(data)

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.words).split())


@pytest.fixture
def both(keywords: Study, keywords_evidence: Any) -> Page:
    return Page(report_html(keywords, keywords_evidence))


def test_page_is_well_formed_and_links_inside_itself(both: Page) -> None:
    assert both.open == []
    assert len(both.ids) == len(set(both.ids))
    assert {anchor[1:] for anchor in both.anchors} <= set(both.ids)


def test_nothing_is_fetched_but_what_is_inside(both: Page) -> None:
    assert both.fetched
    assert all(value.startswith("data:") for value in both.fetched)
    assert [s.get("src") for s in both.scripts] == [None, None, None]
    assert both.handlers == []


def test_summary_tables_and_gallery_say_what_was_found(both: Page) -> None:
    for words in (
        "2 of 3 targets meet the budget",
        "loss of top-1 at most 1.0 points",
        "which changes fewer decisions (1.3% against 1.6%)",
        "2 nodes ran otherwise than planned",
        "13 of 300 samples of test got another decision",
        "the original was right",
        "FP32: not tried: operator Mfcc is not supported",
        "measured on local",
        "the calibration split has 32 samples",
        "quantize-static",
        "avx512_vnni",
    ):
        assert words in both.text, words


def test_every_timed_row_says_how_it_was_measured(keywords: Study) -> None:
    timing = keywords.candidates[0].measurement.timing  # type: ignore[union-attr]
    emulated = replace(keywords.candidates[0].measurement, timing=replace(timing, basis="emulated"))  # type: ignore
    study = replace(
        keywords, candidates=(replace(keywords.candidates[0], measurement=emulated),), fronts={}, winners={}
    )
    text = Page(report_html(study, NoEvidence())).text
    assert "emulated test, n=1000" in text


def test_untrusted_text_stays_text(keywords: Study, keywords_evidence: Any) -> None:
    node = NodePlacement(EVIL, EVIL, EVIL, EVIL, (), False, 0.5, EVIL)
    first = replace(keywords.candidates[3], placement=(node,), error=EVIL)
    study = replace(
        keywords,
        project=EVIL,
        labels=(EVIL,) * len(keywords.labels),
        warnings=(EVIL,),
        source={EVIL: EVIL},
        tools={EVIL: EVIL},
        candidates=tuple(first if c.id == first.id else c for c in keywords.candidates),
    )
    recipe = replace(first.recipe, title=EVIL)
    study = replace(study, candidates=tuple(replace(c, recipe=recipe) if c is first else c for c in study.candidates))
    text = report_html(annotate(study), keywords_evidence)
    page = Page(text)
    assert len(page.scripts) == 3
    assert page.handlers == []
    assert all(value.startswith("data:") for value in page.fetched)
    assert "<script>alert" not in text
    assert "<img src=x" not in text
    assert EVIL.partition("{{")[0] in "".join(page.words)
    plots = re.search(r'<script type="application/json" id="plots">(.*?)</script>', text, re.S)
    assert plots is not None
    hovers = [t for p in json.loads(plots[1]).values() for trace in p["data"] for t in trace.get("text", [])]
    assert hovers
    assert all("<script" not in hover and "<img" not in hover for hover in hovers)


def test_written_files_are_whole_and_nothing_else_is_left(keywords: Study, tmp_path: Path) -> None:
    out = tmp_path / "deep" / "out"
    write_report(keywords, NoEvidence(), out)
    assert sorted(p.name for p in out.iterdir()) == ["junit.xml", "report.html", "report.json", "summary.md"]
    first = (out / "report.html").read_bytes()
    write_report(keywords, NoEvidence(), out)
    assert (out / "report.html").read_bytes() == first
    assert first.rstrip().endswith(b"</html>")


def browse(page: Path, profile: Path) -> tuple[str, list[str], list[str]]:
    """Loads a page; returns the document after its scripts ran, what it asked the network for, and its complaints.

    Chromium itself calls home whatever its flags, so a request counts when a page is its initiator; none can succeed.
    """
    assert CHROMIUM is not None
    log = profile.with_suffix(".net.json")
    flags = "--headless --no-sandbox --disable-gpu --disable-background-networking --disable-component-update"
    command = [
        *(CHROMIUM, *flags.split(), "--disable-sync", "--no-first-run", f"--user-data-dir={profile}"),
        *("--virtual-time-budget=8000", "--host-resolver-rules=MAP * ~NOTFOUND", "--enable-logging=stderr"),
        *(f"--log-net-log={log}", "--dump-dom", page.as_uri()),
    ]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True)
    events = json.loads(log.read_text(errors="replace"))["events"]
    requests = [event["params"] for event in events if "initiator" in event.get("params", {})]
    asked = [r["url"] for r in requests if r["initiator"] != "not an origin" and not r["url"].startswith("file:")]
    return done.stdout, asked, [line for line in done.stderr.splitlines() if "CONSOLE" in line]


@pytest.mark.slow
@pytest.mark.skipif(CHROMIUM is None, reason="no chromium here")
def test_browser_draws_the_plots_and_asks_the_network_for_nothing(
    keywords: Study, keywords_evidence: Any, tmp_path: Path
) -> None:
    study = replace(keywords, labels=(EVIL, *keywords.labels[1:]))
    write_report(study, keywords_evidence, tmp_path)
    document, asked, complaints = browse(tmp_path / "report.html", tmp_path / "profile")
    # Two plots for each of the two targets that ran.
    drawn = re.findall(r'<div class="plot js-plotly-plot" id="(target-\d-\w+)"', document)
    assert sorted(drawn) == ["target-0-latency", "target-0-size", "target-1-latency", "target-1-size"]
    assert len(re.findall(r'<svg class="main-svg"', document)) >= len(drawn)
    # The original and five timed candidates, then the original and three, on two plots each.
    assert len(re.findall(r'class="point[ "]', document)) == 2 * (6 + 4)
    assert asked == []
    assert complaints == []
    assert "<script>alert" not in document


@pytest.mark.slow
@pytest.mark.skipif(CHROMIUM is None, reason="no chromium here")
def test_browser_check_sees_a_request_and_the_policy_stops_a_script(keywords: Study, tmp_path: Path) -> None:
    text = report_html(keywords, NoEvidence())
    stranger = '<img src="http://stranger.test/x.png"><script>document.title = "taken"</script>'
    open_page, shut_page = tmp_path / "open.html", tmp_path / "shut.html"
    shut_page.write_text(text.replace("</main>", f"{stranger}</main>"))
    open_page.write_text(re.sub(r"<meta http-equiv.*?>", "", shut_page.read_text(), count=1))
    document, asked, _ = browse(open_page, tmp_path / "open")
    assert asked == ["http://stranger.test/x.png"] * len(asked) != []
    assert "<title>taken" in document
    document, asked, complaints = browse(shut_page, tmp_path / "shut")
    assert asked == []
    assert "<title>taken" not in document
    assert len(complaints) == 2
