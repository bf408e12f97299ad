"""Operators that take every element alone, or normalise within a channel."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from edgewright.graph.pruning.atoms import moves, still
from edgewright.graph.pruning.products import broadcast
from edgewright.graph.pruning.scene import Scene, ints, operand, words
from edgewright.graph.quantisers import numbers

KEEPS_ZERO = words(
    """
    Abs Asin Asinh Atan Atanh Cast CastLike Ceil Celu Dropout Elu Erf Floor Gelu HardSwish Identity
    LeakyRelu Mish Neg PRelu Relu Round Selu Shrink Sign Sin Sinh Softsign Sqrt Swish Tan Tanh
    ThresholdedRelu
    """
)
OTHERS = words(
    """
    Acos Acosh Clip Cos Cosh Exp HardSigmoid IsInf IsNaN Log Not Reciprocal Sigmoid Softplus
    """
)
REDUCING = words(
    """
    ArgMax ArgMin ReduceL1 ReduceL2 ReduceLogSum ReduceLogSumExp ReduceMax ReduceMean ReduceMin ReduceProd ReduceSum
    ReduceSumSquare
    """
)
UNARY = KEEPS_ZERO | OTHERS
JOINING = words(
    """
    Add And Div Equal Greater GreaterOrEqual Less LessOrEqual Max Mean Min Mod Mul Or Pow PRelu Sub Sum
    Where Xor
    """
)


def unary(node: ir.Node, scene: Scene) -> None:
    """One tensor in, one of the same shape out."""
    data = node.inputs[0]
    for value in node.outputs:
        if value.name:
            scene.give(value, scene.of(data))
            scene.silence(value, scene.quiet(data) and _keeps_zero(node))


def _keeps_zero(node: ir.Node) -> bool:
    if node.op_type != "Clip":
        return node.op_type in KEEPS_ZERO
    low, high = (_limit(node, index, name) for index, name in ((1, "min"), (2, "max")))
    return low is not None and high is not None and low <= 0 <= high


def _limit(node: ir.Node, index: int, attribute: str) -> float | None:
    value = operand(node, index)
    if value is None:
        return node.attributes.get_float(attribute, 0.0)
    found = numbers(value)
    return None if found is None else float(found.reshape(-1)[0])


def joining(node: ir.Node, scene: Scene) -> None:
    """Several tensors that broadcast."""
    given = [value for value in node.inputs if value is not None]
    axes = broadcast(node, scene, [scene.of(value) for value in given])
    scene.give(node.outputs[0], axes)
    quiet = [scene.quiet(value) and _covers(scene, value, len(axes), axes) for value in given]
    scene.silence(node.outputs[0], _joined_quiet(node, quiet))


def _covers(scene: Scene, value: ir.Value, rank: int, out: list[np.ndarray[tuple[int], np.dtype[np.int64]]]) -> bool:
    """Says whether `value` has every axis of the result that could lose channels: a broadcast one does not vanish."""
    own = scene.of(value)
    padded = [still(1)] * (rank - len(own)) + own
    return all(mine.size == labels.size for mine, labels in zip(padded, out, strict=True) if moves(labels))


def _joined_quiet(node: ir.Node, quiet: list[bool]) -> bool:
    if node.op_type in ("Mul", "And"):
        return any(quiet)
    if node.op_type in ("Div", "PRelu", "Mod"):
        return quiet[0]
    if node.op_type == "Where":
        return quiet[1] and quiet[2]
    return node.op_type in ("Add", "Sub", "Sum", "Mean", "Max", "Min") and all(quiet)


def batch_norm(node: ir.Node, scene: Scene) -> None:
    """Scale, shift and statistics per channel; what is masked scales to zero and shifts by zero."""
    axes = scene.of(node.inputs[0])
    for value in node.inputs[1:]:
        scene.tie(scene.of(value)[0], axes[1], node)
    scene.give(node.outputs[0], axes)
    for value in node.outputs[1:]:
        if value.name:
            scene.give(value, [axes[1]])
    scene.silence(node.outputs[0], all(scene.quiet(value) for value in node.inputs[1:3]))


def group_norm(node: ir.Node, scene: Scene) -> None:
    """Channels of one group share their statistics, so whole groups go."""
    axes = scene.of(node.inputs[0])
    groups = node.attributes.get_int("num_groups", 1)
    rows = axes[1].reshape(groups, -1)
    scene.tie_rows(rows, node)
    for value in node.inputs[1:]:
        labels = scene.of(value)[0]
        scene.tie(labels, axes[1] if labels.size == axes[1].size else rows[:, 0], node)
    scene.give(node.outputs[0], axes)
    scene.silence(node.outputs[0], all(scene.quiet(value) for value in node.inputs[1:3]))


def layer_norm(node: ir.Node, scene: Scene) -> None:
    """Statistics over the last axes: none of their indices may go, else the others change."""
    axes = scene.of(node.inputs[0])
    first = node.attributes.get_int("axis", -1) % len(axes)
    for labels in axes[first:]:
        scene.fix(labels, node, "normalises over it")
    for value in node.inputs[1:]:
        for labels in scene.of(value) if value is not None else ():
            scene.fix(labels, node, "normalises over it")
    scene.give(node.outputs[0], axes)
    for value in node.outputs[1:]:
        if value.name:
            scene.give(value, [*axes[:first], *(still(1) for _ in axes[first:])])


def spatial(node: ir.Node, scene: Scene) -> None:
    """Pools and the like: batch and channels stay what they are, positions stand still."""
    for value in node.outputs:
        if value.name:
            scene.give(value, [*scene.of(node.inputs[0])[:2], *(still(size) for size in scene.shape(value)[2:])])
    scene.silence(node.outputs[0], scene.quiet(node.inputs[0]))


def softmax(node: ir.Node, scene: Scene) -> None:
    """The axis it normalises stays; before opset 13 that is all axes from there on."""
    axes = scene.of(node.inputs[0])
    old = scene.version < 13
    first = node.attributes.get_int("axis", 1 if old else -1) % len(axes)
    for labels in axes[first:] if old else axes[first : first + 1]:
        scene.fix(labels, node, "normalises over it")
    scene.give(node.outputs[0], axes)


def reduce(node: ir.Node, scene: Scene) -> None:
    """Sums, means and extremes over axes; only a sum does not notice that a zero is gone."""
    axes = scene.of(node.inputs[0])
    chosen = _axes(node, len(axes))
    summing = node.op_type in ("ReduceSum", "ReduceSumSquare", "ReduceL1", "ReduceL2") and scene.quiet(node.inputs[0])
    for axis in chosen:
        if not summing:
            scene.fix(axes[axis], node, "reduces over it")
    kept = node.attributes.get_int("keepdims", 1)
    out = [still(1) if axis in chosen else labels for axis, labels in enumerate(axes) if kept or axis not in chosen]
    scene.give(node.outputs[0], out)
    plain = node.op_type not in ("ReduceProd", "ReduceLogSum", "ReduceLogSumExp", "ArgMax", "ArgMin")
    scene.silence(node.outputs[0], scene.quiet(node.inputs[0]) and plain)


def _axes(node: ir.Node, rank: int) -> set[int]:
    if node.op_type in ("ArgMax", "ArgMin"):
        return {node.attributes.get_int("axis", 0) % rank}
    found = ints(node, "axes", 1)
    if found is None and operand(node, 1) is not None:
        raise NotImplementedError("reduces over axes that the graph computes")
    if found is None or not found.size:
        return set() if node.attributes.get_int("noop_with_empty_axes", 0) else set(range(rank))
    return {int(axis) % rank for axis in found}
