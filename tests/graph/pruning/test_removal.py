"""Channels are found, and taken out exactly: one small graph for every way in which they depend on one another."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

import numpy as np
import onnx_ir as ir
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from edgewright.graph.pruning import Group, find_groups, prepare

Exact = Callable[..., ir.Model]
Written = Callable[..., ir.Model]


@dataclass(frozen=True)
class Graph:
    """A graph as text.

    Attributes:
        text: Nodes in the language of `onnx.parser`, from `x` to `y`; they are named as their first result.
        weights: Name -> shape, filled with noise.
        groups: Name -> size, and `heads` behind it where they are heads.
        x: Shape of the input, 0 where it is free.
        constants: Integers.
        opset: Of the graph.
        rows: `x` holds row numbers below it, instead of floats.
    """

    text: str
    weights: Mapping[str, tuple[int, ...]]
    groups: Mapping[str, Any]
    x: tuple[int, ...] = (0, 3, 8, 8)
    constants: Mapping[str, Any] = field(default_factory=dict)
    opset: int = 17
    rows: int = 0


def pad(kernel: int = 3) -> str:
    half = kernel // 2
    return f"<pads=[{half},{half},{half},{half}]>"


HEAD = "p = GlobalAveragePool(last)  f = Flatten(p)  y = Gemm<transB=1>(f, head_w, head_b)"
NORM = "gamma, beta, mean, var"


def head(channels: int) -> dict[str, tuple[int, ...]]:
    return {"head_w": (5, channels), "head_b": (5,)}


def norm(channels: int, mark: str = "") -> dict[str, tuple[int, ...]]:
    return {f"{name}{mark}": (channels,) for name in ("gamma", "beta", "mean", "var")}


GRAPHS = {
    "residual": Graph(
        f"c1 = Conv{pad()}(x, w1)  n1 = BatchNormalization(c1, {NORM})  r1 = Relu(n1)  c2 = Conv{pad()}(r1, w2, b2)"
        f" r2 = Relu(c2)  c3 = Conv{pad()}(r2, w3)  s = Add(c3, r1)  last = Relu(s)  {HEAD}",
        {"w1": (8, 3, 3, 3), **norm(8), "w2": (6, 8, 3, 3), "b2": (6,), "w3": (8, 6, 3, 3), **head(8)},
        {"c1": 8, "c2": 6},
    ),
    "depthwise with multiplier": Graph(
        f"c1 = Conv(x, w1)  c2 = Conv<pads=[1,1,1,1], group=6>(c1, w2, b2)  q = PRelu(c2, slope)"
        f" last = Clip(q, lo, hi) {HEAD}",
        {"w1": (6, 3, 1, 1), "w2": (12, 1, 3, 3), "b2": (12,), "slope": (12, 1, 1), **head(12)},
        {"c1": 6},
        constants={"lo": np.float32(0), "hi": np.float32(6)},
    ),
    "many groups": Graph(
        f"c1 = Conv(x, w1)  c2 = Conv<pads=[1,1,1,1], group=4>(c1, w2, b2)  last = Conv(c2, w3) {HEAD}",
        {"w1": (8, 3, 1, 1), "w2": (12, 2, 3, 3), "b2": (12,), "w3": (7, 12, 1, 1), **head(7)},
        {"c1": (4, "heads"), "last": 7},
    ),
    "few groups": Graph(
        f"c1 = Conv(x, w1)  c2 = Conv<pads=[1,1,1,1], group=2>(c1, w2, b2)  last = Conv(c2, w3) {HEAD}",
        {"w1": (8, 3, 1, 1), "w2": (12, 4, 3, 3), "b2": (12,), "w3": (7, 12, 1, 1), **head(7)},
        {"c1": 4, "c2": 6, "last": 7},
    ),
    "squeeze and excitation": Graph(
        f"c1 = Conv(x, w1)  h = HardSwish(c1)  g = GlobalAveragePool(h)  c2 = Conv(g, w2, b2)  r2 = Relu(c2)"
        f" c3 = Conv(r2, w3, b3)  t = HardSigmoid(c3)  last = Mul(h, t) {HEAD}",
        {"w1": (8, 3, 1, 1), "w2": (4, 8, 1, 1), "b2": (4,), "w3": (8, 4, 1, 1), "b3": (8,), **head(8)},
        {"c1": 8, "c2": 4},
    ),
    "concatenation": Graph(
        f"c1 = Conv(x, w1)  c2 = Conv{pad()}(c1, w2)  j = Concat<axis=1>(c1, c2)"
        f" n = BatchNormalization(j, {NORM})  r = Relu(n)"
        f" c3 = Conv{pad()}(r, w3)  last = Concat<axis=-3>(j, c3) {HEAD}",
        {"w1": (4, 3, 1, 1), "w2": (3, 4, 3, 3), **norm(7), "w3": (5, 7, 3, 3), **head(12)},
        {"c1": 4, "c2": 3, "c3": 5},
    ),
    "split in parts": Graph(
        f"c1 = Conv(x, w1)  a, b = Split<axis=1>(c1, parts)  c2 = Conv(b, w2)  last = Concat<axis=1>(a, b, c2) {HEAD}",
        {"w1": (8, 3, 1, 1), "w2": (4, 5, 1, 1), **head(12)},
        {"c1": 3, "c1#2": 5, "c2": 4},
        constants={"parts": np.array([3, 5])},
    ),
    "split in equal parts": Graph(
        f"c1 = Conv(x, w1)  a, b = Split<axis=1, num_outputs=2>(c1)  last = Concat<axis=1>(b, a) {HEAD}",
        {"w1": (8, 3, 1, 1), **head(8)},
        {"c1": 4, "c1#2": 4},
        opset=18,
    ),
    "channel shuffle": Graph(
        f"c1 = Conv(x, w1)  a = Slice(c1, s0, s4, one)  b = Slice(c1, s4, end, one)  c2 = Conv(b, w2)"
        f" j = Concat<axis=1>(a, c2)"
        f" v = Reshape(j, split)  t = Transpose<perm=[0,2,1,3,4]>(v)  last = Reshape(t, join) {HEAD}",
        {"w1": (8, 3, 1, 1), "w2": (4, 4, 1, 1), **head(8)},
        {"c1": 4, "c1#2": 4},
        constants={
            "s0": np.array([0]),
            "s4": np.array([4]),
            "end": np.array([2**62]),
            "one": np.array([1]),
            "split": np.array([0, 2, 4, 8, 8]),
            "join": np.array([0, -1, 8, 8]),
        },
    ),
    "flattened": Graph(
        "c1 = Conv(x, w1, b1)  p = MaxPool<kernel_shape=[4,4], strides=[4,4]>(c1)  f = Reshape(p, flat)"
        " m = MatMul(f, w2)"
        " a = Add(m, b2)  r = Relu(a)  y = MatMul(r, w3)",
        {"w1": (6, 3, 1, 1), "b1": (6,), "w2": (24, 7), "b2": (7,), "w3": (7, 5)},
        {"c1": 6, "m": 7},
        constants={"flat": np.array([-1, 24])},
    ),
    "channels last": Graph(
        "c1 = Conv(x, w1)  t = Transpose<perm=[0,2,3,1]>(c1)  m = Mul(t, k)  f = Flatten(m)  y = Gemm(f, w2)",
        {"w1": (6, 3, 1, 1), "k": (6,), "w2": (384, 5)},
        {"c1": 6},
    ),
    "transposed convolution": Graph(
        f"c1 = Conv(x, w1)  u = ConvTranspose<strides=[2,2], kernel_shape=[2,2]>(c1, w2, b2)"
        f" v = ConvTranspose<group=3, strides=[2,2], kernel_shape=[2,2]>(u, w3, b3)  last = Conv(v, w4) {HEAD}",
        {
            "w1": (4, 3, 1, 1),
            "w2": (4, 6, 2, 2),
            "b2": (6,),
            "w3": (6, 2, 2, 2),
            "b3": (6,),
            "w4": (5, 6, 1, 1),
            **head(5),
        },
        {"c1": 4, "u": (3, "heads"), "last": 5},
    ),
    "transposed convolution in two groups": Graph(
        f"c1 = Conv(x, w1)  v = ConvTranspose<group=2, strides=[2,2], kernel_shape=[2,2]>(c1, w3, b3)"
        f" last = Conv(v, w4) {HEAD}",
        {"w1": (8, 3, 1, 1), "w3": (8, 5, 2, 2), "b3": (10,), "w4": (5, 10, 1, 1), **head(5)},
        {"c1": 4, "v": 5, "last": 5},
    ),
    "upsampled": Graph(
        f'c1 = Conv(x, w1)  z = Resize<mode="nearest">(c1, , , sizes)  last = Conv(z, w2) {HEAD}',
        {"w1": (6, 3, 1, 1), "w2": (5, 6, 1, 1), **head(5)},
        {"c1": 6, "last": 5},
        x=(2, 3, 8, 8),
        constants={"sizes": np.array([2, 6, 16, 16])},
    ),
    "depth to space": Graph(
        f"c1 = Conv(x, w1)  d = DepthToSpace<blocksize=2>(c1)  c2 = Conv(d, w2)"
        f' e = DepthToSpace<blocksize=2, mode="CRD">(c2)'
        f" s = SpaceToDepth<blocksize=2>(e)  last = Conv(s, w3) {HEAD}",
        {"w1": (12, 3, 1, 1), "w2": (16, 3, 1, 1), "w3": (5, 16, 1, 1), **head(5)},
        {"c1": 3, "c2": (4, "heads"), "last": 5},
    ),
    "padded shortcut": Graph(
        f"c1 = Conv(x, w1)  z = Pad(c1, amounts)  c2 = Conv(x, w2)  last = Add(z, c2) {HEAD}",
        {"w1": (4, 3, 1, 1), "w2": (6, 3, 1, 1), **head(6)},
        {"c1": 4},
        constants={"amounts": np.array([0, 1, 0, 0, 0, 1, 0, 0])},
    ),
    "norms of instances and groups": Graph(
        f"c1 = Conv(x, w1)  i = InstanceNormalization(c1, g1, h1)  c2 = Conv(i, w2)  z = Reshape(c2, grouped)"
        f" k = InstanceNormalization(z, ones, zeros)  b = Reshape(k, back)  m = Mul(b, g2)  last = Add(m, h2) {HEAD}",
        {
            "w1": (6, 3, 1, 1),
            "g1": (6,),
            "h1": (6,),
            "w2": (8, 6, 1, 1),
            "ones": (4,),
            "zeros": (4,),
            "g2": (8, 1, 1),
            "h2": (8, 1, 1),
            **head(8),
        },
        {"c1": 6, "c2": (4, "heads")},
        constants={"grouped": np.array([0, 4, -1]), "back": np.array([-1, 8, 8, 8])},
    ),
    "group norm": Graph(
        f"c1 = Conv(x, w1)  last = GroupNormalization<num_groups=4>(c1, g1, h1) {HEAD}",
        {"w1": (8, 3, 1, 1), "g1": (8,), "h1": (8,), **head(8)},
        {"c1": (4, "heads")},
        opset=21,
    ),
    "normalised by length": Graph(
        f"c1 = Conv(x, w1)  l = ReduceL2<axes=[1], keepdims=1>(c1)  m = Clip(l, tiny)  s = Shape(c1)  e = Expand(m, s)"
        f" d = Div(c1, e)  last = Mul(d, scale) {HEAD}",
        {"w1": (8, 3, 1, 1), "scale": (1, 8, 1, 1), **head(8)},
        {"c1": 8},
        constants={"tiny": np.float32(1e-3)},
    ),
    "attention": Graph(
        "e = Gather(table, x)  q0 = MatMul(e, wq)  q1 = Add(q0, bq)  q2 = Reshape(q1, heads)"
        " q = Transpose<perm=[0,2,1,3]>(q2)"
        " k0 = MatMul(e, wk)  k2 = Reshape(k0, heads)  k = Transpose<perm=[0,2,3,1]>(k2)"
        " v0 = MatMul(e, wv)  v2 = Reshape(v0, heads)  v = Transpose<perm=[0,2,1,3]>(v2)"
        " s = MatMul(q, k)  d = Div(s, root)  a = Softmax(d)  o = MatMul(a, v)  o1 = Transpose<perm=[0,2,1,3]>(o)"
        " o2 = Reshape(o1, joined)  o3 = MatMul(o2, wo)  r = Add(o3, e)  n = LayerNormalization(r, g)"
        " u = MatMul(n, up)  ub = Add(u, bu)  z = Gelu(ub)  w = MatMul(z, down)  y = Add(w, n)",
        {
            "table": (30, 12),
            **dict.fromkeys(("wq", "wk", "wv", "wo"), (12, 12)),
            "bq": (12,),
            "g": (12,),
            "up": (12, 20),
            "bu": (20,),
            "down": (20, 12),
        },
        {"q0": (3, "heads"), "u": 20},
        x=(0, 7),
        rows=30,
        constants={"heads": np.array([0, 0, 3, 4]), "joined": np.array([0, 0, 12]), "root": np.float32(2)},
        opset=20,
    ),
    "attention with one projection": Graph(
        "e = Gather(table, x)  p = MatMul(e, w)  r = Reshape(p, five)  t = Transpose<perm=[2,0,3,1,4]>(r)"
        " q = Gather<axis=0>(t, i0)  k = Gather<axis=0>(t, i1)  v = Gather<axis=0>(t, i2)"
        " kt = Transpose<perm=[0,1,3,2]>(k)"
        " s = MatMul(q, kt)  a = Softmax(s)  o = MatMul(a, v)  o1 = Transpose<perm=[0,2,1,3]>(o)"
        " o2 = Reshape(o1, joined)"
        " y = MatMul(o2, wo)",
        {"table": (30, 12), "w": (12, 36), "wo": (12, 5)},
        {"p": (3, "heads"), "e": 12},
        x=(0, 7),
        rows=30,
        constants={
            "five": np.array([0, 0, 3, 3, 4]),
            "joined": np.array([0, 0, -1]),
            **{f"i{i}": np.int64(i) for i in range(3)},
        },
    ),
    "sizes that the graph computes": Graph(
        f"c1 = Conv(x, w1)  s = Shape(c1)  n = Gather(s, i0)  h = Gather(s, i2)  n1 = Unsqueeze(n, axis)"
        f" h1 = Unsqueeze(h, axis)"
        f" t = Concat<axis=0>(n1, two, four, h1, minus)  v = Reshape(c1, t)  w = Transpose<perm=[0,2,1,3,4]>(v)"
        f" t2 = Concat<axis=0>(n1, eight, h1, minus)  last = Reshape(w, t2) {HEAD}",
        {"w1": (8, 3, 1, 1), **head(8)},
        {"c1": 4},
        x=(0, 3, 0, 8),
        constants={
            "i0": np.int64(0),
            "i2": np.int64(2),
            "axis": np.array([0]),
            "two": np.array([2]),
            "four": np.array([4]),
            "eight": np.array([8]),
            "minus": np.array([-1]),
        },
    ),
    "any length": Graph(
        "e = Gather(table, x)  s = Shape<start=1>(x)  o = Slice(places, zero, s, zero)  a = Add(e, o)"
        "  u = MatMul(a, up)  r = Relu(u)  y = MatMul(r, down)",
        {"table": (30, 12), "places": (20, 12), "up": (12, 10), "down": (10, 5)},
        {"e": 12, "u": 10},
        x=(0, 0),
        rows=30,
        constants={"zero": np.array([0])},
    ),
    "recurrent": Graph(
        "c1 = Conv<pads=[1,1]>(x, w1)  t = Transpose<perm=[2,0,1]>(c1)"
        ' l, lh = LSTM<hidden_size=6, direction="bidirectional">(t, lw, lr, lb)  l1 = Transpose<perm=[0,2,1,3]>(l)'
        " l2 = Reshape(l1, flat)  g, gh = GRU<hidden_size=5, linear_before_reset=1>(l2, gw, gr, gb)"
        " q = Squeeze(g, axis)"
        " y = MatMul(q, head)",
        {
            "w1": (4, 3, 3),
            "lw": (2, 24, 4),
            "lr": (2, 24, 6),
            "lb": (2, 48),
            "gw": (1, 15, 12),
            "gr": (1, 15, 5),
            "gb": (1, 30),
            "head": (5, 7),
        },
        {"c1": 4, "l": 6, "g": 5},
        x=(0, 3, 9),
        constants={"flat": np.array([0, 0, -1]), "axis": np.array([1])},
    ),
    "chosen channels": Graph(
        f"c1 = Conv(x, w1)  a = Gather<axis=1>(c1, order)  b = Concat<axis=1>(a, c1)  last = Conv(b, w2) {HEAD}",
        {"w1": (6, 3, 1, 1), "w2": (4, 9, 1, 1), **head(4)},
        {"c1": 3, "c1#2": 3, "last": 4},
        constants={"order": np.array([4, 0, -1])},
    ),
}


@lru_cache
def built(name: str, written: Written) -> tuple[ir.Model, tuple[Group, ...]]:
    graph = GRAPHS[name]
    model = prepare(written(graph.text, graph.weights, graph.constants, graph.x, graph.opset, graph.rows))
    return model, find_groups(model)


def feeds(name: str) -> list[dict[str, Any]]:
    graph, rng = GRAPHS[name], np.random.default_rng(1)
    shapes = [[size or (batch if i == 0 else 16) for i, size in enumerate(graph.x)] for batch in (2, 5)]
    if graph.rows:
        return [{"x": rng.integers(0, graph.rows, shape)} for shape in shapes]
    return [{"x": rng.standard_normal(shape).astype(np.float32)} for shape in shapes[: 2 if graph.x[0] == 0 else 1]]


@pytest.mark.parametrize("name", GRAPHS)
def test_groups(name: str, written: Written) -> None:
    wanted = GRAPHS[name].groups
    expected = {key: found if isinstance(found, tuple) else (found, "channels") for key, found in wanted.items()}
    assert {group.name: (group.size, group.kind) for group in built(name, written)[1]} == expected


@pytest.mark.parametrize("name", GRAPHS)
def test_removal_is_exact(name: str, written: Written, exact: Exact) -> None:
    exact(*built(name, written), feeds(name)[-1:], 3)


@pytest.mark.slow
@pytest.mark.parametrize("name", GRAPHS)
@settings(max_examples=3, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(seed=st.integers(0, 10_000))
def test_any_removal_is_exact(name: str, written: Written, exact: Exact, seed: int) -> None:
    exact(*built(name, written), feeds(name), seed)


def test_members_hold_every_slice_of_a_channel(written: Written) -> None:
    (group, _) = built("residual", written)[1]
    held = {(member.tensor, member.axis): member.role for member in group.members}
    makes, reads = {("w1", 0), ("w3", 0)}, {("w2", 1), ("head_w", 1)}
    assert {key for key, role in held.items() if role == "makes"} == makes
    assert {key for key, role in held.items() if role == "reads"} == reads
    assert {key[0] for key, role in held.items() if role == "follows"} == {"gamma", "beta", "mean", "var"}
    assert group.producers == ("c1", "c3")
    assert group.consumers == ("c2", "y")


def test_a_flattened_channel_is_several_features(written: Written) -> None:
    group = built("flattened", written)[1][0]
    (reads,) = (member for member in group.members if member.role == "reads")
    assert reads.places.tolist() == [[4 * i + j for j in range(4)] for i in range(6)]
