"""Operators with parameters chosen at random, for graphs built one operator after the other."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from random import Random
from typing import Any

import numpy as np
from onnx import TensorProto

Builder = Any
Grow = Callable[[Builder, Random, str], "list[str] | None"]
NOT_FLOAT = ("quantize", "greater", "arg")


def _map(b: Builder, x: str) -> tuple[int, int, int, int] | None:
    shape = b.shapes[x]
    return shape if len(shape) == 4 and min(shape[2:]) >= 2 else None  # type: ignore[return-value]


def _conv(b: Builder, r: Random, x: str) -> list[str] | None:
    if (shape := _map(b, x)) is None:
        return None
    n, c, h, w = shape
    k, s = r.choice([1, 3]), r.choice([1, 1, 2])
    depthwise = r.random() < 0.3
    out = c if depthwise else r.choice([2, 3, 4, 6])
    weights = [b.weight(r, out, 1 if depthwise else c, k, k)]
    if r.random() < 0.5:
        weights.append(b.weight(r, out))
    p = k // 2
    size = [(d + 2 * p - k) // s + 1 for d in (h, w)]
    group = c if depthwise else 1
    return [
        b.op("Conv", [x, *weights], [n, out, *size], strides=[s, s], pads=[p] * 4, kernel_shape=[k, k], group=group)
    ]


def _conv_transpose(b: Builder, r: Random, x: str) -> list[str] | None:
    if (shape := _map(b, x)) is None:
        return None
    n, c, h, w = shape
    out = r.choice([2, 3])
    return [b.op("ConvTranspose", [x, b.weight(r, c, out, 2, 2)], [n, out, 2 * h, 2 * w], strides=[2, 2])]


def _pool(b: Builder, r: Random, x: str) -> list[str] | None:
    if (shape := _map(b, x)) is None:
        return None
    n, c, h, w = shape
    kind = r.choice(["MaxPool", "AveragePool", "GlobalAveragePool", "GlobalMaxPool"])
    if kind.startswith("Global"):
        return [b.op(kind, [x], [n, c, 1, 1])]
    return [b.op(kind, [x], [n, c, h // 2, w // 2], kernel_shape=[2, 2], strides=[2, 2])]


def _norm(b: Builder, r: Random, x: str) -> list[str] | None:
    if (shape := _map(b, x)) is None:
        return None
    c = shape[1]
    if r.random() < 0.5:
        return [b.op("InstanceNormalization", [x, b.weight(r, c), b.weight(r, c)], shape)]
    variance = b.const(np.linspace(0.5, 1.5, c).astype(np.float32))
    return [b.op("BatchNormalization", [x, b.weight(r, c), b.weight(r, c), b.weight(r, c), variance], shape)]


def _resize(b: Builder, r: Random, x: str) -> list[str] | None:
    if (shape := _map(b, x)) is None:
        return None
    n, c, h, w = shape
    if r.random() < 0.5:
        scales = b.const(np.array([1, 1, 2, 2], np.float32))
        return [b.op("Resize", [x, "", scales], [n, c, 2 * h, 2 * w], mode="nearest")]
    out = (n, c, h + 1, w + 2)
    return [b.op("Resize", [x, "", "", b.ints(*out)], out, mode="linear")]


def _depth(b: Builder, r: Random, x: str) -> list[str] | None:
    if (shape := _map(b, x)) is None:
        return None
    n, c, h, w = shape
    if c % 4 == 0:
        return [b.op("DepthToSpace", [x], [n, c // 4, 2 * h, 2 * w], blocksize=2, mode=r.choice(["DCR", "CRD"]))]
    return [b.op("SpaceToDepth", [x], [n, 4 * c, h // 2, w // 2], blocksize=2)] if h % 2 == w % 2 == 0 else None


def _unary(b: Builder, r: Random, x: str) -> list[str]:
    return [b.op(r.choice(["Relu", "Sigmoid", "Tanh", "HardSwish", "LeakyRelu"]), [x], b.shapes[x])]


def _clip(b: Builder, r: Random, x: str) -> list[str]:
    return [b.op("Clip", [x, b.const(np.float32(-0.5)), b.const(np.float32(2))], b.shapes[x])]


def _with_constant(b: Builder, r: Random, x: str) -> list[str]:
    shape = b.shapes[x]
    operand = [size if r.random() < 0.5 else 1 for size in shape][r.randrange(len(shape) + 1) :]
    pair = [x, b.weight(r, *operand)]
    if r.random() < 0.3:
        pair.reverse()
    return [b.op(r.choice(["Add", "Mul", "Sub", "Max"]), pair, shape)]


def _with_other(b: Builder, r: Random, x: str) -> list[str] | None:
    shape = b.shapes[x]
    others = [n for n, s in b.shapes.items() if n != x and _broadcast(s, shape) and not n.startswith(NOT_FLOAT)]
    return [b.op(r.choice(["Add", "Mul"]), [x, r.choice(others)], shape)] if others else None


def _broadcast(small: tuple[int, ...], large: tuple[int, ...]) -> bool:
    if len(small) > len(large):
        return False
    return all(a in (1, b) for a, b in zip(reversed(small), reversed(large), strict=False))


def _excite(b: Builder, r: Random, x: str) -> list[str] | None:
    if (shape := _map(b, x)) is None:
        return None
    n, c, _, _ = shape
    pooled = b.op("GlobalAveragePool", [x], [n, c, 1, 1])
    flat = b.op("Flatten", [pooled], [n, c])
    dense = b.op("Gemm", [flat, b.weight(r, c, c)], [n, c])
    gate = b.op("Reshape", [b.op("Sigmoid", [dense], [n, c]), b.ints(n, c, 1, 1)], [n, c, 1, 1])
    return [b.op("Mul", [x, gate], shape)]


def _concat(b: Builder, r: Random, x: str) -> list[str]:
    shape, axis = list(b.shapes[x]), r.randrange(len(b.shapes[x]))
    others = [n for n, s in b.shapes.items() if _fits(s, shape, axis) and not n.startswith(NOT_FLOAT)]
    other = r.choice(others)
    shape[axis] += b.shapes[other][axis]
    return [b.op("Concat", [x, other], shape, axis=axis - (len(shape) if r.random() < 0.3 else 0))]


def _fits(shape: Sequence[int], like: Sequence[int], axis: int) -> bool:
    return len(shape) == len(like) and all(
        a == b for i, (a, b) in enumerate(zip(shape, like, strict=True)) if i != axis
    )


def _split(b: Builder, r: Random, x: str) -> list[str] | None:
    shape, axis = list(b.shapes[x]), r.randrange(len(b.shapes[x]))
    if shape[axis] < 2:
        return None
    first = r.randrange(1, shape[axis])
    sizes = [first, shape[axis] - first]
    return b.ops("Split", [x, b.ints(*sizes)], [[*shape[:axis], s, *shape[axis + 1 :]] for s in sizes], axis=axis)


def _slice(b: Builder, r: Random, x: str) -> list[str]:
    shape, axis = list(b.shapes[x]), r.randrange(len(b.shapes[x]))
    start = r.randrange(shape[axis])
    given = [x, b.ints(start), b.ints(shape[axis])]
    if axis:
        given.append(b.ints(axis - (len(shape) if r.random() < 0.5 else 0)))
    shape[axis] -= start
    return [b.op("Slice", given, shape)]


def _pad(b: Builder, r: Random, x: str) -> list[str]:
    shape = b.shapes[x]
    low, high = ([r.choice([0, 0, 1]) for _ in shape] for _ in range(2))
    return [b.op("Pad", [x, b.ints(*low, *high)], [s + a + c for s, a, c in zip(shape, low, high, strict=True)])]


def _transpose(b: Builder, r: Random, x: str) -> list[str]:
    shape = b.shapes[x]
    perm = r.sample(range(len(shape)), len(shape))
    return [b.op("Transpose", [x], [shape[axis] for axis in perm], perm=perm)]


def _to_last(b: Builder, r: Random, x: str) -> list[str] | None:
    if (shape := _map(b, x)) is None:
        return None
    perm = r.choice([(0, 2, 3, 1), (0, 3, 1, 2)])
    return [b.op("Transpose", [x], [shape[axis] for axis in perm], perm=perm)]


def _merge(b: Builder, r: Random, x: str) -> list[str] | None:
    """A run of axes becomes one."""
    shape = b.shapes[x]
    if len(shape) < 2:
        return None
    first = r.randrange(len(shape) - 1)
    last = r.randrange(first + 2, len(shape) + 1)
    out = [*shape[:first], math.prod(shape[first:last]), *shape[last:]]
    return [b.op("Reshape", [x, b.ints(*out)], out)]


def _part(b: Builder, r: Random, x: str) -> list[str] | None:
    """An axis becomes two."""
    shape = b.shapes[x]
    axis = r.randrange(len(shape))
    factors = [f for f in range(2, shape[axis]) if shape[axis] % f == 0]
    if not factors or len(shape) > 5:
        return None
    factor = r.choice(factors)
    out = [*shape[:axis], factor, shape[axis] // factor, *shape[axis + 1 :]]
    return [b.op("Reshape", [x, b.ints(*out)], out)]


def _any_shape(b: Builder, r: Random, x: str) -> list[str]:
    rest, out = math.prod(b.shapes[x]), []
    while rest > 1 and len(out) < 3:
        out.append(r.choice([f for f in range(1, rest + 1) if rest % f == 0]))
        rest //= out[-1]
    out.append(rest)
    return [b.op("Reshape", [x, b.ints(*out)], out)]


def _shuffle(b: Builder, r: Random, x: str) -> list[str] | None:
    if (shape := _map(b, x)) is None or shape[1] % 2:
        return None
    n, c, h, w = shape
    parts = b.op("Reshape", [x, b.ints(n, 2, c // 2, h, w)], [n, 2, c // 2, h, w])
    turned = b.op("Transpose", [parts], [n, c // 2, 2, h, w], perm=[0, 2, 1, 3, 4])
    return [b.op("Reshape", [turned, b.ints(*shape)], shape)]


def _squeeze(b: Builder, r: Random, x: str) -> list[str] | None:
    shape = b.shapes[x]
    units = [axis for axis, size in enumerate(shape) if size == 1]
    if units and len(shape) > 2:
        axis = r.choice(units)
        return [b.op("Squeeze", [x, b.ints(axis)], [*shape[:axis], *shape[axis + 1 :]])]
    if len(shape) > 4:
        return None
    axis = r.randrange(len(shape) + 1)
    return [b.op("Unsqueeze", [x, b.ints(axis)], [*shape[:axis], 1, *shape[axis:]])]


def _reduce(b: Builder, r: Random, x: str) -> list[str] | None:
    shape = b.shapes[x]
    axes = sorted(r.sample(range(len(shape)), r.randrange(1, len(shape) + 1)))
    keep = r.choice([0, 1])
    if not keep and len(axes) == len(shape):
        return None
    out = [1 if i in axes else s for i, s in enumerate(shape) if keep or i not in axes]
    return [b.op(r.choice(["ReduceMean", "ReduceMax"]), [x, b.ints(*axes)], out, keepdims=keep)]


def _arg(b: Builder, r: Random, x: str) -> list[str]:
    shape, axis, keep = b.shapes[x], r.randrange(len(b.shapes[x])), r.choice([0, 1])
    out = [1 if i == axis else s for i, s in enumerate(shape) if keep or i != axis]
    found = b.op(r.choice(["ArgMax", "ArgMin"]), [x], out, axis=axis, keepdims=keep)
    return [b.op("Cast", [found], out, to=TensorProto.FLOAT)] if out else []


def _softmax(b: Builder, r: Random, x: str) -> list[str]:
    return [b.op(r.choice(["Softmax", "LogSoftmax"]), [x], b.shapes[x], axis=r.randrange(len(b.shapes[x])))]


def _layer_norm(b: Builder, r: Random, x: str) -> list[str]:
    shape = b.shapes[x]
    return [b.op("LayerNormalization", [x, b.weight(r, shape[-1])], shape, axis=-1)]


def _gather(b: Builder, r: Random, x: str) -> list[str] | None:
    shape, axis = b.shapes[x], r.randrange(len(b.shapes[x]))
    if r.random() < 0.3 and len(shape) > 1:
        index, inserted = b.const(np.int64(r.randrange(shape[axis]))), []
    else:
        inserted = r.choice([[2], [3], [1, 2]])
        picked = [r.randrange(shape[axis]) for _ in range(math.prod(inserted))]
        index = b.const(np.array(picked, np.int64).reshape(inserted))
    out = [*shape[:axis], *inserted, *shape[axis + 1 :]]
    return [b.op("Gather", [x, index], out, axis=axis)] if len(out) < 6 else None


def _tile(b: Builder, r: Random, x: str) -> list[str]:
    repeats = [r.choice([1, 1, 2]) for _ in b.shapes[x]]
    return [b.op("Tile", [x, b.ints(*repeats)], [s * c for s, c in zip(b.shapes[x], repeats, strict=True)])]


def _expand(b: Builder, r: Random, x: str) -> list[str]:
    out = [2 if size == 1 else size for size in b.shapes[x]]
    if len(out) < 4 and r.random() < 0.3:
        out = [2, *out]
    return [b.op("Expand", [x, b.ints(*out)], out)]


def _dense(b: Builder, r: Random, x: str) -> list[str] | None:
    shape = b.shapes[x]
    if len(shape) < 2:
        return None
    out, transposed = r.choice([2, 4, 6, 12]), r.choice([0, 1])
    if len(shape) == 2 and r.random() < 0.6:
        wide = [out, shape[1]] if transposed else [shape[1], out]
        given = [
            x,
            b.weight(r, *wide),
            *([b.weight(r, *r.choice([(out,), (1, out), (1,)]))] if r.random() < 0.5 else []),
        ]
        return [b.op("Gemm", given, [shape[0], out], transB=transposed)]
    return [b.op("MatMul", [x, b.weight(r, shape[-1], out)], [*shape[:-1], out])]


def _attend(b: Builder, r: Random, x: str) -> list[str] | None:
    shape = b.shapes[x]
    if len(shape) < 3:
        return None
    perm = [*range(len(shape) - 2), len(shape) - 1, len(shape) - 2]
    turned = b.op("Transpose", [x], [shape[axis] for axis in perm], perm=perm)
    pair = [turned, x] if r.random() < 0.5 else [x, turned]
    size = shape[-1] if pair[0] == turned else shape[-2]
    scores = b.op("MatMul", pair, [*shape[:-2], size, size])
    return [b.op("Mul", [scores, b.const(np.float32(0.1))], b.shapes[scores])]


def _where(b: Builder, r: Random, x: str) -> list[str]:
    test = b.op("Greater", [x, b.const(np.float32(0.1))], b.shapes[x])
    return [b.op("Where", [test, x, b.weight(r, b.shapes[x][-1])], b.shapes[x])]


def _head(b: Builder, r: Random, x: str) -> list[str] | None:
    """What YOLO does with anchors."""
    if (shape := _map(b, x)) is None or shape[1] % 2:
        return None
    n, c, h, w = shape
    parts = b.op("Reshape", [x, b.ints(n, 2, c // 2, h, w)], [n, 2, c // 2, h, w])
    turned = b.op("Transpose", [parts], [n, 2, h, w, c // 2], perm=[0, 1, 3, 4, 2])
    gate = b.op("Sigmoid", [turned], b.shapes[turned])
    return [b.op("Reshape", [gate, b.ints(n, -1, c // 2)], [n, 2 * h * w, c // 2])]


def _quantised_conv(b: Builder, r: Random, x: str) -> list[str] | None:
    if (shape := _map(b, x)) is None:
        return None
    n, c, h, w = shape
    out = r.choice([2, 4])
    return [b.op("Conv", [x, b.quantised_weight(r, out, c, 1, 1)], [n, out, h, w], kernel_shape=[1, 1])]


def _quantised_dense(b: Builder, r: Random, x: str) -> list[str] | None:
    shape = b.shapes[x]
    if len(shape) < 3:
        return None
    flat = [shape[0], math.prod(shape[1:])]
    x = b.op("Flatten", [x], flat, axis=1)
    if r.random() < 0.5:
        weights = b.quantised_weight(r, 4, flat[1], axis=r.choice([0, 1]))
        return [b.op("Gemm", [x, weights, b.weight(r, 4)], [flat[0], 4], transB=1)]
    return [b.op("MatMul", [x, b.quantised_weight(r, flat[1], 4, axis=r.choice([0, 1]))], [flat[0], 4])]


OPERATORS: list[Grow] = [
    _conv, _conv, _conv, _conv_transpose, _pool, _norm, _resize, _depth, _unary, _clip, _with_constant, _with_other,
    _with_other, _excite, _concat, _split, _slice, _pad, _transpose, _to_last, _merge, _merge, _part, _any_shape,
    _shuffle, _squeeze, _reduce, _arg, _softmax, _layer_norm, _gather, _tile, _expand, _dense, _dense, _attend, _where,
    _head, _quantised_conv, _quantised_dense,
]  # fmt: skip
