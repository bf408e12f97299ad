"""From the bridge's module to an exported PyTorch program that still knows its quantisers and its nodes.

The bridge computes QuantizeLinear and DequantizeLinear with plain arithmetic. Here they become the operators
`quantized_decomposed`, which converters that read exported programs know, with the very scales of the model.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import onnx_ir as ir
import torch
import torch.ao.quantization.fx._decomposed  # defines the operators
from torch import fx, nn
from torch.export import ExportedProgram, export

from edgewright.core.tensors import TensorSpec
from edgewright.graph.bridge import to_torch
from edgewright.graph.bridge.operators.quantisation import dequantize_linear, quantize_linear

_OPERATORS: Any = torch.ops.quantized_decomposed
_ONNX, HANDLE = "onnx", "debug_handle"


def exported(model: ir.Model, inputs: Sequence[TensorSpec]) -> tuple[ExportedProgram, tuple[str, ...]]:
    """Exports `model` through the bridge.

    Args:
        model: Of fixed sizes.
        inputs: Of the program, with the types it takes.

    Returns:
        The program, and the names of the model's nodes: a node of the program that has the number i in
        `meta["debug_handle"]` was made for the i-th.

    Raises:
        SourceError: The bridge does not convert an operator.
        Exception: PyTorch's own, where it cannot follow the program.
    """
    module = to_torch(model).eval()
    decomposed(module)
    made = _Annotated(module)
    given = tuple(torch.zeros([int(n) for n in spec.shape], dtype=getattr(torch, spec.dtype)) for spec in inputs)
    with torch.no_grad(), fx.traceback.preserve_node_meta():
        program = export(made, given).run_decompositions({torch.ops.aten.var_mean.correction: _var_mean})
    names = tuple(node.name or "" for node in model.graph)
    _number(program, {name: index for index, name in enumerate(names)})
    return program, names


class _Annotated(nn.Module):
    """Runs the module node by node: PyTorch hands `meta["custom"]` of a node on to the operators that it calls."""

    def __init__(self, module: fx.GraphModule) -> None:
        super().__init__()
        self.module = module
        for node in module.graph.nodes:
            node.meta["custom"] = {_ONNX: node.meta.get("onnx", "")}

    def forward(self, *tensors: torch.Tensor) -> Any:
        return fx.Interpreter(self.module).run(*tensors)


def _number(program: ExportedProgram, numbers: Mapping[str, int]) -> None:
    for node in program.graph.nodes:
        name = (node.meta.get("custom") or {}).get(_ONNX, "")
        if name in numbers:
            node.meta[HANDLE] = numbers[name]


def _var_mean(
    x: torch.Tensor, dim: Sequence[int] | None = None, *, correction: float | None = None, keepdim: bool = False
) -> tuple[torch.Tensor, torch.Tensor]:
    """Computes variance and mean in operators that coremltools knows; normalisation of layers asks for both."""
    axes = list(range(x.dim())) if dim is None else list(dim)
    mean = x.mean(axes, keepdim=True)
    lost = 1.0 if correction is None else float(correction)
    variance = (x - mean).square().sum(axes, keepdim=keepdim) / (x.numel() / mean.numel() - lost)
    return variance, mean if keepdim else mean.squeeze(axes)


def decomposed(module: fx.GraphModule) -> None:
    """Replaces the quantisers of a converted module by PyTorch's own, in place; blocks of weights stay as they are.

    Stored weights of one scale get it once per channel: coremltools casts a scalar zero point to a type that MIL has
    from iOS 17 on only.
    """
    for node in list(module.graph.nodes):
        if node.op == "call_function" and node.target in (quantize_linear, dequantize_linear):
            made = _quantiser(module, node)
            if made is not None:
                made.meta = dict(node.meta)
                node.replace_all_uses_with(made)
                module.graph.erase_node(node)
    module.recompile()


def _quantiser(module: fx.GraphModule, node: fx.Node) -> fx.Node | None:
    tensor, scale, zero = (*node.args, None)[:3]
    scales, zeros = _constant(module, scale), _constant(module, zero)
    if scales is None or node.kwargs.get("block_size") or not scales.is_floating_point():
        return None
    kind = torch.uint8 if zeros is None else zeros.dtype
    points = torch.zeros(scales.shape, dtype=kind) if zeros is None else zeros
    limits = torch.iinfo(kind)
    verb = "quantize" if node.target is quantize_linear else "dequantize"
    stored = _constant(module, tensor)
    with module.graph.inserting_before(node):
        if scales.numel() == 1 and stored is not None and stored.dim():
            scale, zero = (
                _buffer(module, node, n.reshape(-1).expand(stored.shape[0]).clone()) for n in (scales, points)
            )
            numbers: tuple[Any, ...] = (scale, zero, 0)
            operator = getattr(_OPERATORS, f"{verb}_per_channel").default
        elif scales.numel() == 1:
            numbers = (float(scales), int(points))
            operator = getattr(_OPERATORS, f"{verb}_per_tensor").default
        else:
            numbers = (scale, zero or _buffer(module, node, points), node.kwargs.get("axis", 1))
            operator = getattr(_OPERATORS, f"{verb}_per_channel").default
        return module.graph.call_function(operator, (tensor, *numbers, limits.min, limits.max, kind))


def _buffer(module: fx.GraphModule, node: fx.Node, values: torch.Tensor) -> fx.Node:
    name = f"{node.name}_number"
    while hasattr(module, name):
        name += "_"
    module.register_buffer(name, values)
    return module.graph.get_attr(name)


def _constant(module: fx.GraphModule, node: Any) -> torch.Tensor | None:
    if not isinstance(node, fx.Node) or node.op != "get_attr":
        return None
    found: Any = module
    for part in str(node.target).split("."):
        found = getattr(found, part)
    return found.detach() if isinstance(found, torch.Tensor) else None
