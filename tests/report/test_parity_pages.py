"""Pictures of layers: in the report and on the page of a comparison, in a real browser."""

from __future__ import annotations

import re
import shutil
import subprocess
import xml.etree.ElementTree as ET
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from rich.console import Console

from edgewright.core.codec import encode_json
from edgewright.core.parity import EXACT_DB, Histogram, LayerParity, Parity, RangeUse, WeightUse
from edgewright.core.recipe import Study
from edgewright.core.sensitivity import GroupSensitivity, Sensitivity
from edgewright.core.target import NodePlacement
from edgewright.graph.load import load
from edgewright.report.evidence import NoEvidence
from edgewright.report.html import report_html
from edgewright.report.layer_pictures import Pictures, drawing, layers_figure, pictures, sensitivity_figure
from edgewright.report.parity_html import covering, parity_html, write_parity_page
from edgewright.report.parity_text import decibels, parity_table, worst

EVIL = "<script>alert(1)</script>"
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
SEEN = Histogram(0.0, 4.0, (100, 0, 10, 1))


def layer(tensor: str, node: str, total: float, own: float | None, **more: Any) -> LayerParity:
    values: dict[str, Any] = {
        "tensor": tensor,
        "candidate": tensor,
        "node": node,
        "op": "Conv",
        "sqnr_db": total,
        "local_sqnr_db": own,
        "cosine": 0.99,
        "largest_error": 0.1,
        "low": 0.0,
        "high": 4.0,
        "candidate_low": 0.0,
        "candidate_high": 3.0,
        "range": RangeUse("uint8", 0.0, 3.0, 0.05, 0.0, 3 / 255),
        "precision": "int8",
        "values": SEEN,
        "candidate_values": SEEN,
        "weights": WeightUse("w", "int8", (0.01, 0.02), -1.0, 1.0, 41.0, Histogram(-1.0, 1.0, (1, 5, 1))),
        "pairs": ((0.0, 0.0), (2.0, 2.1)),
    }
    return LayerParity(**(values | more))


@pytest.fixture
def parity() -> Parity:
    layers = (
        layer("r0", "relu0", 30.0, 30.0),
        layer(EVIL, "relu1", 8.0, 9.0),
        layer("y", "dense", EXACT_DB, EXACT_DB, range=None, weights=None),
    )
    return Parity("float", "int8", 16, layers, (replace(layers[2], local_sqnr_db=None),), {"c0": "fused"}, {"a": "b"})


@pytest.fixture
def model(tmp_path: Path) -> Path:
    nodes = [
        helper.make_node("Conv", ["x", "w"], ["c0"], "conv0"),
        helper.make_node("Relu", ["c0"], ["r0"], "relu0"),
        helper.make_node("QuantizeLinear", ["r0", "s", "z"], ["q"], "Q"),
        helper.make_node("DequantizeLinear", ["q", "s", "z"], ["d"], "D"),
        helper.make_node("Relu", ["d"], ["r1"], "relu1"),
        helper.make_node("Flatten", ["r1"], ["y"], "dense"),
    ]
    constants = {"w": np.ones((2, 2, 1, 1), np.float32), "s": np.float32(0.1), "z": np.uint8(0)}
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 2, 4, 4])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, 32])],
        [numpy_helper.from_array(np.asarray(v), k) for k, v in constants.items()],
    )
    path = tmp_path / "hub" / "model.onnx"
    path.parent.mkdir()
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), path)
    return path


def test_the_worst_are_those_that_add_most(parity: Parity) -> None:
    assert worst(parity, 1) == {EVIL}
    assert worst(parity) == {"r0", EVIL}, "an equal layer is never bad"
    without = replace(parity, layers=tuple(replace(x, local_sqnr_db=None) for x in parity.layers))
    assert worst(without, 1) == {EVIL}


@pytest.mark.parametrize(
    ("value", "shown"), [(None, "-"), (EXACT_DB, "equal"), (-EXACT_DB, "none"), (12.34, "12.3"), (-3.0, "-3.0")]
)
def test_decibels(value: float | None, shown: str) -> None:
    assert decibels(value) == shown


def test_table_marks_the_worst_and_names_what_is_missing(parity: Parity) -> None:
    console = Console(record=True, width=200, highlight=False)
    parity_table(parity, console)
    text = console.export_text()
    assert re.search(r"! <script>alert\(1\)</script>\s+Conv\s+int8\s+8\.0\s+9\.0\s+0\.9900", text)
    assert "5.0%" in text
    assert "not compared, 1 (c0): fused" in text


def test_error_figure_leaves_a_gap_where_layers_are_equal(parity: Parity) -> None:
    total, own = layers_figure(parity)["data"]
    assert (total["y"], own["y"]) == ([30.0, 8.0, None], [30.0, 9.0, None])
    assert EVIL not in str(total["text"])


def test_equal_layers_need_no_figure(parity: Parity) -> None:
    assert not Pictures(parity=parity).exact
    equal = replace(parity, layers=parity.layers[2:])
    assert Pictures(parity=equal).exact
    assert not Pictures(parity=replace(parity, layers=())).exact
    assert not Pictures().exact


def test_histogram_with_its_range() -> None:
    found = ET.fromstring(drawing(SEEN, (-1.0, 3.0)))
    bars, *limits = found.findall("path")
    assert bars.attrib["d"].count("M") == 3, "one bar per bin that is not empty"
    places = [float(mark.attrib["d"].split()[0][1:]) for mark in limits]
    assert places == pytest.approx([0.0, 280 * 4 / 5], abs=0.1)
    tall = [float(h) for h in re.findall(r"v-([\d.]+)h", bars.attrib["d"])]
    assert tall[0] == 90.0
    assert tall[0] > tall[1] > tall[2] > 0


def test_sensitivity_is_drawn_against_time_where_it_is_known() -> None:
    groups = (
        GroupSensitivity(("conv0",), ("r0",), 0.1, 10.0, 0.2, share=0.4, nodes=("conv0", "relu0")),
        GroupSensitivity(("conv1", "conv2"), ("r1",), 0.001, 30.0, 0.02, share=0.1),
    )
    found = Sensitivity("u8s8", 16, groups)
    timed = sensitivity_figure(found, {"conv0": 50.0, "relu0": 3.0, "conv2": 20.0})
    assert timed["data"][0]["x"] == [53.0, 20.0]
    assert timed["data"][0]["y"] == [10.0, 30.0]
    assert "µs" in timed["layout"]["xaxis"]["title"]["text"]
    assert sensitivity_figure(found, {})["data"][0]["x"] == [40.0, 10.0]


def test_nodes_fused_into_a_layer_are_coloured_with_it(parity: Parity, model: Path) -> None:
    assert covering(load(model), parity) == {"conv0": 0, "relu0": 0, "Q": 1, "D": 1, "relu1": 1, "dense": 2}


def with_layers(study: Study, evidence: Any, parity: Parity, model: Path, folder: Path) -> Study:
    """Gives the first winner evidence of its layers."""
    winner = study.best("onnxruntime")
    placement = (NodePlacement("k", "QLinearConv", "CPU", "int8", ("conv0", "relu0")),)
    placed = replace(winner, placement=placement)
    for name in ("parity", "sensitivity"):
        (folder / name).mkdir(parents=True)
    (folder / "parity" / "parity.json").write_bytes(encode_json(parity))
    group = GroupSensitivity(("conv0",), ("r0",), 0.1, 10.0, 0.2)
    (folder / "sensitivity" / "sensitivity.json").write_bytes(encode_json(Sensitivity("u8s8", 4, (group,))))
    for name, place in (
        ("parity", folder / "parity"),
        ("sensitivity", folder / "sensitivity"),
        ("model", model.parent),
    ):
        evidence.folders[winner.id, name] = place
    return replace(study, candidates=tuple(placed if c.id == winner.id else c for c in study.candidates))


@pytest.mark.slow
def test_report_shows_the_layers_of_a_winner(
    keywords: Study, keywords_evidence: Any, parity: Parity, model: Path, tmp_path: Path
) -> None:
    study = with_layers(keywords, keywords_evidence, parity, model, tmp_path / "evidence")
    found = pictures(study, study.best("onnxruntime"), keywords_evidence)
    assert set(found.figures) == {"layers", "sensitivity"}
    assert [h.name for h in found.histograms] == ["r0", EVIL]
    assert found.graph.count("at-int8") == 2
    assert "QuantizeLinear" not in found.graph
    page = report_html(study, keywords_evidence)
    assert 'id="target-0-layers"' in page
    assert 'id="target-0-sensitivity"' in page
    assert "Graph by precision" in page
    assert EVIL not in page
    for name in ("parity", "sensitivity", "model"):
        del keywords_evidence.folders[study.best("onnxruntime").id, name]
    assert 3_000 < len(page) - len(report_html(study, keywords_evidence)) < 30_000


def test_report_without_evidence_has_no_pictures(keywords: Study, tmp_path: Path) -> None:
    assert pictures(keywords, keywords.best("onnxruntime"), NoEvidence()).figures == {}
    assert "Layer by layer" not in report_html(keywords, NoEvidence())


def test_a_damaged_comparison_is_left_out(keywords: Study, keywords_evidence: Any, tmp_path: Path) -> None:
    winner = keywords.best("onnxruntime")
    (tmp_path / "parity.json").write_text("{")
    keywords_evidence.folders[winner.id, "parity"] = tmp_path
    assert pictures(keywords, winner, keywords_evidence).figures == {}


def test_page_escapes_names_and_lets_only_its_own_scripts_run(parity: Parity, model: Path) -> None:
    page = parity_html(parity, load(model))
    assert EVIL not in page
    assert re.search(r"script-src 'sha256-[^ ]+' 'sha256-[^ ]+' 'sha256-[^ ]+' ;", page)
    assert "Graph of the reference" in page
    assert "Graph of the reference" not in parity_html(parity)


def test_page_of_a_reference_that_cannot_be_drawn(parity: Parity, tmp_path: Path) -> None:
    write_parity_page(parity, tmp_path / "model.tflite", tmp_path / "deep" / "page.html")
    assert "Graph of the reference" not in (tmp_path / "deep" / "page.html").read_text()
    assert [p.name for p in (tmp_path / "deep").iterdir()] == ["page.html"]


@pytest.mark.slow
@pytest.mark.skipif(CHROMIUM is None, reason="no chromium here")
def test_browser_draws_the_page_and_colours_the_graph(parity: Parity, model: Path, tmp_path: Path) -> None:
    assert CHROMIUM is not None
    write_parity_page(parity, model, tmp_path / "page.html")
    flags = "--headless --no-sandbox --disable-gpu --no-first-run --virtual-time-budget=8000 --enable-logging=stderr"
    command = [CHROMIUM, *flags.split(), f"--user-data-dir={tmp_path / 'profile'}", "--dump-dom"]
    done = subprocess.run(
        [*command, (tmp_path / "page.html").as_uri()], capture_output=True, text=True, timeout=120, check=True
    )
    drawn = re.findall(r'<div id="(\w+)" class="plot[\w ]* js-plotly-plot"', done.stdout)
    assert drawn == ["errors", "values", "weights", "scatter"]
    assert re.findall(r'class="node kind-activation[\w ]*painted[\w ]*"', done.stdout)
    assert "9.0 dB" in done.stdout, "the worst layer is chosen first"
    assert [line for line in done.stderr.splitlines() if "CONSOLE" in line] == []
