"""Graphs built at random, one operator after the other, and what ONNX Runtime makes of them before and after."""

from __future__ import annotations

import importlib.util
import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper

from edgewright.graph.channels_last import lowered, original, to_channels_last
from edgewright.graph.shapes import infer_shapes, static_shape

_SPEC = importlib.util.spec_from_file_location("random_operators", Path(__file__).with_name("_operators.py"))
assert _SPEC is not None
assert _SPEC.loader is not None
_OPERATORS = importlib.util.module_from_spec(_SPEC)
_SPEC.loader.exec_module(_OPERATORS)
OPERATORS = _OPERATORS.OPERATORS
STEP = 0.05
"""Scale of the coarsest quantiser of activations."""
LIMIT = 4096
"""Elements of a value: graphs stay small."""


@dataclass
class Builder:
    """A graph in the making; values have static shapes."""

    opset: int = 18
    nodes: list[Any] = field(default_factory=list)
    weights: list[Any] = field(default_factory=list)
    inputs: list[Any] = field(default_factory=list)
    shapes: dict[str, tuple[int, ...]] = field(default_factory=dict)

    def input(self, *shape: int) -> str:
        name = f"x{len(self.inputs)}"
        self.inputs.append(helper.make_tensor_value_info(name, TensorProto.FLOAT, shape))
        self.shapes[name] = shape
        return name

    def const(self, array: Any) -> str:
        name = f"w{len(self.weights)}"
        self.weights.append(numpy_helper.from_array(np.asarray(array), name))
        return name

    def weight(self, rng: Random, *shape: int) -> str:
        fan = max(1, math.prod(shape[1:]))
        values = np.random.default_rng(rng.getrandbits(32)).standard_normal(shape) / math.sqrt(fan)
        return self.const(values.astype(np.float32))

    def ints(self, *values: int) -> str:
        return self.const(np.array(values, np.int64))

    def op(self, op_type: str, inputs: Sequence[str], shape: Sequence[int], **attributes: Any) -> str:
        return self.ops(op_type, inputs, [shape], **attributes)[0]

    def ops(self, op_type: str, inputs: Sequence[str], shapes: Sequence[Sequence[int]], **attributes: Any) -> list[str]:
        base = f"{op_type.lower()}{len(self.nodes)}"
        names = [f"{base}_{i}" for i in range(len(shapes))] if len(shapes) > 1 else [base]
        self.nodes.append(helper.make_node(op_type, list(inputs), names, base, **attributes))
        self.shapes.update(zip(names, (tuple(shape) for shape in shapes), strict=True))
        return names

    def quantised(self, name: str, scale: float = STEP, zero: int = 3) -> str:
        """A pair of quantisers behind `name`."""
        shape = self.shapes[name]
        parameters = [self.const(np.float32(scale)), self.const(np.int8(zero))]
        integers = self.op("QuantizeLinear", [name, *parameters], shape)
        return self.op("DequantizeLinear", [integers, *parameters], shape)

    def quantised_weight(self, rng: Random, *shape: int, axis: int = 0) -> str:
        """int8 weights behind a DequantizeLinear with a scale per channel."""
        values = np.random.default_rng(rng.getrandbits(32))
        stored = self.const(values.integers(-127, 128, shape).astype(np.int8))
        fan = max(1, math.prod(shape) // shape[axis])
        scales = self.const((values.uniform(0.5, 1.5, shape[axis]) / 70 / math.sqrt(fan)).astype(np.float32))
        zeros = self.const(np.zeros(shape[axis], np.int8))
        return self.op("DequantizeLinear", [stored, scales, zeros], shape, axis=axis)

    def model(self, *outputs: str) -> ir.Model:
        given = [helper.make_tensor_value_info(name, TensorProto.UNDEFINED, None) for name in outputs]
        for value in given:
            value.ClearField("type")
        graph = helper.make_graph(self.nodes, "net", self.inputs, given, self.weights)
        proto = helper.make_model(graph, opset_imports=[helper.make_opsetid("", self.opset)], ir_version=9)
        proto = onnx.shape_inference.infer_shapes(proto, strict_mode=True, data_prop=True)
        model = infer_shapes(ir.from_proto(proto))
        for value in (value for node in model.graph for value in node.outputs):
            assert static_shape(value) == self.shapes[value.name or ""], value.name
        return model


def run(model: ir.Model, *, all_values: bool = False) -> dict[str, Any]:
    """What ONNX Runtime computes, without its own rewriting, from seeded inputs; with `all_values` of every node."""
    if all_values:
        model = model.clone()
        named = {value.name for value in model.graph.outputs}
        model.graph.outputs.extend(v for node in model.graph for v in node.outputs if v.name not in named and v.uses())
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.log_severity_level = 1, 3
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = onnxruntime.InferenceSession(
        ir.to_proto(model).SerializeToString(), options, providers=["CPUExecutionProvider"]
    )
    names = [value.name for value in session.get_outputs()]
    return dict(zip(names, session.run(names, feeds(model)), strict=True))


def feeds(model: ir.Model) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for index, value in enumerate(model.graph.inputs):
        rng, shape = np.random.default_rng(index), _first_shape(value)
        dtype = value.dtype.numpy() if value.dtype is not None else np.float32
        whole = np.issubdtype(dtype, np.integer)
        array = rng.integers(0, 2, shape) if whole else rng.standard_normal(shape)
        found[value.name or ""] = _stored(array.astype(dtype), value)
    return found


def _first_shape(value: ir.Value) -> tuple[int, ...]:
    shape, perm = static_shape(value) or (), _perm(value)
    return tuple(shape[perm.index(axis)] for axis in range(len(shape))) if perm else shape


def _stored(array: Any, value: ir.Value) -> Any:
    perm = _perm(value)
    return np.ascontiguousarray(array.transpose(perm)) if perm else array


def _perm(value: ir.Value) -> tuple[int, ...]:
    return tuple(int(axis) for axis in value.metadata_props.get("edgewright.perm", "").split())


def solved(model: ir.Model, **moved: Any) -> ir.Model:
    """A solved copy."""
    copy = model.clone()
    to_channels_last(copy, **moved)
    return copy


def assert_same(before: ir.Model, after: ir.Model, *, tolerance: float = 2e-5, steps: int = 0) -> int:
    """Holds every value that kept its name against what it was, layouts undone; returns how many there were.

    Sums in another order differ in their last bit; `steps` of a quantiser are what that may grow to.
    """
    plain = lowered(after)
    values = {v.name: v for v in (*(v for node in plain.graph for v in node.outputs), *plain.graph.outputs)}
    first, second = run(before, all_values=True), run(plain, all_values=True)
    for value in before.graph.outputs:
        assert value.name in second, value.name
    compared = 0
    for name in first.keys() & second.keys():
        expected, found = first[name], original(second[name], values[name].metadata_props)
        assert found.shape == expected.shape, name
        assert found.dtype == expected.dtype, name
        if expected.size:
            scale = max(1.0, float(np.abs(expected.astype(np.float64)).max()))
            distance = float(np.abs(found.astype(np.float64) - expected.astype(np.float64)).max())
            step = 1.0 if np.issubdtype(expected.dtype, np.integer) else STEP
            assert distance <= tolerance * scale + steps * step, name
        compared += 1
    return compared


def transposes(model: ir.Model) -> list[ir.Node]:
    return [node for node in model.graph if node.op_type == "Transpose"]


@pytest.fixture
def tools() -> Any:
    """The functions of this file; test modules import nothing from each other."""
    from types import SimpleNamespace

    return SimpleNamespace(
        Builder=Builder, run=run, solved=solved, assert_same=assert_same, transposes=transposes, grow=grow, feeds=feeds
    )


def grow(recipe: Sequence[tuple[int, int]], *, quantise: bool = False) -> ir.Model:
    """A graph from numbers: each pair chooses an operator and seeds its parameters."""
    builder = Builder()
    rng = Random(0 if not recipe else recipe[0][1])
    values = [
        builder.input(rng.choice([1, 1, 2]), rng.choice([2, 3, 4, 6]), rng.choice([4, 6, 5]), rng.choice([4, 6, 7]))
    ]
    for choice, seed in recipe:
        rng = Random(seed)
        at = values[-1] if rng.random() < 0.6 else rng.choice(values)
        made = OPERATORS[choice % len(OPERATORS)](builder, rng, at)
        kept = [n for n in made or [] if math.prod(builder.shapes[n]) <= LIMIT and 0 not in builder.shapes[n]]
        values += [builder.quantised(name, rng.choice([0.02, STEP])) for name in kept] if quantise else kept
    read = {name for node in builder.nodes for name in node.input}
    ends = [name for name in values[1:] if name not in read]
    if not ends:
        ends = [builder.op("Relu", [values[-1]], builder.shapes[values[-1]])]
    extra = Random(len(recipe)).choice(values[1:]) if len(values) > 1 else None
    return builder.model(*dict.fromkeys([*ends, *([extra] if extra and len(recipe) % 3 == 0 else [])]))
