"""What removal is held against: the same graph with zeros where something was removed."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import Any

import numpy as np
import onnx
import onnx.parser
import onnx_ir as ir
import pytest
from numpy.typing import NDArray
from onnx import numpy_helper

from edgewright.graph.pruning import Group, Member, remove
from edgewright.passes._infer import open_infer

Feed = Mapping[str, NDArray[Any]]
TOLERANCE = 1e-4


def write(
    text: str,
    weights: Mapping[str, tuple[int, ...]],
    constants: Mapping[str, Any] = MappingProxyType({}),
    x: tuple[int, ...] = (0, 3, 8, 8),
    opset: int = 17,
    rows: int = 0,
) -> ir.Model:
    """Returns a graph written in the language of `onnx.parser`, from `x` to `y`, with noise for weights."""
    shape = ",".join(str(size) if size else f"n{i}" for i, size in enumerate(x))
    head = f'<ir_version: 8, opset_import: ["" : {opset}]> g ({"int64" if rows else "float"}[{shape}] x) => (float[] y)'
    proto = onnx.parser.parse_model(f"{head} {{ {text} }}")
    proto.graph.output[0].type.tensor_type.ClearField("shape")
    rng = np.random.default_rng(0)
    for name, size in weights.items():
        values = rng.standard_normal(size) * 0.5
        values = np.abs(values) + 0.5 if name.startswith("var") else values
        proto.graph.initializer.append(numpy_helper.from_array(values.astype(np.float32), name))
    for name, constant in constants.items():
        proto.graph.initializer.append(numpy_helper.from_array(np.asarray(constant), name))
    for node in proto.graph.node:
        node.name = node.output[0]
    return ir.from_proto(proto)


def masked(model: ir.Model, groups: Sequence[Group], kept: Mapping[str, Sequence[int]]) -> ir.Model:
    """Returns a copy in which every slice of what is not kept is zero."""
    copy = model.clone()
    for group in groups:
        gone = [i for i in range(group.size) if i not in set(kept.get(group.name, range(group.size)))]
        for member in group.members if gone else ():
            value = copy.graph.initializers[member.tensor]
            assert value.const_value is not None
            array = value.const_value.numpy().copy()
            np.moveaxis(array, member.axis, 0)[member.places[gone].ravel()] = 0
            value.const_value = ir.tensor(array, name=value.name)
    return copy


def check_exact(model: ir.Model, groups: Sequence[Group], feeds: Sequence[Feed], seed: int) -> ir.Model:
    """Removes random channels, compares with masks, and returns what is left."""
    rng = np.random.default_rng(seed)
    kept = {
        group.name: sorted(rng.choice(group.size, int(rng.integers(1, group.size + 1)), replace=False).tolist())
        for group in groups
    }
    small = model.clone()
    remove(small, kept)
    left, full = open_infer(small), open_infer(masked(model, groups, kept))
    for feed in feeds:
        expected, got = full(feed), left(feed)
        for key, value in expected.items():
            assert got[key].shape == value.shape
            worst = np.abs(got[key] - value).max() / max(np.abs(value).max(), 1e-6)
            assert worst <= TOLERANCE, f"{key} differs by {worst:.1e} with {kept}"
    for group in groups:
        for member in group.members:
            gone = len(member.places[0]) * (group.size - len(kept[group.name]))
            assert _length(small, member) <= _length(model, member) - gone
    return small


def _length(model: ir.Model, member: Member) -> int:
    shape = model.graph.initializers[member.tensor].shape
    assert shape is not None
    return int(shape[member.axis])  # type: ignore[arg-type]


@pytest.fixture
def exact() -> Callable[..., ir.Model]:
    """Returns `check_exact`."""
    return check_exact


@pytest.fixture
def written() -> Callable[..., ir.Model]:
    """Returns `write`."""
    return write
