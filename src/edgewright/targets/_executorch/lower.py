"""From PyTorch to a program of ExecuTorch: torch.export, XNNPACK's partitioner, the file."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import onnx_ir as ir
import torch
from torch import fx

from edgewright.errors import StepFailed
from edgewright.graph.bridge.elements import torch_dtype
from edgewright.graph.shapes import static_shape
from edgewright.runtimes._require import require
from edgewright.targets._executorch.shortcuts import shortcuts
from edgewright.targets._executorch.steps import Steps

XNNPACK, PORTABLE = "XNNPACK", "CPU"
_CALL = "executorch_call_delegate"
_ACTIVATIONS = ("aten.relu", "aten.hardtanh")
_HINT = "clean up or re-export the model without this operator, or leave this target out"


@dataclass(frozen=True, slots=True)
class Operator:
    """One operator of the exported program.

    Attributes:
        name: Its name in the exported graph, unique.
        op: e.g. `aten.convolution`.
        where: `XNNPACK`, or `CPU` for ExecuTorch's own kernels.
        part: Which call of the delegate it belongs to, counted from 0; None outside of it.
        source: Names of the ONNX nodes that it came from.
        dtype: Of its result, PyTorch's name: `float32`, `int8`...
        integers: Whether it reads dequantised tensors only and is quantised behind: XNNPACK computes it in integers.
    """

    name: str
    op: str
    where: str
    part: int | None
    source: tuple[str, ...]
    dtype: str
    integers: bool


@dataclass(frozen=True, slots=True)
class Program:
    """A compiled program.

    Attributes:
        content: The .pte file.
        operators: In the order in which they run.
    """

    content: bytes
    operators: tuple[Operator, ...]


@contextmanager
def quiet() -> Iterator[None]:
    """Silences what PyTorch, torchao and ExecuTorch say while they are imported and while they lower.

    They call their own deprecated functions, and list the GPU libraries that they do not find.
    """
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)


def examples(model: ir.Model) -> tuple[torch.Tensor, ...]:
    """Returns one tensor of ones per input of a prepared model."""
    given = [value for value in model.graph.inputs if value.name not in model.graph.initializers]
    return tuple(torch.ones(static_shape(v) or (), dtype=torch_dtype(v.dtype or ir.DataType.FLOAT)) for v in given)


def lower(steps: Steps, given: tuple[torch.Tensor, ...]) -> Program:
    """Compiles.

    Args:
        steps: The model in PyTorch.
        given: Inputs to export it with, whose sizes become those of the file.

    Raises:
        ToolchainMissing: ExecuTorch is not installed.
        StepFailed: An operator cannot be exported, or ExecuTorch has no kernel for it (named with its node).
    """
    with quiet():
        exir = require("executorch.exir", "executorch")
        partitioner = require("executorch.backends.xnnpack.partition.xnnpack_partitioner", "executorch")
        runtime = require("executorch.extension.pybindings.portable_lib", "executorch")
        try:
            with shortcuts():
                with torch.no_grad():
                    exported = torch.export.export(steps.module, given, strict=False)
                edge = exir.to_edge_transform_and_lower(
                    exported,
                    partitioner=[partitioner.XnnpackPartitioner()],
                    compile_config=exir.EdgeCompileConfig(_check_ir_validity=False),
                )
                operators = tuple(_operators(edge.exported_program(), steps.origins))
                _require_kernels(operators, edge.exported_program().graph, frozenset(runtime._get_operator_names()))
                content = bytes(edge.to_executorch().buffer)
        except StepFailed:
            raise
        except Exception as error:  # torch.export and ExecuTorch raise many kinds
            text = " ".join(str(error).split())[:400]
            raise StepFailed(f"ExecuTorch cannot compile the model: {text}", hint=_HINT) from error
    return Program(content, operators)


def _operators(exported: Any, origins: Mapping[str, tuple[str, ...]]) -> Iterator[Operator]:
    part = 0
    for node in exported.graph.nodes:
        if node.op != "call_function":
            continue
        if _CALL in str(node.target):
            inner = getattr(exported.graph_module, node.args[0].target).original_module.graph
            for each in inner.nodes:
                if each.op == "call_function":
                    yield _operator(each, XNNPACK, part, origins)
            part += 1
        elif "getitem" not in str(node.target):
            yield _operator(node, PORTABLE, None, origins)


def plain_operators(exported: Any, origins: Mapping[str, tuple[str, ...]]) -> tuple[Operator, ...]:
    """Returns the operators of a program that was exported and not lowered."""
    nodes = (node for node in exported.graph.nodes if node.op == "call_function")
    return tuple(_operator(node, PORTABLE, None, origins) for node in nodes)


def _operator(node: fx.Node, where: str, part: int | None, origins: Mapping[str, tuple[str, ...]]) -> Operator:
    value = node.meta.get("val")
    value = value[0] if isinstance(value, (tuple, list)) else value
    dtype = str(getattr(value, "dtype", "")).removeprefix("torch.")
    name = node.name if part is None else f"{part}/{node.name}"
    return Operator(name, short(node), where, part, _source(node, origins), dtype, part is not None and _integers(node))


def short(node: fx.Node) -> str:
    """Returns e.g. `aten.convolution` for `aten.convolution.default`."""
    plain = isinstance(node.target, torch._ops.OpOverload)
    name = str(node.target) if plain else str(getattr(node.target, "__name__", node.target))
    return name.rpartition(".")[0] or name


def _source(node: fx.Node, origins: Mapping[str, tuple[str, ...]]) -> tuple[str, ...]:
    stack = node.meta.get("nn_module_stack") or {}
    names = [str(path).rpartition(".")[2] for path, _ in stack.values()]
    return tuple(dict.fromkeys(each for name in names for each in origins.get(name, ())))


def _integers(node: fx.Node) -> bool:
    """Says whether XNNPACK computes a node in integers; an activation behind another operator is part of that one."""
    read = [n for n in node.all_input_nodes if n.op != "placeholder"]
    if short(node) in _ACTIVATIONS and len(read) == 1 and len(read[0].users) == 1 and not _dequantizes(read[0]):
        return any(map(_quantizes, node.users)) and _integers(read[0])
    return bool(read) and all(map(_dequantizes, read)) and _ends(node)


def _ends(node: fx.Node) -> bool:
    users = list(node.users)
    if len(users) != 1:
        return False
    return _quantizes(users[0]) or (short(users[0]) in _ACTIVATIONS and any(map(_quantizes, users[0].users)))


def _dequantizes(node: fx.Node) -> bool:
    return "dequantize_per" in short(node)


def _quantizes(node: fx.Node) -> bool:
    return "quantize_per" in short(node) and not _dequantizes(node)


def _require_kernels(operators: Sequence[Operator], graph: fx.Graph, known: frozenset[str]) -> None:
    """The runtime's kernels are called after the variants of operators that write into a given tensor."""
    from executorch.exir.dialects.edge._ops import EdgeOpOverload

    sources = {o.name: o.source for o in operators}
    for node in graph.nodes:
        if node.op != "call_function" or not isinstance(node.target, EdgeOpOverload):
            continue
        try:
            written = node.target.to_out_variant().name()
        except RuntimeError:
            written = ""
        if written not in known:
            origin = ", ".join(sources.get(node.name, ())) or node.name
            raise StepFailed(f"ExecuTorch has no kernel for {short(node)} (node {origin})", hint=_HINT)
