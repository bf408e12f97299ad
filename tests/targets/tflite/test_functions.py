"""Functions without an operator of their own keep the precision of float32; what one operator computes is found."""

from __future__ import annotations

from math import sqrt
from typing import Any

import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from edgewright.errors import StepFailed
from edgewright.targets._tflite.claims import claimed
from edgewright.targets._tflite.rules.broadcast import merged
from edgewright.targets._tflite.rules.shaping import together

GRID = np.concatenate([np.linspace(-12, 12, 4001), np.geomspace(1e-6, 1, 500), -np.geomspace(1e-6, 1, 500)])


def graph(
    nodes: list[Any], constants: dict[str, Any], shape: tuple[int, ...], opset: int = 17, **more: Any
) -> onnx.ModelProto:
    """x, and further inputs, to y."""
    inputs = {"x": shape, **more}
    return helper.make_model(
        helper.make_graph(
            nodes,
            "test",
            [helper.make_tensor_value_info(name, TensorProto.FLOAT, size) for name, size in inputs.items()],
            [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)],
            [numpy_helper.from_array(np.asarray(a, np.float32), name) for name, a in constants.items()],
        ),
        opset_imports=[helper.make_opsetid("", opset)],
        ir_version=10,
    )


def normal(*shape: int, seed: int = 0) -> NDArray[np.float32]:
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


ERF = np.vectorize(__import__("math").erf)
FUNCTIONS = {
    "Erf": (ERF, GRID, 4e-7, 0.0),
    "Softplus": (lambda x: np.logaddexp(0, x), GRID, 0.0, 1e-6),
    "Mish": (lambda x: x * np.tanh(np.logaddexp(0, x)), GRID, 0.0, 3e-6),
    "Asinh": (np.arcsinh, GRID, 0.0, 2e-6),
    "Atanh": (np.arctanh, GRID[np.abs(GRID) < 0.99], 0.0, 4e-6),
    "Acosh": (np.arccosh, 1 + np.geomspace(1e-4, 50, 1000), 0.0, 4e-6),
    "Sinh": (np.sinh, GRID, 0.0, 4e-6),
    "Cosh": (np.cosh, GRID, 0.0, 4e-6),
    "Asin": (np.arcsin, GRID[np.abs(GRID) < 1], 0.0, 4e-6),
    "Acos": (np.arccos, GRID[np.abs(GRID) < 0.99], 0.0, 4e-6),
    "Atan": (np.arctan, GRID, 0.0, 4e-6),
}
"""Operator -> its function, where it is tried, and the largest absolute and relative error."""


@pytest.mark.parametrize("op", FUNCTIONS)
def test_functions_keep_the_precision_of_float32(judge: Any, op: str) -> None:
    from edgewright.runtimes.litert import LiteRtRunner

    function, points, absolute, relative = FUNCTIONS[op]
    x = np.asarray(points, np.float32)
    compiled = judge.one(op, x).compiled
    found = LiteRtRunner(compiled.content, op).run({"x": x})["y"].astype(np.float64)
    np.testing.assert_allclose(found, function(x.astype(np.float64)), rtol=relative, atol=absolute or 1e-30)


def gelu(order: str) -> list[Any]:
    first, last = ("x", "sum") if order == "x" else ("sum", "x")
    return [
        helper.make_node("Div", ["x", "root"], ["scaled"]),
        helper.make_node("Erf", ["scaled"], ["error"]),
        helper.make_node("Add", ["error", "one"], ["sum"]),
        helper.make_node("Mul", [first, "half"] if order == "half" else [first, last], ["product"]),
        helper.make_node("Mul", ["product", last if order == "half" else "half"], ["y"]),
    ]


@pytest.mark.parametrize("order", ["x", "sum", "half"])
def test_the_exact_gelu_is_one_operator(judge: Any, order: str) -> None:
    constants = {"root": sqrt(2), "one": 1, "half": 0.5}
    found = judge.model(graph(gelu(order), constants, (2, 5)), x=normal(2, 5))
    assert found.ops == ("GELU",)
    assert found.decibels > 120


def test_what_only_resembles_gelu_is_left_alone(judge: Any) -> None:
    found = judge.model(graph(gelu("x"), {"root": 1.5, "one": 1, "half": 0.5}, (2, 5)), x=normal(2, 5))
    assert "GELU" not in found.ops
    assert found.decibels > 120


@pytest.mark.parametrize("scaled", ["Div", "Mul"])
def test_hard_swish_is_one_operator(judge: Any, scaled: str) -> None:
    nodes = [
        helper.make_node("Add", ["x", "three"], ["moved"]),
        helper.make_node("Clip", ["moved", "zero", "six"], ["gate"]),
        helper.make_node("Mul", ["x", "gate"], ["product"]),
        helper.make_node(scaled, ["product", "by"], ["y"]),
    ]
    constants = {"three": 3, "zero": 0, "six": 6, "by": 6 if scaled == "Div" else 1 / 6}
    found = judge.model(graph(nodes, constants, (2, 9)), x=3 * normal(2, 9))
    assert found.ops == ("HARD_SWISH",)
    assert found.decibels > 120


def test_a_bias_goes_into_the_product(judge: Any) -> None:
    nodes = [helper.make_node("MatMul", ["x", "w"], ["p"]), helper.make_node("Add", ["b", "p"], ["s"])]
    nodes.append(helper.make_node("Relu", ["s"], ["y"]))
    found = judge.model(graph(nodes, {"w": normal(4, 3), "b": normal(3, seed=1)}, (2, 5, 4)), x=normal(2, 5, 4))
    assert found.ops == ("FULLY_CONNECTED",)
    assert found.decibels > 120


def test_a_turned_matrix_is_read_as_it_is(judge: Any) -> None:
    nodes = [
        helper.make_node("Transpose", ["k"], ["t"], perm=[0, 1, 3, 2]),
        helper.make_node("MatMul", ["x", "t"], ["y"]),
    ]
    model = graph(nodes, {}, (1, 2, 5, 4), k=(1, 2, 6, 4))
    found = judge.model(model, x=normal(1, 2, 5, 4), k=normal(1, 2, 6, 4, seed=1))
    assert found.ops == ("BATCH_MATMUL",)
    assert found.decibels > 120


EINSUMS = {
    "bij,bjk->bik": [(2, 3, 4), (2, 4, 5)],
    "bhqd,bhkd->bhqk": [(2, 3, 4, 5), (2, 3, 6, 5)],
    "bqhd,bkhd->bhqk": [(2, 4, 3, 5), (2, 6, 3, 5)],
    "...ij,jk->...ik": [(2, 3, 4), (4, 5)],
    "ij->ji": [(3, 4)],
    "ij->i": [(3, 4)],
    "i,j->ij": [(3,), (4,)],
    "bij,bij->b": [(2, 3, 4), (2, 3, 4)],
}


@pytest.mark.parametrize("equation", EINSUMS)
def test_einsum(judge: Any, equation: str) -> None:
    first, *others = EINSUMS[equation]
    names = ["x", "k"][: 1 + len(others)]
    model = graph(
        [helper.make_node("Einsum", names, ["y"], equation=equation)], {}, first, **({"k": others[0]} if others else {})
    )
    feed = {name: normal(*shape, seed=i) for i, (name, shape) in enumerate(zip(names, EINSUMS[equation], strict=True))}
    assert judge.model(model, **feed).decibels > 120


@pytest.mark.slow
@given(st.lists(st.tuples(st.integers(1, 3), st.booleans(), st.booleans()), min_size=1, max_size=7))
def test_axes_that_broadcast_alike_are_joined(axes: list[tuple[int, bool, bool]]) -> None:
    one, other = ([size if kept else 1 for size, *flags in axes for kept in [flags[i]]] for i in (0, 1))
    (a, b), out = merged([one, other])
    x, y = np.arange(np.prod(one)).reshape(one), np.arange(np.prod(other)).reshape(other)
    np.testing.assert_array_equal((x.reshape(a) * 100 + y.reshape(b)).reshape(-1), (x * 100 + y).reshape(-1))
    assert list(np.broadcast_shapes(a, b)) == out


@given(st.permutations(range(6)), st.tuples(*[st.integers(1, 3)] * 6))
def test_axes_that_stay_side_by_side_are_joined(perm: list[int], shape: tuple[int, ...]) -> None:
    fewer, order = together(shape, perm)
    x = np.arange(np.prod(shape)).reshape(shape)
    np.testing.assert_array_equal(x.reshape(fewer).transpose(order).reshape(-1), x.transpose(perm).reshape(-1))


BOUNDS = st.tuples(st.integers(-9, 9), st.integers(-9, 9), st.sampled_from([-3, -2, -1, 1, 2, 3]))


@settings(max_examples=25, deadline=None)
@given(st.lists(BOUNDS, min_size=3, max_size=3))
def test_slices_of_any_step(judge: Any, bounds: list[tuple[int, int, int]]) -> None:
    x = normal(5, 6, 7)
    starts, ends, steps = (np.asarray(column, np.int64) for column in zip(*bounds, strict=True))
    counts = [len(range(*slice(*bound).indices(size))) for bound, size in zip(bounds, x.shape, strict=True)]
    if all(counts):  # an empty result is refused
        assert judge.one("Slice", x, starts, ends, np.arange(3), steps).decibels == np.inf


def test_an_unknown_operator_is_named_with_its_node(judge: Any) -> None:
    model = graph([helper.make_node("Det", ["x"], ["y"], name="volume")], {}, (2, 3, 3))
    with pytest.raises(StepFailed, match="operator Det of node volume"):
        judge.model(model, x=normal(2, 3, 3))


def test_claims_are_operators_of_onnx() -> None:
    known = {schema.name for schema in onnx.defs.get_all_schemas()}
    assert {*claimed()} <= known
    assert len(claimed()) > 130
