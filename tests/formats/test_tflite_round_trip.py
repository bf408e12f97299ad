"""ONNX to TensorFlow Lite and back: what our compiler writes our reader understands, and it still computes the same."""

from __future__ import annotations

import re
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import onnx_ir as ir
import pytest

pytest.importorskip("ai_edge_litert.interpreter")
pytest.importorskip("onnxruntime")

import onnxruntime

from edgewright.core.target import Plan
from edgewright.formats.tflite.convert import RULES, to_onnx
from edgewright.formats.tflite.names import OPERATORS
from edgewright.formats.tflite.reader import parse
from edgewright.graph.tidy import tidy
from edgewright.runtimes.litert import LiteRtRunner
from edgewright.targets import _tflite
from edgewright.targets._tflite.compile import compile_model
from edgewright.targets._tflite.options import Options

MOST_PER_OPERATOR = 3
EXCEPTIONS = {
    "test_cast_FLOAT_to_INT4": "an activation of 4 bits is refused",
    "test_dequantizelinear_axis": "an activation with a scale per channel is refused",
    "test_quantizelinear_axis": "an activation with a scale per channel is refused",
    "test_reduce_max_empty_set_bool": "ONNX Runtime gives the smallest integer for no integer at all",
    "test_reshape_allowzero_reordered": "nothing in it",
    "test_split_zero_size_splits_opset13": "nothing in it",
    "test_split_zero_size_splits_opset18": "nothing in it",
    "test_triu_zero": "nothing in it",
    "test_tril_zero": "nothing in it",
}


def test_every_operator_that_the_compiler_writes_has_a_rule() -> None:
    folder = Path(_tflite.__file__).parent
    text = "\n".join(path.read_text(encoding="utf-8") for path in sorted(folder.rglob("*.py")))
    written = set(re.findall(r'"([A-Z][A-Z0-9_]+)"', text)) & set(OPERATORS)
    of_onnx = {"LSTM", "RNN"}
    assert len(written) > 60
    assert written - set(RULES) == of_onnx


def returned(content: bytes, feed: dict[str, Any]) -> dict[str, Any]:
    """What the file gives once it is ONNX again."""
    model, _ = tidy(to_onnx(parse(content), integer_io=True))
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.log_severity_level = 4
    session = onnxruntime.InferenceSession(ir.to_proto(model).SerializeToString(), options)
    names = [output.name for output in session.get_outputs()]
    return dict(zip(names, session.run(names, {i.name: feed[i.name] for i in session.get_inputs()}), strict=True))


def fault(case: Any, bound: Any) -> str | None:
    """Why a node test does not come back; empty where it does, None where the compiler refuses it."""
    try:
        model, feed = bound(case.model, case.data_sets[0][0])
        content = compile_model(model, Plan("none"), Options(channels_last=False)).content
        expected = LiteRtRunner(content, "test").run(feed)
    except Exception:  # what the compiler claims is its own tests' matter
        return None
    try:
        found = returned(content, feed)
        for name, value in expected.items():
            assert (found[name].dtype, found[name].shape) == (value.dtype, value.shape)
            np.testing.assert_allclose(found[name], value, rtol=max(case.rtol, 1e-3), atol=max(case.atol, 1e-5))
    except Exception as error:
        return f"{type(error).__name__}: {error}"[:300]
    return ""


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_node_tests_come_back() -> None:
    """Some of each operator's node tests."""
    from tests.targets.tflite.test_node_tests import bound, cases

    taken: Counter[str] = Counter()
    faults, passed = {}, 0
    for name, case in cases().items():
        kind = case.model.graph.node[-1].op_type
        if "expanded" in name or name in EXCEPTIONS or taken[kind] == MOST_PER_OPERATOR:
            continue
        found = fault(case, bound)
        taken[kind] += found is not None
        passed += found == ""
        if found:
            faults[name] = found
    assert faults == {}
    assert passed > 250


@pytest.mark.bench
@pytest.mark.parametrize("kind", ["int8", "float32"])
def test_the_published_keyword_spotter_comes_back_as_it_was(kind: str, bench: Path) -> None:
    """The same operators with the same scales; nothing but the numbering of tensors differs."""
    before = (bench / "kws" / f"kws01_ref_model_{kind}.tflite").read_bytes()
    model, _ = tidy(to_onnx(parse(before)))
    only = "int8" if kind == "int8" else ""
    after = compile_model(model, Plan("as given"), Options(integer_only=only)).content
    graphs = [parse(content) for content in (before, after)]
    listed = [
        [(op.op, g.tensors[op.outputs[0]].scale, g.tensors[op.outputs[0]].zero_point) for op in g.operators]
        for g in graphs
    ]
    if kind == "int8":
        assert listed[0] == listed[1]
        rng = np.random.default_rng(0)
        for _ in range(20):
            feed = rng.integers(-128, 127, (1, 49, 10, 1)).astype(np.int8)
            results = [next(iter(LiteRtRunner(c, "test").run({n: feed}).values())) for c, n in named(before, after)]
            np.testing.assert_array_equal(*results)
    else:
        assert [op for op, *_ in listed[0]] == [op for op, *_ in listed[1]]


def named(*contents: bytes) -> list[tuple[bytes, str]]:
    return [(content, LiteRtRunner(content, "test").inputs[0].name) for content in contents]
