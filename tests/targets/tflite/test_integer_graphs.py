"""Quantised graphs become files that compute the plan's numbers: in integers where they can, else named."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import onnx_ir as ir
import pytest

from edgewright.core.target import Plan
from edgewright.errors import StepFailed
from edgewright.formats.tflite.reader import TfliteGraph, parse
from edgewright.graph.dynamic import rewrite
from edgewright.graph.names import name_nodes
from edgewright.graph.shapes import infer_shapes
from edgewright.targets._tflite.compile import compile_model
from edgewright.targets._tflite.options import Compiled, Options
from edgewright.testing._quantised_models import QuantisedGraph, run_as_written, run_tflite

RNG = np.random.default_rng(11)


SAME = (0.05, 3)


def compiled(graph: QuantisedGraph, **options: Any) -> Compiled:
    model = ir.serde.deserialize_model(graph.proto())
    name_nodes(model.graph)
    return compile_model(infer_shapes(model), Plan("test"), Options(**{"channels_last": False, **options}))


def file_of(made: Compiled) -> TfliteGraph:
    return parse(made.content)


def operators(made: Compiled) -> list[str]:
    return [op.op for op in file_of(made).operators]


def worst(graph: QuantisedGraph, made: Compiled, seed: int = 1) -> float:
    """Returns the largest difference in steps of the output's quantiser."""
    feeds = graph.feeds(seed)
    found = run_tflite(made.content, feeds, delegate=True)
    return max(
        float(np.abs(found[name].astype(np.float64) - array).max()) / graph.steps.get(name, 1.0)
        for name, array in run_as_written(graph.proto(), feeds).items()
    )


def conv(g: QuantisedGraph, data: str, inputs: int, outputs: int, out: tuple[float, int] | None = (0.1, -3)) -> str:
    weights, _ = g.weights(RNG.standard_normal((outputs, inputs, 3, 3)).astype(np.float32), 0)
    made = g.add("Conv", [data, weights], pads=[1, 1, 1, 1])
    return g.quantised(made, *out) if out else made


def test_data_movement_between_quantisers_and_operators_is_done_on_integers() -> None:
    g = QuantisedGraph()
    data = g.quantised(g.input("x", (1, 8, 4, 6)), *SAME)
    moved = g.add("Transpose", [data], perm=[0, 3, 1, 2])
    made = conv(g, moved, 6, 4, None)
    sliced = g.add("Slice", [made, *(g.constant(np.array([v], np.int64)) for v in (0, 2, 1))])
    g.output(g.quantised(g.add("Concat", [sliced, sliced], axis=1), 0.1, -3))
    made_file = compiled(g)
    assert operators(made_file).count("QUANTIZE") == 1
    assert operators(made_file).count("DEQUANTIZE") == 1
    assert not made_file.notes
    assert worst(g, made_file) == 0


def test_a_quantised_value_that_moves_on_to_a_float_operator_is_dequantised_last() -> None:
    g = QuantisedGraph()
    data = g.quantised(g.input("x", (1, 4, 6, 6)), *SAME)
    flat = g.add("Flatten", [conv(g, data, 4, 2)])
    g.output(g.add("Erf", [flat]))
    made = compiled(g)
    assert operators(made).index("DEQUANTIZE") > operators(made).index("RESHAPE")


def test_unsigned_integers_become_signed_ones_of_the_same_numbers() -> None:
    g = QuantisedGraph()
    data = g.quantised(g.input("x", (1, 4, 6, 6)), 0.05, 120, "uint8")
    weights, _ = g.weights(RNG.standard_normal((2, 4, 3, 3)).astype(np.float32), 0)
    g.output(g.quantised(g.add("Relu", [g.add("Conv", [data, weights])]), 0.1, 0, "uint8"))
    made = compiled(g)
    stored = {tensor.dtype for tensor in file_of(made).tensors if tensor.scale}
    assert stored == {"int8", "int32"}
    assert worst(g, made) == 0


def test_a_value_quantised_in_two_ways_is_computed_twice() -> None:
    g = QuantisedGraph()
    data = g.quantised(g.input("x", (1, 4, 6, 6)), *SAME)
    value = conv(g, data, 4, 2, None)
    g.output(g.quantised(value, 0.1, -3))
    g.output(g.quantised(value, 0.02, 5))
    made = compiled(g)
    assert operators(made).count("CONV_2D") == 2
    assert "several ways" in " ".join(made.notes.values())
    assert worst(g, made) == 0


def test_what_the_model_also_gives_as_floats_is_computed_in_float_and_named() -> None:
    g = QuantisedGraph()
    data = g.quantised(g.input("x", (1, 4, 6, 6)), *SAME)
    value = conv(g, data, 4, 2, None)
    g.output(value)
    g.output(g.quantised(value, 0.1, -3))
    made = compiled(g)
    assert made.notes[value].startswith("computed in float")
    feeds = g.feeds(1)
    found = run_tflite(made.content, feeds, delegate=True)
    np.testing.assert_allclose(found[value], run_as_written(g.proto(), feeds)[value], atol=1e-4)


@pytest.mark.parametrize(("integers", "why"), [("low", "-128"), ("zero", "zero point")])
def test_weights_that_kernels_do_not_take_stay_float(integers: str, why: str) -> None:
    g = QuantisedGraph()
    data = g.quantised(g.input("x", (2, 8)), *SAME)
    stored = RNG.integers(-127, 128, (8, 4)).astype(np.int8)
    zero = np.int8(0 if integers == "low" else 3)
    stored[0, 0] = -128 if integers == "low" else stored[0, 0]
    weights = g.add("DequantizeLinear", [g.constant(v) for v in (stored, np.float32(0.01), zero)])
    product = g.add("MatMul", [data, weights])
    g.output(g.quantised(product, 0.1, 0))
    made = compiled(g)
    assert why in made.notes[product]
    assert worst(g, made) <= 1.01


def test_a_bias_beyond_the_accumulator_stays_float() -> None:
    g = QuantisedGraph()
    data = g.quantised(g.input("x", (2, 8)), 1e-4, 0)
    weights, _ = g.weights(np.full((8, 4), 1e-4, np.float32), None)
    product = g.add("Gemm", [data, weights, g.constant(np.full(4, 100, np.float32))])
    g.output(g.quantised(product, 1.0, 0))
    made = compiled(g)
    assert "accumulator" in made.notes[product]
    assert worst(g, made) == 0


def test_a_bias_of_another_scale_is_rounded_to_the_accumulator() -> None:
    g = QuantisedGraph()
    data = g.quantised(g.input("x", (2, 8)), *SAME)
    weights, scale = g.weights(RNG.standard_normal((8, 4)).astype(np.float32), None)
    bias = g.bias(RNG.standard_normal(4).astype(np.float32), np.asarray(3 * 0.05 * scale, np.float32))
    g.output(g.quantised(g.add("Gemm", [data, weights, bias]), 0.1, 0))
    made = compiled(g)
    found = next(t for t in file_of(made).tensors if t.dtype == "int32" and t.scale)
    assert found.scale[0] == pytest.approx(0.05 * float(scale), rel=1e-5)
    assert worst(g, made) <= 1.01


def test_activations_of_16_bits_take_a_bias_of_64() -> None:
    g = QuantisedGraph()
    data = g.quantised(g.input("x", (1, 4, 6, 6)), 1e-4, 0, "int16")
    weights, _ = g.weights(RNG.standard_normal((2, 4, 3, 3)).astype(np.float32), 0)
    made_value = g.add("Conv", [data, weights, g.constant(np.array([0.5, -2], np.float32))])
    g.output(g.quantised(made_value, 1e-3, 0, "int16"))
    made = compiled(g)
    assert {t.dtype for t in file_of(made).tensors if t.data is not None and t.scale} == {"int8", "int64"}
    assert not made.notes


def whole(relu: bool = True) -> QuantisedGraph:
    g = QuantisedGraph()
    data = g.quantised(g.input("x", (1, 4, 6, 6)), *SAME)
    value = conv(g, data, 4, 6, None)
    value = g.quantised(g.add("Relu", [value]) if relu else value, 0.05, -128)
    value = g.quantised(g.add("GlobalAveragePool", [value]), 0.03, -128)
    value = g.quantised(g.add("Flatten", [value]), 0.03, -128)
    weights, scale = g.weights(RNG.standard_normal((5, 6)).astype(np.float32), 0)
    bias = g.bias(RNG.standard_normal(5).astype(np.float32), np.float32(0.03) * scale)
    value = g.quantised(g.add("Gemm", [value, weights, bias], transB=1), 0.04, 1)
    g.output(g.quantised(g.add("Softmax", [value]), 1 / 256, -128))
    return g


@pytest.mark.parametrize("dtype", ["int8", "uint8"])
def test_integer_only_files_hold_no_float_tensor(dtype: str) -> None:
    g = whole()
    made = compiled(g, integer_only=dtype)
    graph = file_of(made)
    assert not [tensor.name for tensor in graph.tensors if tensor.dtype.startswith("float")]
    assert {graph.tensors[n].dtype for n in (*graph.inputs, *graph.outputs)} == {dtype}
    (taken,), (given,) = made.inputs.values(), made.outputs.values()
    assert taken.dtype == given.dtype == dtype
    feeds = g.feeds(1)
    info = np.iinfo(dtype)
    integers = np.clip(np.rint(feeds["x"] / np.float32(taken.scale)) + taken.zero_point, info.min, info.max)
    integers = integers.transpose(taken.perm) if taken.perm else integers
    found = run_tflite(made.content, {"x": integers.astype(dtype)}, delegate=False)
    (name, expected), *_ = run_as_written(g.proto(), feeds).items()
    real = (found[name].astype(np.float64) - given.zero_point) * given.scale
    one_step_of_the_logits = 0.04 / 4  # p (1 - p) is at most a quarter
    assert np.abs(real - expected).max() <= one_step_of_the_logits + 1.01 / 256


def test_integer_only_refuses_and_names_what_would_compute_in_float() -> None:
    g = QuantisedGraph()
    data = g.quantised(g.input("x", (1, 4, 6, 6)), *SAME)
    erf = g.add("Erf", [conv(g, data, 4, 2)])
    g.output(g.quantised(erf, 1 / 128, 0))
    with pytest.raises(StepFailed, match=erf) as error:
        compiled(g, integer_only="int8")
    assert "litert-s8s8-full" in (error.value.hint or "")


def test_integer_only_refuses_a_float_output() -> None:
    g = QuantisedGraph()
    data = g.quantised(g.input("x", (1, 4, 6, 6)), *SAME)
    value = conv(g, data, 4, 2, None)
    g.output(value)
    with pytest.raises(StepFailed, match=value):
        compiled(g, integer_only="int8")


@pytest.mark.parametrize("alpha", [0.2, 1 / 6])
def test_hard_sigmoid_saturates_in_integers(alpha: float) -> None:
    g = QuantisedGraph()
    data = g.quantised(g.input("x", (1, 4, 6, 6)), *SAME)
    g.output(g.quantised(g.add("HardSigmoid", [data], alpha=alpha), 1 / 255, -128))
    made = compiled(g)
    assert not made.notes
    assert worst(g, made) <= 1.01


@pytest.mark.parametrize(("op", "number"), [("Pow", 2.0), ("Div", 1.7)])
@pytest.mark.parametrize("stored", [False, True])
def test_squares_and_quotients_of_numbers_are_products(op: str, number: float, stored: bool) -> None:
    g = QuantisedGraph()
    data = g.quantised(g.input("x", (1, 4, 6, 6)), *SAME)
    operand = g.constant(np.float32(number))
    operand = g.quantised(operand, number / 255, -128) if stored else operand
    g.output(g.quantised(g.add(op, [data, operand]), 0.04, -3))
    made = compiled(g)
    assert [op for op in operators(made) if op not in ("QUANTIZE", "DEQUANTIZE")] == ["MUL"]
    assert not made.notes
    assert worst(g, made) <= 1.01


def test_hard_sigmoid_is_clipped_where_the_plan_holds_more() -> None:
    g = QuantisedGraph()
    data = g.quantised(g.input("x", (1, 4, 6, 6)), 0.2, 3)
    g.output(g.quantised(g.add("HardSigmoid", [data]), 1 / 50, 0))
    made = compiled(g)
    assert worst(g, made) <= 1.01


@pytest.mark.parametrize("bits", [7, 8])
def test_dynamic_products_become_hybrid_operators(bits: int) -> None:
    g = QuantisedGraph()
    weights = g.constant(RNG.standard_normal((16, 5)).astype(np.float32))
    product = g.add("MatMul", [g.input("x", (3, 16)), weights])
    g.output(g.add("Add", [product, g.constant(RNG.standard_normal(5).astype(np.float32))]))
    model = ir.serde.deserialize_model(g.proto())
    name_nodes(model.graph)
    rewrite(model.graph, ("MatMul",), (), bits)
    made = compile_model(infer_shapes(model), Plan("test"), Options())
    assert operators(made) == ["FULLY_CONNECTED"]
    assert {t.dtype for t in file_of(made).tensors if t.data is not None} == {"int8", "float32"}
    feeds = g.feeds(2)
    (expected,) = run_as_written(g.proto(), feeds).values()
    (found,) = run_tflite(made.content, feeds, delegate=True).values()
    assert np.abs(found - expected).max() < 0.05 * np.abs(expected).max()


def test_stored_weights_beside_floats_are_unpacked_and_the_product_is_exact() -> None:
    g = QuantisedGraph()
    weights, _ = g.weights(RNG.standard_normal((16, 5)).astype(np.float32), 1)
    g.output(g.add("MatMul", [g.input("x", (3, 16)), weights]))
    made = compiled(g)
    assert operators(made) == ["DEQUANTIZE", "FULLY_CONNECTED"]
    feeds = g.feeds(2)
    for delegate in (False, True):
        (found,) = run_tflite(made.content, feeds, delegate=delegate).values()
        (expected,) = run_as_written(g.proto(), feeds).values()
        np.testing.assert_allclose(found, expected, atol=1e-4)


VERSIONS: Mapping[str, int] = {"CONV_2D": 3, "FULLY_CONNECTED": 12, "MEAN": 2, "SOFTMAX": 2, "QUANTIZE": 1}


def test_versions_are_the_ones_that_know_the_types() -> None:
    from ai_edge_litert import schema_py_generated as schema

    made = compiled(whole())
    model = schema.ModelT.InitFromPackedBuf(made.content, 0)
    names = {value: name for name, value in vars(schema.BuiltinOperator).items() if isinstance(value, int)}
    found = {names[code.builtinCode]: code.version for code in model.operatorCodes}
    assert {name: found[name] for name in VERSIONS} == VERSIONS
