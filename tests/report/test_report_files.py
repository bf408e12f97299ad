"""report.json, junit.xml, the flips, the media, the terminal."""

from __future__ import annotations

import io
import json
import math
import wave
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as ET

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from edgewright.core.budget import Budget
from edgewright.core.codec import decode
from edgewright.core.data import PairedDifference, Sample
from edgewright.core.decision import Detections
from edgewright.core.recipe import Study
from edgewright.report import media
from edgewright.report.evidence import NoEvidence, StoredEvidence, sound_rate
from edgewright.report.flips import Flip, f1, iou, matches, select, who_is_right
from edgewright.report.gallery import gallery
from edgewright.report.json_report import report_json
from edgewright.report.junit import junit_xml
from edgewright.report.operators import compare, placement_groups
from edgewright.report.tables import print_study
from edgewright.report.terminal import SearchProgress, duration
from edgewright.search.explain import annotate


def cases(study: Study) -> dict[tuple[str, str], ET.Element]:
    root = ET.fromstring(junit_xml(study))
    return {(s.get("name", ""), c.get("name", "")): c for s in root for c in s.iter("testcase")}


def test_json_holds_the_whole_study(keywords: Study) -> None:
    document = json.loads(report_json(keywords))
    assert document["schema"] == 1
    assert decode(Study, document["study"], "report.json") == keywords


def test_json_stays_json_when_a_metric_gave_nan(keywords: Study) -> None:
    measured = keywords.candidates[0].measurement
    assert measured is not None
    figure = replace(measured.tune.figures[0], value=math.nan, high=math.inf)
    broken = replace(measured, tune=replace(measured.tune, figures=(figure,)))
    study = replace(keywords, candidates=(replace(keywords.candidates[0], measurement=broken),))

    def refuse(word: str) -> None:
        raise AssertionError(word)

    document = json.loads(report_json(study), parse_constant=refuse)
    assert document["study"]["candidates"][0]["measurement"]["tune"]["figures"][0]["value"] is None


def test_junit_has_one_suite_per_target_and_counts_that_add_up(keywords: Study) -> None:
    root = ET.fromstring(junit_xml(keywords))
    assert root.tag == "testsuites"
    assert [suite.get("name") for suite in root] == ["onnxruntime", "openvino", "null"]
    for suite in root:
        found = list(suite.iter("testcase"))
        assert int(suite.get("tests", "")) == len(found)
        assert int(suite.get("failures", "")) == sum(c.find("failure") is not None for c in found)
        assert int(suite.get("skipped", "")) == sum(c.find("skipped") is not None for c in found)
        assert all(c.get("classname") and c.get("name") for c in found)
    for key in ("tests", "failures", "skipped"):
        assert int(root.get(key, "")) == sum(int(suite.get(key, "")) for suite in root)


def test_junit_has_a_case_per_limit_and_fails_where_nothing_ran(keywords: Study) -> None:
    found = cases(keywords)
    assert found["onnxruntime", "quality_drop within 0.01"].find("failure") is None
    assert found["onnxruntime", "worst_class_drop within 0.05"].find("failure") is None
    failure = found["null", "an artifact was made"].find("failure")
    assert failure is not None
    assert "operator Mfcc is not supported" in failure.get("message", "")
    skipped = found["onnxruntime", "every node runs where and how it was planned"].find("skipped")
    assert skipped is not None
    assert "2 of 47 nodes are unplanned" in skipped.get("message", "")


def test_junit_names_the_broken_limit_of_the_nearest(pets: Study) -> None:
    strict = annotate(replace(pets, budget=Budget(size_bytes=1_000_000)))
    failure = cases(strict)["openvino", "size_bytes within 1e+06"].find("failure")
    assert failure is not None
    assert failure.get("message") == "ships 3.8 MB (limit 1 MB)"


def test_junit_fails_when_the_whole_test_interval_lies_beyond_the_limit(pets: Study) -> None:
    name = ("openvino", "test split does not contradict the quality drop")
    assert cases(pets)[name].find("failure") is None
    winner = pets.best("openvino")
    assert winner.measurement is not None
    assert winner.measurement.test is not None
    worse = PairedDifference("mAP50", -0.05, -0.07, -0.03, 1000, "test")
    test = replace(winner.measurement.test, difference=(worse,))
    moved = replace(winner, measurement=replace(winner.measurement, test=test))
    study = replace(pets, candidates=tuple(moved if c.id == moved.id else c for c in pets.candidates))
    failure = cases(study)[name].find("failure")
    assert failure is not None
    assert "-5.0 points on test, 95% -7.0 points to -3.0 points" in failure.get("message", "")


def test_junit_survives_text_that_xml_cannot_hold(keywords: Study) -> None:
    study = replace(keywords, project="a\x00b <&> \x1b[31m")
    assert ET.fromstring(junit_xml(study)).get("name") == "ab <&> [31m"


boxes = st.builds(
    lambda x, y, w, h: (float(x), float(y), float(x + w), float(y + h)),
    *(st.integers(0, 50), st.integers(0, 50), st.integers(1, 40), st.integers(1, 40)),
)
detections = st.lists(st.tuples(boxes, st.integers(0, 2)), max_size=6).map(
    lambda found: Detections(tuple(b for b, _ in found), (0.9,) * len(found), tuple(c for _, c in found))
)


@given(detections, detections)
def test_objects_pair_one_to_one_within_their_class(first: Detections, second: Detections) -> None:
    pairs = matches(first, second)
    assert len({i for i, _ in pairs}) == len({j for _, j in pairs}) == len(pairs)
    assert all(first.classes[i] == second.classes[j] and iou(first.boxes[i], second.boxes[j]) >= 0.5 for i, j in pairs)
    assert 0 <= f1(first, second) <= 1


@given(detections)
def test_a_model_agrees_with_itself(found: Detections) -> None:
    assert f1(found, found) == 1.0
    assert who_is_right(found, found, {"boxes": found.boxes, "classes": found.classes}) == "both"


@given(st.lists(st.sampled_from("aaaabbc"), max_size=40), st.integers(0, 20))
def test_selection_takes_from_every_class_before_any_twice(groups: list[str], limit: int) -> None:
    empty = Detections((), (), ())
    flips = [Flip(str(i), "test", None, empty, empty, group, "unknown") for i, group in enumerate(groups)]
    taken = select(flips, limit)
    assert len(taken) == min(limit, len(flips))
    assert len({f.id for f in taken}) == len(taken)
    counts = [sum(f.group == g for f in taken) for g in set(groups)]
    for group, count in zip(set(groups), counts, strict=True):
        assert count == groups.count(group) or count >= max(counts) - 1


def test_gallery_counts_what_it_does_not_show(keywords: Study, keywords_evidence: Any) -> None:
    found = gallery(keywords, keywords.best("onnxruntime"), keywords_evidence, limit=5)
    assert (found.split, found.compared, found.total, found.shown) == ("test", 300, 13, 5)
    assert dict(found.right) == {"original": 13}
    assert sum(count for _, count, _ in found.groups) <= 13


def test_gallery_marks_the_object_that_the_other_lost(pets: Study, pets_evidence: Any) -> None:
    found = gallery(pets, pets.best("openvino"), pets_evidence)
    lost = next(i for _, _, items in found.groups for i in items if i.id == "photo-0.jpg")
    assert [(b.text, b.loose) for b in lost.before.boxes] == [("cat 0.88", False), ("dog 0.71", True)]
    assert (lost.after.text, lost.right, lost.media.kind) == ("1 cat", "original", "picture")


def test_gallery_without_evidence_says_so(keywords: Study) -> None:
    found = gallery(keywords, keywords.best("openvino"), NoEvidence())
    assert found.total == 0
    assert found.note == "The outcomes per sample are no longer in the store."


def test_gallery_of_damaged_outcomes_says_so(keywords: Study, keywords_evidence: Any) -> None:
    winner = keywords.best("openvino")
    (keywords_evidence.file(winner, "test-outcomes") / "outcomes.json").write_text("[{")
    assert gallery(keywords, winner, keywords_evidence).note.startswith("The outcomes cannot be read")


def test_samples_in_data_order_cost_one_pass() -> None:
    class Stream:
        read = 0

        def __len__(self) -> int:
            return 100

        def __iter__(self) -> Iterator[Sample]:
            for i in range(100):
                Stream.read += 1
                yield Sample(str(i), i)

    stream = Stream()
    evidence = StoredEvidence(lambda digest: None, lambda split: stream)
    wanted = [evidence.sample("test", str(i)) for i in range(0, 100, 10)]
    assert [s.value for s in wanted if s] == list(range(0, 100, 10))
    assert Stream.read <= 100
    assert evidence.sample("test", "3") is not None
    assert evidence.sample("test", "absent") is None


def test_sound_rate_is_read_from_the_preprocessing() -> None:
    assert sound_rate([{"op": "decode", "sample_rate": 8000}, {"op": "mfcc", "sample_rate": 1}]) == 8000
    assert sound_rate([{"op": "resize"}]) is None


def test_int16_row_becomes_a_playable_wav() -> None:
    samples = (1000 * np.sin(np.arange(8000) / 9)).astype(np.int16)
    shown = media.show(samples, 8000)
    assert (shown.kind, shown.text) == ("sound", "1.00 s at 8000 Hz")
    with wave.open(io.BytesIO(decoded(shown.uri))) as file:
        assert file.getframerate() == 8000
        assert np.array_equal(np.frombuffer(file.readframes(9000), "<i2"), samples)


def decoded(uri: str) -> bytes:
    import base64

    return base64.b64decode(uri.split(",", 1)[1])


@pytest.mark.parametrize(
    ("value", "kind"),
    [
        (np.zeros((28, 28), np.uint8), "picture"),
        (np.zeros((1, 28, 28), np.float32), "picture"),
        (np.random.default_rng(0).random((3, 40, 50)), "picture"),
        (np.zeros((8, 8), np.float64), "picture"),
        (np.zeros((128, 6), np.float32), "curves"),
        (np.zeros(16), "curves"),
        (np.zeros(0), "text"),
        (np.full((8, 8), np.nan), "picture"),
        (np.zeros(16000, np.float32), "sound"),
        ("what is my balance?", "text"),
        ("/etc/passwd", "text"),
        (b"\xff\xd8\xff truncated", "text"),
        (b"RIFF\x00\x00\x00\x00WAVEfmt ", "text"),
        (b"nothing known", "text"),
        ({"text": "hello"}, "text"),
        (7, "text"),
    ],
)
def test_every_value_can_be_shown(value: Any, kind: str) -> None:
    assert media.show(value).kind == kind


def test_a_string_is_never_read_as_a_path(tmp_path: Path) -> None:
    secret = tmp_path / "secret.png"
    secret.write_bytes(decoded(media.show(np.zeros((8, 8), np.uint8)).uri))
    assert media.show(str(secret)).kind == "text"
    assert media.show(secret).kind == "picture"


def test_operators_compare_within_a_runtime(keywords: Study) -> None:
    found = compare(keywords, keywords.best("openvino"))
    assert found is not None
    assert found.before.target == "openvino"
    assert found.before_total == pytest.approx(sum(o.microseconds for o in found.before.operators))
    assert sum(row.after or 0 for row in found.rows) == pytest.approx(found.after_total)
    assert sum(row.after_count for row in found.rows) == len(found.after.operators)


def test_placement_groups_cover_every_node(keywords: Study) -> None:
    nodes = keywords.best("onnxruntime").placement
    groups = placement_groups(nodes)
    assert sum(g.count for g in groups) == len(nodes)
    assert sum(g.unplanned for g in groups) == 2
    assert sum(g.share or 0 for g in groups) == pytest.approx(1.0)


@pytest.mark.parametrize("width", [80, 120, 200])
def test_table_shows_every_candidate_with_units(keywords: Study, width: int) -> None:
    out = io.StringIO()
    print_study(keywords, Console(file=out, width=width))
    text = out.getvalue()
    words = " ".join(text.split())
    for candidate in keywords.candidates:
        assert f"{candidate.recipe.title}: " in words
    for needed in ("points", "ms", "1.79x", "39.5 kB", "winner", "broke budget", "measured on local: AMD EPYC 9B45"):
        assert needed in words
    assert "warning: the calibration split has 32 samples" in words
    assert max(map(len, text.splitlines())) <= width


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def test_progress_without_a_terminal_is_plain_lines(keywords: Study) -> None:
    out, clock = io.StringIO(), Clock()
    with SearchProgress(Console(file=out, width=200), clock) as progress:
        progress.phase("search for [bold]openvino[/]")
        progress.candidate_started("INT8 [minmax]", "openvino", 2, 4)
        for second in range(60):
            clock.now += 1
            progress.progress(second / 60, "evaluate")
        progress.candidate_finished(keywords.candidates[2])
    lines = out.getvalue().splitlines()
    assert lines[0] == "search for [bold]openvino[/]"
    assert lines[1] == "[2/4] INT8 [minmax] on openvino"
    assert [line.split("%")[0].strip() for line in lines[2:-1]] == ["23", "48", "73", "98"]
    assert "evaluate, about" in lines[2]
    assert lines[-1].strip().startswith("x INT8 minmax on onnxruntime: top-1 90.4% on test, -1.8 points")
    assert "\x1b" not in out.getvalue()


def test_eta_is_of_the_search_when_its_length_is_known_else_of_the_step() -> None:
    clock = Clock()
    progress = SearchProgress(Console(file=io.StringIO()), clock)
    assert progress.eta() is None
    progress.candidate_started("a", "t", 2, 4)
    clock.now = 30.0
    progress.progress(0.5)
    assert progress.eta() == pytest.approx(50.0)
    progress.candidate_started("b", "t", 3, 0)
    clock.now = 40.0
    progress.progress(0.25)
    assert progress.eta() == pytest.approx(30.0)
    progress.progress(0.1)
    clock.now = 41.0
    progress.progress(0.5)
    assert progress.eta() == pytest.approx(1.0)


def test_progress_on_a_terminal_draws_and_leaves_the_finished_lines(keywords: Study) -> None:
    out = io.StringIO()
    console = Console(file=out, force_terminal=True, width=100)
    with SearchProgress(console) as progress:
        progress.candidate_started("INT8", "openvino", 1, 0)
        progress.progress(0.5, "time")
        progress.candidate_finished(keywords.candidates[0])
    assert "FP32 clean" in out.getvalue()
    assert "\x1b" in out.getvalue()


@pytest.mark.parametrize(
    ("seconds", "text"), [(0, "0 s"), (59.6, "1 min 00 s"), (185, "3 min 05 s"), (4320, "1 h 12 min")]
)
def test_durations(seconds: float, text: str) -> None:
    assert duration(seconds) == text
