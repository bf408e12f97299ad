"""ONNX (float, or with quantisers and a plan) to a TensorFlow Lite file."""

from __future__ import annotations

import onnx_ir as ir

from edgewright.core.target import Plan
from edgewright.errors import StepFailed
from edgewright.graph.channels_last import INNER, order_of, to_channels_last
from edgewright.graph.quantisers import DEQUANTIZE, QUANTIZE
from edgewright.graph.shapes import bind_axes, refresh_shapes
from edgewright.targets._tflite.borders import moved_borders, named_inputs, named_outputs
from edgewright.targets._tflite.claims import ruled
from edgewright.targets._tflite.constants import store_integers
from edgewright.targets._tflite.dynamic import rewrite_dynamic
from edgewright.targets._tflite.emission import Emission
from edgewright.targets._tflite.fusion import fused_activations
from edgewright.targets._tflite.integer import integer_nodes, require_integers
from edgewright.targets._tflite.lowering.apply import lower
from edgewright.targets._tflite.options import Compiled, Options
from edgewright.targets._tflite.quantised_forms import rewrite_quantised
from edgewright.targets._tflite.settle import settle
from edgewright.targets._tflite.table import LOWERINGS, RULES
from edgewright.targets._tflite.tail import join


def compile_model(model: ir.Model, plan: Plan, options: Options) -> Compiled:
    """Compiles a model; `model` is left as it is.

    Args:
        model: The graph; its nodes are named.
        plan: What ONNX cannot say of its quantisation.
        options: See `Options`.

    Raises:
        StepFailed: An operator is not supported (named with its node), or a size is not fixed; or `integer_only`, and
            an operator would compute in float.
    """
    solved = prepare(model, options)
    graph = solved.graph
    settled = settle(graph)
    fused = fused_activations(graph)
    integers = integer_nodes(graph, fused, settled)
    emission = Emission(options, fused, integers.nodes)
    inputs = named_inputs(emission, graph)
    done = {activation.node for activation in fused.values()}
    for node in graph:
        if node not in done:
            _emit(emission, node)
    outputs = named_outputs(emission, graph)
    if options.integer_only:
        require_integers(emission, integers.notes)
    emission.file.metadata.update(options.metadata)
    names = {t: emission.tensor(t).name for t in emission.origins}
    content, trace = emission.finish({n: t for n, (t, _) in inputs.items()}, {n: t for n, (t, _) in outputs.items()})
    written = {tensor.name for tensor in emission.file.tensors}
    return Compiled(
        content,
        trace,
        {
            names[t]: (v.name or "", order_of(v))
            for t, v in emission.origins.items()
            if names[t] in written and INNER not in v.metadata_props  # no order of axes tells how those are stored
        },
        {name: border for name, (_, border) in inputs.items() if border is not None},
        {name: border for name, (_, border) in outputs.items() if border is not None},
        integers.notes,
    )


def prepare(model: ir.Model, options: Options) -> ir.Model:
    """Returns a copy with fixed sizes, lowered, its layout solved."""
    from edgewright.targets._tflite.folding import fold
    from edgewright.targets._tflite.lowering.functions import expand_functions

    solved = fold(bind_axes(model, {}, default=options.batch, computed=False))
    rewrite_dynamic(solved.graph)
    store_integers(solved.graph)
    rewrite_quantised(solved.graph)
    while expand_functions(solved, ruled()):
        refresh_shapes(solved)
        solved = fold(solved)
    solved = lower(solved, LOWERINGS)
    inputs, outputs = moved_borders(solved.graph, options)
    to_channels_last(solved, inputs, outputs)
    join(solved.graph)
    return solved


def _emit(emission: Emission, node: ir.Node) -> None:
    if node.op_type == QUANTIZE:
        emission.quantise(node)
    elif node.op_type not in (DEQUANTIZE, "Constant"):
        rule = RULES.get((node.domain, node.op_type))
        if rule is None:
            raise StepFailed(
                f"LiteRT: operator {node.op_type} of node {node.name} is not supported",
                hint="rewrite this part of the model with other operators, or leave this target out",
            )
        with emission.emitting(node):
            rule(emission, node)
