"""A graph read once, from inputs to outputs: which channels of which tensors are the same."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import onnx_ir as ir

from edgewright.errors import ConfigError
from edgewright.graph.opset import opset
from edgewright.graph.pruning import movement, pointwise, products
from edgewright.graph.pruning.atoms import Atoms, moves
from edgewright.graph.pruning.scene import Scene
from edgewright.graph.pruning.sizes import Sizes, bound_sizes, fix_read_sizes
from edgewright.graph.qdq import is_quantised

Rule = Callable[[ir.Node, Scene], None]

RULES: Mapping[str, Rule] = {
    **dict.fromkeys(pointwise.UNARY, pointwise.unary),
    **dict.fromkeys(pointwise.JOINING, pointwise.joining),
    **dict.fromkeys(("BatchNormalization", "InstanceNormalization"), pointwise.batch_norm),
    "GroupNormalization": pointwise.group_norm,
    **dict.fromkeys(("LayerNormalization", "RMSNormalization"), pointwise.layer_norm),
    **dict.fromkeys(("Softmax", "LogSoftmax", "Hardmax"), pointwise.softmax),
    **dict.fromkeys(
        ["AveragePool", "GlobalAveragePool", "GlobalLpPool", "GlobalMaxPool", "LpPool", "MaxPool"],
        pointwise.spatial,
    ),
    **dict.fromkeys(pointwise.REDUCING, pointwise.reduce),
    "Conv": products.conv,
    "ConvTranspose": products.conv_transpose,
    "Gemm": products.gemm,
    "MatMul": products.matmul,
    **dict.fromkeys(("LSTM", "GRU", "RNN"), products.recurrent),
    "Concat": movement.concat,
    "ConstantOfShape": movement.fill,
    "DepthToSpace": movement.depth_to_space,
    "Expand": movement.expand,
    "Gather": movement.gather,
    "Pad": movement.pad,
    **dict.fromkeys(("Reshape", "Flatten", "Squeeze", "Unsqueeze"), movement.reshape),
    **dict.fromkeys(("Resize", "Upsample"), movement.resize),
    **dict.fromkeys(("Shape", "Size"), movement.shape_of),
    "Slice": movement.slices,
    "SpaceToDepth": movement.space_to_depth,
    "Split": movement.split,
    "Tile": movement.tile,
    "Transpose": movement.transpose,
}
"""Operators whose channels are followed; those of any other have to stay."""


def trace(model: ir.Model) -> Scene:
    """Follows the channels of every tensor through `model`.

    Where one axis becomes several, channels can be told apart along one of them only. If they have to stay because of
    that, as with queries, keys and values of one projection, the other axis is tried.

    Args:
        model: Float, nodes and tensors named, see `prepare`.

    Raises:
        ConfigError: The model is quantised.
    """
    if is_quantised(model.graph):
        raise ConfigError("a quantised model cannot be pruned", hint="put the pruning pass before `static-int8`")
    sizes = bound_sizes(model)
    scene = _trace(model, sizes, {})
    stuck = [name for name, labels in scene.carried.items() if not moves(scene.atoms.free(labels))]
    if not stuck:
        return scene
    other = _trace(model, sizes, dict.fromkeys(stuck, 1))
    return _trace(model, sizes, {name: 1 for name in stuck if _free(other, name)})


def _free(scene: Scene, name: str) -> bool:
    return name not in scene.carried or moves(scene.atoms.free(scene.carried[name]))


def _trace(model: ir.Model, sizes: Sizes, carriers: Mapping[str, int]) -> Scene:
    scene = Scene(Atoms(), sizes.bound, sizes.other, opset(model), carriers)
    for value in model.graph.inputs:
        scene.of(value)
    for node in model.graph:
        _follow(node, scene)
    fix_read_sizes(model.graph, scene)
    for value in model.graph.outputs:
        for labels in scene.of(value):
            scene.atoms.fix(labels, f"it is part of the output `{value.name}`")
    return scene


def _follow(node: ir.Node, scene: Scene) -> None:
    values = [value for value in (*node.inputs, *node.outputs) if value is not None and value.name]
    missing = [value.name for value in values if value.name not in scene.shapes]
    rule = RULES.get(node.op_type) if node.domain in ("", "ai.onnx") else None
    if rule is None:
        _give_up(node, scene, "is not followed")
    elif missing:
        _give_up(node, scene, f"has the tensor `{missing[0]}`, whose sizes are not known")
    else:
        try:
            rule(node, scene)
        except NotImplementedError as reason:
            _give_up(node, scene, str(reason))


def _give_up(node: ir.Node, scene: Scene, why: str) -> None:
    for value in (*node.inputs, *_captured(node)):
        if value is not None:
            for labels in scene.of(value):
                scene.fix(labels, node, why)
    for value in node.outputs:
        axes = [scene.atoms.fresh(size) for size in scene.shapes.get(value.name or "", ())]
        for labels in axes:
            scene.fix(labels, node, why)
        scene.give(value, axes)


def _captured(node: ir.Node) -> list[ir.Value]:
    """Returns what the subgraphs of a node read."""
    found: list[ir.Value] = []
    for attribute in node.attributes.values():
        graphs = [attribute.value] if attribute.type == ir.AttributeType.GRAPH else []
        graphs = list(attribute.value) if attribute.type == ir.AttributeType.GRAPHS else graphs
        for graph in graphs:
            found += [value for inner in graph for value in inner.inputs if value is not None]
            found += [value for inner in graph for value in _captured(inner)]
            found += list(graph.outputs)
    return found
