"""Clean-up: the same function in fewer nodes, in an opset every later pass and runtime takes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import onnx_ir as ir

from edgewright.core.step import Context
from edgewright.errors import StepFailed
from edgewright.graph.load import carry_plan, load, save
from edgewright.graph.opset import QDQ_OPSET, raise_opset
from edgewright.graph.pools import cascade_max_pools
from edgewright.graph.shapes import infer_shapes
from edgewright.graph.stem import fold_space_to_depth

FOLD_INPUT_ELEMENTS = 1 << 24
FOLD_OUTPUT_ELEMENTS = 1 << 20
QUANTIZERS = ("QuantizeLinear", "DequantizeLinear", "DynamicQuantizeLinear")


@dataclass(frozen=True, slots=True)
class CleanUp:
    """Folds constants and batch norms, drops dead code, simplifies shapes.

    A space-to-depth stem is folded into its Conv, and parallel max pools are computed one from another.
    The rewriting is onnxscript's optimizer (see `docs/adr/0002-clean-up-library.md`). Nothing changes numerically
    beyond the rounding of reordered float32 sums. Quantisers are left alone, so a QDQ model stays one.

    Attributes:
        opset: Least opset of the result.
    """

    name: ClassVar[str] = "clean-up"
    version: ClassVar[int] = 1
    requires: ClassVar[tuple[str, ...]] = ("onnx", "onnx-ir", "onnxscript")

    opset: int = QDQ_OPSET

    def run(self, inputs: Mapping[str, Path], out: Path, context: Context) -> None:
        model = raise_opset(load(inputs["model"]), self.opset)
        context.progress(0.3, "folding")
        model = simplify(model)
        save(model, out)
        carry_plan(inputs["model"], out)


def simplify(model: ir.Model) -> ir.Model:
    """Returns `model` in fewer nodes, with the same inputs and outputs.

    Raises:
        StepFailed: The optimizer changed the interface of the model.
    """
    from onnxscript import optimizer

    before = [v.name for v in (*model.graph.inputs, *model.graph.outputs)]
    model = infer_shapes(model)
    optimizer.optimize_ir(
        model,
        num_iterations=4,
        input_size_limit=FOLD_INPUT_ELEMENTS,
        output_size_limit=FOLD_OUTPUT_ELEMENTS,
        should_fold=_fold,
    )
    if fold_space_to_depth(model.graph) + cascade_max_pools(model.graph):
        ir.passes.common.RemoveUnusedNodesPass()(model)
    _drop_unused_initializers(model.graph)
    name_nodes(model.graph)
    ir.passes.common.ClearMetadataAndDocStringPass()(model)
    after = [v.name for v in (*model.graph.inputs, *model.graph.outputs)]
    if before != after:
        raise StepFailed(f"clean-up changed the model's tensors from {before} to {after}", hint="report this model")
    return infer_shapes(model)


def name_nodes(graph: ir.Graph) -> None:
    """Gives every node a name that is unique in the graph; what `keep_float` and placement refer to."""
    taken: set[str] = set()
    for node in graph:
        base = node.name or f"{node.op_type}_{node.outputs[0].name}"
        name, count = base, 1
        while name in taken:
            name, count = f"{base}_{count}", count + 1
        node.name = name
        taken.add(name)


def _fold(node: ir.Node) -> bool | None:
    return False if node.op_type in QUANTIZERS else None


def _drop_unused_initializers(graph: ir.Graph) -> None:
    kept = {id(v) for v in (*graph.inputs, *graph.outputs)}
    for name, value in list(graph.initializers.items()):
        if not value.uses() and id(value) not in kept:
            del graph.initializers[name]


plugin = CleanUp
