"""What is left to move in the parts that networks are built of."""

from __future__ import annotations

from random import Random
from typing import Any

import numpy as np
import onnx_ir as ir
import pytest

from edgewright.graph.channels_last import DOMAIN, INNER, NAME, PERM, lowered, original
from edgewright.graph.shapes import static_shape

MAP = (1, 8, 6, 6)


def conv(b: Any, x: str, out: int | None = None, stride: int = 1) -> str:
    n, c, h, w = b.shapes[x]
    out = out or c
    shape = [n, out, -(-h // stride), -(-w // stride)]
    return b.op("Conv", [x, b.weight(Random(1), out, c, 3, 3)], shape, pads=[1] * 4, strides=[stride] * 2)


@pytest.fixture
def check(tools: Any) -> Any:
    """Solves a graph, holds it against the original, returns it and the Transposes left."""

    def checked(builder: Any, *outputs: str, **moved: Any) -> tuple[ir.Model, list[ir.Node]]:
        model = builder.model(*outputs)
        after = tools.solved(model, **moved)
        if not moved:
            tools.assert_same(model, after)
        return after, tools.transposes(after)

    return checked


def ops(model: ir.Model) -> list[str]:
    return [node.op_type for node in model.graph]


def test_borders_alone_are_moved(tools: Any, check: Any) -> None:
    b = tools.Builder()
    x = b.input(*MAP)
    y = b.op("Relu", [conv(b, x)], MAP)
    after, left = check(b, conv(b, b.op("Add", [y, x], MAP)))
    assert len(left) == 2
    moved = next(node for node in after.graph if node.op_type == "Conv")
    assert moved.domain == DOMAIN
    assert static_shape(moved.outputs[0]) == (1, 6, 6, 8)
    assert moved.outputs[0].metadata_props[PERM] == "0 2 3 1"
    assert after.opset_imports[DOMAIN] == 1
    assert static_shape(after.graph.inputs[0]) == static_shape(after.graph.outputs[0]) == MAP


def test_moved_borders_leave_nothing(tools: Any, check: Any) -> None:
    b = tools.Builder()
    y = conv(b, b.op("Mul", [b.input(*MAP), b.weight(Random(0), 8, 1, 1)], MAP))
    after, left = check(b, y, moved_inputs=frozenset({"x0"}), moved_outputs=frozenset({y}))
    assert not left
    assert static_shape(after.graph.inputs[0]) == static_shape(after.graph.outputs[0]) == (1, 6, 6, 8)
    assert after.graph.inputs[0].metadata_props[PERM] == after.graph.outputs[0].metadata_props[PERM] == "0 2 3 1"
    before = tools.run(b.model(y))[y]
    found = tools.run(lowered(after))[y]
    np.testing.assert_allclose(original(found, after.graph.outputs[0].metadata_props), before, rtol=1e-5, atol=1e-5)


def test_an_output_keeps_its_name_and_tells_what_gave_it_up(tools: Any, check: Any) -> None:
    b = tools.Builder()
    y = conv(b, b.input(*MAP))
    after, left = check(b, y, b.op("GlobalMaxPool", [y], [1, 8, 1, 1]))
    assert [value.name for value in after.graph.outputs] == [y, "globalmaxpool1"]
    inner = next(node for node in after.graph if node.op_type == "Conv").outputs[0]
    assert inner.metadata_props[NAME] == y
    assert any(node.name == f"{y}/{y}/transpose" for node in left)


def test_pooled_features_reach_their_classifier_for_nothing(tools: Any, check: Any) -> None:
    b = tools.Builder()
    pooled = b.op("GlobalAveragePool", [conv(b, b.input(*MAP))], [1, 8, 1, 1])
    after, left = check(b, b.op("Gemm", [b.op("Flatten", [pooled], [1, 8]), b.weight(Random(0), 8, 3)], [1, 3]))
    assert len(left) == 1
    assert ops(after).count("Reshape") + ops(after).count("Flatten") == 1


@pytest.mark.parametrize("product", ["Gemm", "Gemm transposed", "MatMul"])
@pytest.mark.parametrize("axis", [None, 0, 1])
def test_a_flattened_map_is_folded_into_the_weights(tools: Any, check: Any, product: str, axis: int | None) -> None:
    b, rng = tools.Builder(), Random(0)
    flat = b.op("Flatten", [conv(b, b.input(*MAP))], [1, 288])
    shape = (5, 288) if "transposed" in product else (288, 5)
    weights = b.weight(rng, *shape) if axis is None else b.quantised_weight(rng, *shape, axis=axis)
    flat = b.op("Relu", [flat], [1, 288])
    y = b.op(
        product.split(maxsplit=1)[0], [flat, weights], [1, 5], **({"transB": 1} if "transposed" in product else {})
    )
    after, left = check(b, y)
    assert len(left) == 1
    relu = next(node for node in after.graph if node.op_type == "Relu").outputs[0]
    assert relu.metadata_props[INNER] == "[[1, [8, 36], [1, 0]]]"


def test_a_decoder_folds_into_the_columns(tools: Any, check: Any) -> None:
    b, rng = tools.Builder(), Random(0)
    dense = b.op("Gemm", [b.input(1, 4), b.weight(rng, 4, 72), b.weight(rng, 72)], [1, 72])
    y = conv(b, b.op("Reshape", [dense, b.ints(1, 8, 3, 3)], [1, 8, 3, 3]))
    _, left = check(b, b.op("ReduceMean", [y, b.ints(2, 3)], [1, 8], keepdims=0))
    assert not left


def test_excitation_and_residuals_cost_nothing(tools: Any, check: Any) -> None:
    b, rng = tools.Builder(), Random(0)
    x = conv(b, b.input(*MAP))
    for _ in range(3):
        mean = b.op("ReduceMean", [x, b.ints(2, 3)], [1, 8], keepdims=0)
        gate = b.op("Sigmoid", [b.op("Gemm", [mean, b.weight(rng, 8, 8)], [1, 8])], [1, 8])
        gate = b.op("Unsqueeze", [gate, b.ints(2, 3)], [1, 8, 1, 1])
        x = b.op("Add", [x, conv(b, b.op("Mul", [x, gate], MAP))], MAP)
    after, left = check(b, b.op("GlobalAveragePool", [x], [1, 8, 1, 1]))
    assert len(left) == 1
    assert "Unsqueeze" not in ops(after)


def test_a_shuffle_moves_once(tools: Any, check: Any) -> None:
    b = tools.Builder()
    x = conv(b, b.input(*MAP))
    x = b.op("Reshape", [x, b.ints(1, 2, 4, 6, 6)], [1, 2, 4, 6, 6])
    x = b.op("Transpose", [x], [1, 4, 2, 6, 6], perm=[0, 2, 1, 3, 4])
    x = conv(b, b.op("Reshape", [x, b.ints(*MAP)], MAP))
    _, left = check(b, b.op("ReduceMax", [x, b.ints(2, 3)], [1, 8], keepdims=0))
    assert len(left) == 2


def test_a_head_is_turned_for_nothing(tools: Any, check: Any) -> None:
    """SSD and one-anchor YOLO: Transpose to channels-last, flatten, join."""
    b, x, parts = tools.Builder(), None, []
    x = b.input(*MAP)
    for stride in (1, 2):
        x = conv(b, x, stride=stride)
        n, c, h, w = b.shapes[x]
        turned = b.op("Transpose", [x], [n, h, w, c], perm=[0, 2, 3, 1])
        parts.append(b.op("Reshape", [turned, b.ints(n, -1, 4)], [n, h * w * 2, 4]))
    joined = b.op("Concat", parts, [1, 90, 4], axis=1)
    _, left = check(b, b.op("Softmax", [joined], [1, 90, 4], axis=-1))
    assert len(left) == 1


def test_softmax_over_channels_runs_along_the_last_stored_axis(tools: Any, check: Any) -> None:
    b = tools.Builder()
    y = b.op("Softmax", [conv(b, b.input(*MAP))], MAP, axis=1)
    after, left = check(b, b.op("ArgMax", [y], [1, 1, 6, 6], axis=1))
    assert len(left) == 1
    assert next(node for node in after.graph if node.op_type == "Softmax").attributes["axis"].as_int() == 3


def test_attention_over_pixels_turns_no_matrix_of_scores(tools: Any, check: Any) -> None:
    b = tools.Builder()
    x = conv(b, b.input(1, 8, 6, 6))
    flat = b.op("Reshape", [x, b.ints(1, 8, 36)], [1, 8, 36])
    turned = b.op("Transpose", [flat], [1, 36, 8], perm=[0, 2, 1])
    scores = b.op("Softmax", [b.op("MatMul", [turned, flat], [1, 36, 36])], [1, 36, 36], axis=-1)
    mixed = b.op("MatMul", [scores, turned], [1, 36, 8])
    back = b.op("Transpose", [mixed], [1, 8, 36], perm=[0, 2, 1])
    y = conv(b, b.op("Reshape", [back, b.ints(*MAP)], MAP))
    after, left = check(b, b.op("GlobalMaxPool", [y], [1, 8, 1, 1]))
    assert sorted((node.name or "").rsplit("/", 1)[-1] for node in left) == ["adjoint", "transpose"]
    assert all(36 * 36 not in (static_shape(node.inputs[0]) or ()) for node in left)
    assert next(node for node in left if (node.name or "").endswith("/adjoint")).outputs[0].uses()[0].idx == 1
    assert after.graph.outputs[0].name == "globalmaxpool" + str(len(b.nodes) - 1)


def test_a_move_stays_in_integers(tools: Any, check: Any) -> None:
    """Opaque work behind a quantised map: what is moved is the one-byte form, quantised as it was."""
    b, rng = tools.Builder(), Random(0)
    x = b.quantised(b.input(*MAP))
    y = b.quantised(b.op("Conv", [x, b.quantised_weight(rng, 8, 8, 1, 1)], MAP, kernel_shape=[1, 1]))
    after, left = check(b, b.op("Trilu", [y], MAP))
    assert len(left) == 2
    for node in left:
        given = node.inputs[0]
        assert given is not None
        assert given.producer().op_type == "DequantizeLinear"  # type: ignore[union-attr]
        (use,) = node.outputs[0].uses()
        assert use.node.op_type == "QuantizeLinear"
        assert [v.name for v in use.node.inputs[1:]] == [v.name for v in given.producer().inputs[1:]]  # type: ignore
    weights = next(node for node in after.graph if node.domain == DOMAIN).inputs[1]
    assert static_shape(weights) == (8, 8, 1, 1)


def test_a_turned_quantised_map_is_quantised_once(tools: Any, check: Any) -> None:
    b = tools.Builder()
    y = b.quantised(conv(b, b.input(*MAP)))
    parameters = [node.name for node in b.weights[-2:]]
    turned = b.op("Transpose", [y], [1, 6, 6, 8], perm=[0, 2, 3, 1])
    integers = b.op("QuantizeLinear", [turned, *parameters], [1, 6, 6, 8])
    y = b.op("Relu", [b.op("DequantizeLinear", [integers, *parameters], [1, 6, 6, 8])], [1, 6, 6, 8])
    after, left = check(b, y)
    assert len(left) == 1
    assert ops(after).count("QuantizeLinear") == 1


def test_a_constant_behind_quantisers_follows_its_reader(tools: Any, check: Any) -> None:
    b, rng = tools.Builder(), Random(0)
    y = conv(b, b.input(*MAP))
    y = b.op("Mul", [y, b.quantised_weight(rng, 8, 6, 6, axis=0)], MAP)
    after, left = check(b, b.op("GlobalMaxPool", [y], [1, 8, 1, 1]))
    assert len(left) == 1
    stored = next(node for node in after.graph if node.op_type == "DequantizeLinear")
    assert static_shape(stored.outputs[0]) == (6, 6, 8)
    assert stored.attributes["axis"].as_int() == 2


def test_moves_that_follow_each_other_become_one(tools: Any, check: Any) -> None:
    b = tools.Builder()
    x = b.input(2, 3, 4)
    first = b.op("Transpose", [x], [4, 2, 3], perm=[2, 0, 1])
    y = b.op("Transpose", [b.op("Relu", [first], [4, 2, 3])], [2, 3, 4], perm=[1, 2, 0])
    assert not check(b, y)[1]


def test_a_subgraph_sees_the_original_order(tools: Any, check: Any) -> None:
    from onnx import TensorProto, helper

    b = tools.Builder()
    y = conv(b, b.input(*MAP))
    branches = {}
    for name, op in (("then_branch", "Relu"), ("else_branch", "Neg")):
        out = helper.make_tensor_value_info(f"{op}_out", TensorProto.FLOAT, MAP)
        branches[name] = helper.make_graph([helper.make_node(op, [y], [f"{op}_out"], op)], op, [], [out])
    test = b.const(np.array(True))
    z = b.op("If", [test], MAP, **branches)
    _, left = check(b, z, b.op("GlobalMaxPool", [y], [1, 8, 1, 1]))
    assert len(left) == 2


def test_a_volume_is_convolved_channels_last(tools: Any, check: Any) -> None:
    b = tools.Builder()
    x = b.input(1, 2, 3, 4, 4)
    y = b.op("Conv", [x, b.weight(Random(0), 4, 2, 1, 1, 1)], [1, 4, 3, 4, 4])
    after, left = check(b, b.op("ReduceMean", [y, b.ints(2, 3, 4)], [1, 4], keepdims=0))
    assert [tuple(node.attributes["perm"].as_ints()) for node in left] == [(0, 2, 3, 4, 1)]
    assert next(node for node in after.graph if node.op_type == "Conv").domain == DOMAIN


def test_one_channel_is_renamed_not_moved(tools: Any, check: Any) -> None:
    b = tools.Builder()
    y = b.op("Conv", [b.input(1, 1, 6, 6), b.weight(Random(0), 4, 1, 3, 3)], [1, 4, 4, 4])
    after, left = check(b, b.op("GlobalMaxPool", [y], [1, 4, 1, 1]))
    assert not left
    assert ops(after).count("Reshape") == 2


def test_a_graph_without_maps_stays(tools: Any, check: Any) -> None:
    b = tools.Builder()
    y = b.op("MatMul", [b.input(2, 3), b.weight(Random(0), 3, 4)], [2, 4])
    after, left = check(b, b.op("Relu", [y], [2, 4]))
    assert not left
    assert ops(after) == ["MatMul", "Relu"]
    assert DOMAIN not in after.opset_imports


def test_what_has_no_fixed_shape_takes_the_original_order(tools: Any) -> None:
    import onnx

    b = tools.Builder()
    y = conv(b, b.input(*MAP))
    model = b.model(y)
    proto = ir.to_proto(model)
    proto.graph.node.append(onnx.helper.make_node("NonZero", [y], ["places"], "places"))
    proto.graph.output.append(onnx.helper.make_tensor_value_info("places", onnx.TensorProto.INT64, [4, None]))
    open_model = ir.from_proto(proto)
    tools.assert_same(open_model, tools.solved(open_model))


def test_an_input_that_is_an_output_stays(tools: Any) -> None:
    b = tools.Builder()
    x = b.input(*MAP)
    y = conv(b, x)
    model = b.model(y)
    model.graph.outputs.append(model.graph.inputs[0])
    after = tools.solved(model, moved_inputs=frozenset({x}), moved_outputs=frozenset({x, y}))
    assert static_shape(after.graph.inputs[0]) == MAP
    assert [value.name for value in after.graph.outputs] == [y, x]


def test_weights_quantised_in_blocks_keep_their_order(tools: Any, check: Any) -> None:
    """Permuting their rows would part what shares a scale: the map is moved instead, or what is dequantised."""
    b, rng = tools.Builder(opset=21), np.random.default_rng(0)
    flat = b.op("Flatten", [conv(b, b.input(*MAP))], [1, 288])
    stored = b.const(rng.integers(-127, 128, (288, 5)).astype(np.int8))
    scales = b.const(rng.uniform(0.01, 0.02, (288 // 16, 5)).astype(np.float32))
    weights = b.op("DequantizeLinear", [stored, scales], [288, 5], axis=0, block_size=16)
    after, left = check(b, b.op("MatMul", [flat, weights], [1, 5]))
    assert len(left) == 2
    assert next(node for node in after.graph if node.op_type == "DequantizeLinear").inputs[0].name == stored


def test_a_constant_quantised_in_the_graph_follows_its_reader(tools: Any, check: Any) -> None:
    b, rng = tools.Builder(), Random(0)
    y = conv(b, b.input(*MAP))
    factor = b.weight(rng, 8, 6, 6)
    b.shapes[factor] = (8, 6, 6)
    after, left = check(b, b.op("GlobalMaxPool", [b.op("Mul", [y, b.quantised(factor)], MAP)], [1, 8, 1, 1]))
    assert len(left) == 1
    assert static_shape(next(n for n in after.graph if n.op_type == "QuantizeLinear").outputs[0]) == (6, 6, 8)


def test_quantisers_per_channel_follow_the_channels(tools: Any, check: Any) -> None:
    b = tools.Builder()
    y = conv(b, b.input(*MAP))
    scales = b.const(np.linspace(0.01, 0.2, 8).astype(np.float32))
    zeros = b.const(np.zeros(8, np.int8))
    integers = b.op("QuantizeLinear", [y, scales, zeros], MAP, axis=1)
    y = b.op("DequantizeLinear", [integers, scales, zeros], MAP, axis=1)
    after, left = check(b, b.op("GlobalMaxPool", [y], [1, 8, 1, 1]))
    assert len(left) == 1
    assert [n.attributes["axis"].as_int() for n in after.graph if n.op_type.endswith("eLinear")] == [3, 3]


def test_a_product_of_turned_matrices_is_the_turned_product(tools: Any, check: Any) -> None:
    b = tools.Builder()
    x, y = b.input(2, 4, 3), b.input(2, 5, 4)
    left, right = (b.op("Transpose", [v], [2, s[2], s[1]], perm=[0, 2, 1]) for v, s in ((x, (2, 4, 3)), (y, (2, 5, 4))))
    product = b.op("MatMul", [left, right], [2, 3, 5])
    after, moved = check(b, b.op("Transpose", [product], [2, 5, 3], perm=[0, 2, 1]))
    assert not moved
    assert [value.name for value in next(n for n in after.graph if n.op_type == "MatMul").inputs] == [y, x]  # type: ignore


def test_what_names_an_axis_takes_it_whole(tools: Any, check: Any) -> None:
    for last in ("ArgMax", "Slice"):
        b = tools.Builder()
        flat = b.op("Flatten", [conv(b, b.input(*MAP))], [1, 288])
        part = [flat, b.ints(100), b.ints(200), b.ints(1)]
        made = b.op("ArgMax", [flat], [1, 1], axis=1) if last == "ArgMax" else b.op("Slice", part, [1, 100])
        check(b, made)


def test_transposes_in_a_row_become_one(tools: Any) -> None:
    from edgewright.graph.channels_last.tidying import tidy

    b = tools.Builder()
    first = b.op("Transpose", [b.input(2, 3, 4)], [4, 2, 3], perm=[2, 0, 1])
    model = b.model(b.op("Transpose", [first], [2, 4, 3], perm=[1, 0, 2]))
    joined = model.clone()
    tidy(joined)
    assert len(tools.transposes(joined)) == 1
    tools.assert_same(model, joined)
