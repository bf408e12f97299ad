"""The winners of all targets beside the best of all: terminal, HTML and JSON."""

from __future__ import annotations

import json
from dataclasses import replace
from xml.etree import ElementTree as ET

import pytest
from rich.console import Console

from edgewright.core.measurement import Ratio
from edgewright.core.recipe import Standing, Study
from edgewright.report.evidence import NoEvidence
from edgewright.report.html import report_html
from edgewright.report.json_report import report_json
from edgewright.report.junit import junit_xml
from edgewright.report.standings import headline, standing_rows
from edgewright.report.tables import print_study


@pytest.fixture
def compared(keywords: Study) -> Study:
    first, second = list(keywords.winners)[:2]
    return replace(
        keywords,
        standings=(
            Standing(first, keywords.winners[first], True, Ratio(1.0, 1.0, 1.0), "timed side by side"),
            Standing(second, keywords.winners[second], False, Ratio(1.34, 1.31, 1.37), "timed side by side"),
        ),
    )


def test_terminal_and_html_show_the_advantage_with_its_interval(compared: Study) -> None:
    console = Console(width=140, record=True, file=None)
    with console.capture() as seen:
        print_study(compared, console)
    page = report_html(compared, NoEvidence())
    for text in (seen.get(), page):
        assert "onnxruntime is the best: 1.34x the speed of openvino, whose best breaks the budget" in text
        assert "1.34x" in text
        assert "1.31 to 1.37" in text
    assert "width:74.6%" in page


def test_json_holds_the_standings(compared: Study) -> None:
    study = json.loads(report_json(compared))["study"]
    assert [(s["target"], s["advantage"]["value"]) for s in study["standings"]] == [
        ("onnxruntime", 1.0),
        ("openvino", 1.34),
    ]


def test_a_build_server_sees_them_as_properties(compared: Study) -> None:
    found = {
        suite.get("name"): {p.get("name"): p.get("value") for p in suite.iter("property")}
        for suite in ET.fromstring(junit_xml(compared)).iter("testsuite")
    }
    assert found["onnxruntime"]["beside the best of all"] == "the best"
    assert found["openvino"]["beside the best of all"] == "1.34x (95% 1.31 to 1.37, timed side by side)"
    assert "beside the best of all" not in found["null"]


def test_words_follow_the_objective(compared: Study) -> None:
    size = replace(compared, objective="size")
    assert "smaller by 1.34x than openvino" in headline(size)
    even = replace(
        compared, standings=(compared.standings[0], replace(compared.standings[1], advantage=Ratio(1.01, 0.98, 1.03)))
    )
    assert "1.01x the speed of openvino, a difference within the noise" in headline(even)


def test_one_target_shows_nothing(keywords: Study) -> None:
    assert standing_rows(keywords) == ()
    assert headline(keywords) == ""
    assert 'id="standings"' not in report_html(keywords, NoEvidence())
