"""Rules about where quantisers stand around an operator."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import chain
from typing import Any

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from edgewright.graph.placement import WEIGHTED, moves_integers, result, scales_apart, skip_branch
from edgewright.graph.quantisers import Quantiser, behind, is_constant
from edgewright.graph.schemes._scene import Scene, after, operands
from edgewright.graph.schemes._tensor_rules import Broken

BIAS_TOLERANCE = 1e-5
"""Relative; tools multiply the two scales in float32 or in float64."""


def bias_scales(scene: Scene) -> Iterator[Broken]:
    """The scale of an int32 bias is that of the input times that of the weights."""
    for node, data, weights in scene.quantised():
        bias = behind(node.inputs[2]) if len(node.inputs) > 2 else None
        if bias is None or bias.scale is None or data.scale is None or weights.scale is None:
            continue
        product = data.scale * weights.scale
        if not _broadcasts(bias, product) or not np.allclose(bias.scale, product, rtol=BIAS_TOLERANCE, atol=0):
            yield node.name or "", f'the scale of its bias "{bias.tensor}" is not input scale x weight scale'


def _broadcasts(bias: Quantiser, product: NDArray[Any]) -> bool:
    return bias.scale is not None and (bias.scale.size in (1, product.size) or product.size == 1)


def shared_scales(scene: Scene) -> Iterator[Broken]:
    """Operators that pass integers through have one scale and zero point on all sides."""
    for node in scene.operators():
        if node.name in scene.kept or not moves_integers(node, scene.scheme) or scales_apart(node, scene.scheme):
            continue
        inputs = [scene.reads(v) for v in operands(node)]
        if not inputs or any(q is None for q in inputs):
            continue
        around = [q for q in chain(inputs, (after(v) for v in node.outputs)) if q is not None]
        if any(not _equal(around[0], each) for each in around[1:]):
            names = ", ".join(dict.fromkeys(q.tensor for q in around))
            yield node.name or "", f"{node.op_type} passes integers through, but scales differ: {names}"


def _equal(first: Quantiser, second: Quantiser) -> bool:
    if first.scale is None or second.scale is None:
        return True
    return np.array_equal(first.scale, second.scale) and np.array_equal(first.zero_point, second.zero_point)


def fused_activations(scene: Scene) -> Iterator[Broken]:
    """No quantiser stands between an operator with weights and the activation that is fused into it."""
    for node, _, _ in scene.quantised():
        pair = after(node.outputs[0])
        users = [use.node for use in pair.node.outputs[0].uses()] if pair is not None else []
        if len(users) == 1 and users[0].op_type in scene.scheme.fused:
            yield node.name or "", f'quantised before {users[0].op_type} "{users[0].name}", which is fused into it'


def stays_float(scene: Scene) -> Iterator[Broken]:
    """Operators that the scheme leaves in float read no integer weights."""
    for node, _, weights in scene.quantised():
        if node.op_type not in scene.scheme.quantized:
            yield node.name or "", f"{node.op_type} has quantised operands, the scheme leaves it in float"
        elif node.name in scene.forced and weights.constant:
            yield node.name or "", "its weights are quantised, the scheme keeps this operator in float"


def both_operands(scene: Scene) -> Iterator[Broken]:
    """An operator with weights has both its data and its weights quantised, or neither."""
    for node in scene.operators():
        if node.op_type not in WEIGHTED or node.op_type not in scene.scheme.quantized or len(node.inputs) < 2:
            continue
        data, weights = scene.reads(node.inputs[0]), behind(node.inputs[1])
        if data is None and weights is not None and weights.constant:
            yield node.name or "", "its weights are quantised, its input is not"
        elif data is not None and is_constant(node.inputs[1]) and node.name not in scene.kept:
            yield node.name or "", "its input is quantised, its weights are not"


def outputs(scene: Scene) -> Iterator[Broken]:
    """Operators that compute in integers only with a quantised result have one."""
    for node, _, _ in scene.quantised():
        if node.op_type in scene.scheme.outputs and node.name not in scene.kept and not _ends(scene, node):
            yield node.name or "", "its result is not quantised, so the runtime computes it in float"


def _ends(scene: Scene, node: ir.Node) -> bool:
    value = result(node, scene.scheme)
    users = [use.node for use in value.uses()]
    return bool(users) and all(user.op_type == "QuantizeLinear" for user in users)


def float_results(scene: Scene) -> Iterator[Broken]:
    """The result of an operator that computes in float here is not quantised where the runtime does that wrongly."""
    for node in scene.operators():
        if node.op_type not in scene.scheme.float_results or all(scene.reads(v) for v in operands(node)):
            continue
        for value in node.outputs:
            if any(use.node.op_type == "QuantizeLinear" for use in value.uses()):
                yield node.name or "", f"{node.op_type} reads floats and is quantised, which this runtime does wrongly"


def fixed_outputs(scene: Scene) -> Iterator[Broken]:
    """Operators whose output scale the runtime fixes have that scale."""
    for node in scene.operators():
        wanted = scene.scheme.fixed_outputs.get(node.op_type)
        if wanted is None or (found := after(node.outputs[0])) is None or found.scale is None:
            continue
        same = np.allclose(found.scale, wanted[0], rtol=1e-6) and np.all(found.zero_point == wanted[1])
        if not same:
            got = f"{found.scale.reshape(-1)[0]:g} and {found.zero_point.reshape(-1)[0]}"
            yield node.name or "", f"scale and zero point {got}, {node.op_type} has {wanted[0]:g} and {wanted[1]}"


def skip_adds(scene: Scene) -> Iterator[Broken]:
    """The branch that an Add takes past an operator with weights is quantised."""
    anchors = {id(node) for node, _, _ in scene.quantised()}
    for node in scene.operators():
        branch = skip_branch(node, anchors) if scene.scheme.skip_adds and node.name not in scene.kept else None
        if branch is not None and scene.reads(branch) is None:
            yield node.name or "", f'adds "{branch.name}" in float to the result of an integer operator'


def opset(scene: Scene) -> Iterator[Broken]:
    """The model's opset knows the scheme's types."""
    found = scene.graph.opset_imports.get("", scene.scheme.opset)
    if found < scene.scheme.opset:
        yield scene.graph.name or "graph", f"opset {found}, {scene.scheme.activation} needs {scene.scheme.opset}"
