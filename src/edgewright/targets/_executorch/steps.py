"""The bridge's module with one submodule per ONNX node, in the forms of PyTorch that ExecuTorch fuses.

`torch.export` notes for every operator the module that it came from, through all its decompositions, so that the name
of a step tells which ONNX nodes an operator of the exported program stands for.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import onnx_ir as ir
import torch
import torch.ao.quantization.fx._decomposed  # registers torch.ops.quantized_decomposed
from torch import Tensor, fx, nn

from edgewright.graph.bridge import to_torch
from edgewright.graph.bridge.operators import OPERATORS
from edgewright.targets._executorch.forms import FORMS
from edgewright.targets._executorch.prepare import integer_weights

_LOW, _HIGH = -128, 127
_MATRIX = 2
_PREFIX = "node_"
_QUANTIZE, _DEQUANTIZE = OPERATORS["QuantizeLinear"], OPERATORS["DequantizeLinear"]


@dataclass(frozen=True, slots=True)
class Steps:
    """A module and where its steps come from.

    Attributes:
        module: Takes the inputs by position, returns a tuple.
        origins: Name of a step -> names of the ONNX nodes in it.
    """

    module: fx.GraphModule
    origins: Mapping[str, tuple[str, ...]]


class Apply(nn.Module):
    """One function of the bridge with its attributes."""

    def __init__(self, function: Callable[..., Any], attributes: Mapping[str, Any]) -> None:
        super().__init__()
        self.function = function
        self.attributes = dict(attributes)

    def forward(self, *inputs: Any) -> Any:
        """Returns what the function returns."""
        return self.function(*inputs, **self.attributes)


class Quantize(nn.Module):
    """To int8, per tensor, as PyTorch's quantisation writes it."""

    def __init__(self, scale: float, zero_point: int) -> None:
        super().__init__()
        self.numbers = (scale, zero_point, _LOW, _HIGH, torch.int8)

    def forward(self, x: Tensor) -> Tensor:
        """Returns the integers."""
        made: Tensor = torch.ops.quantized_decomposed.quantize_per_tensor.default(x, *self.numbers)
        return made


class Dequantize(Quantize):
    """From int8, per tensor."""

    def forward(self, x: Tensor) -> Tensor:
        """Returns the real values."""
        made: Tensor = torch.ops.quantized_decomposed.dequantize_per_tensor.default(x, *self.numbers)
        return made


class Weights(nn.Module):
    """Stored int8 around zero; one scale, or one per channel of `axis`."""

    integers: Tensor

    def __init__(self, integers: Tensor, scale: Tensor, axis: int) -> None:
        super().__init__()
        self.axis = axis
        self.register_buffer("integers", integers)
        self.one = float(scale.reshape(-1)[0]) if scale.numel() == 1 else None
        if self.one is None:
            self.register_buffer("scale", scale.float())
            self.register_buffer("zero_point", torch.zeros(scale.shape, dtype=torch.int64))

    def forward(self) -> Tensor:
        """Returns the real values."""
        ops = torch.ops.quantized_decomposed
        made: Tensor = (
            ops.dequantize_per_channel.default(
                self.integers, self.scale, self.zero_point, self.axis, _LOW, _HIGH, torch.int8
            )
            if self.one is None
            else ops.dequantize_per_tensor.default(self.integers, self.one, 0, _LOW, _HIGH, torch.int8)
        )
        return made


def to_steps(model: ir.Model, *, integers: bool = True) -> Steps:
    """Converts a prepared model; every constant is shared with no one.

    Args:
        model: The graph.
        integers: Write quantisers as PyTorch's quantisation does and keep weights in integers; else they are computed
            as the bridge does, in float.

    Raises:
        SourceError: The bridge cannot convert a node.
    """
    module = to_torch(model).eval().requires_grad_(False)
    made = _Maker(module, integer_weights(model.graph) if integers else {}, keep=integers)
    made.convert()
    return made.finish()


@dataclass(slots=True)
class _Maker:
    """Rewrites the graph of a bridged module in place."""

    module: fx.GraphModule
    integers: Mapping[str, str]
    keep: bool
    origins: dict[str, tuple[str, ...]] = field(default_factory=dict)
    count: int = 0

    def convert(self) -> None:
        stored = set(self.integers.values())
        for node in list(self.module.graph.nodes):
            if node.op == "call_function" and node.target is not operator.getitem:
                self._one(node, stored)
        for node in list(self.module.graph.nodes):
            if node.op == "call_module" and type(self.module.get_submodule(node.target)) is Dequantize:
                self._once_per_reader(node)
        self._products()

    def finish(self) -> Steps:
        graph = self.module.graph
        graph.eliminate_dead_code()
        graph.lint()
        kept = {n.target: n.target for n in graph.nodes if n.op in ("get_attr", "call_module")}
        root = {str(name): _at(self.module, str(name)) for name in kept}
        module = fx.GraphModule(root, graph)
        names = {n.target for n in graph.nodes if n.op == "call_module"}
        return Steps(module.eval(), {name: nodes for name, nodes in self.origins.items() if name in names})

    def _one(self, node: fx.Node, stored: set[str]) -> None:
        name = str(node.meta.get("onnx"))
        if node.target is _DEQUANTIZE and self._constant(node.args[0]):
            self._unpacked(node, name, integers=name in stored)
        elif self.keep and node.target in (_QUANTIZE, _DEQUANTIZE) and (numbers := self._per_tensor(node)) is not None:
            kind = Quantize if node.target is _QUANTIZE else Dequantize
            self._step(node, kind(*numbers), (node.args[0],), (name,))
        else:
            form = FORMS.get(node.target, node.target)  # type: ignore[arg-type]
            self._step(node, Apply(form, node.kwargs), node.args, (name,))

    def _step(self, node: fx.Node, module: nn.Module, args: tuple[Any, ...], origin: tuple[str, ...]) -> fx.Node:
        name = f"{_PREFIX}{self.count}"
        self.count += 1
        self.module.add_module(name, module)
        self.origins[name] = origin
        with self.module.graph.inserting_before(node):
            made = self.module.graph.call_module(name, args)
        node.replace_all_uses_with(made)
        self.module.graph.erase_node(node)
        return made

    def _constant(self, argument: Any) -> bool:
        return isinstance(argument, fx.Node) and argument.op == "get_attr"

    def _value(self, argument: Any) -> Any:
        return _at(self.module, str(argument.target)) if isinstance(argument, fx.Node) else argument

    def _per_tensor(self, node: fx.Node) -> tuple[float, int] | None:
        """Returns scale and zero point in int8; unsigned integers are the same ones, 128 lower."""
        if not all(self._constant(a) for a in node.args[1:]) or node.kwargs.get("block_size"):
            return None
        scale = self._value(node.args[1])
        zero = self._value(node.args[2]) if len(node.args) > 2 else torch.zeros((), dtype=torch.uint8)
        if scale.numel() != 1 or zero.dtype not in (torch.int8, torch.uint8):
            return None
        return float(scale), int(zero) - (128 if zero.dtype == torch.uint8 else 0)

    def _unpacked(self, node: fx.Node, name: str, *, integers: bool) -> None:
        values = [self._value(a) for a in node.args]
        if not integers:
            self._stored(node, _DEQUANTIZE(*values, **node.kwargs))
            return
        low = values[0].to(torch.int16) - 128 if values[0].dtype == torch.uint8 else values[0]
        axis = int(node.kwargs.get("axis", 1)) % max(values[0].dim(), 1)  # type: ignore[arg-type]
        self._step(node, Weights(low.to(torch.int8), values[1], axis), (), (name,))

    def _stored(self, node: fx.Node, tensor: Tensor) -> fx.Node:
        name = f"constant_{self.count}"
        self.count += 1
        self.module.register_buffer(name, tensor)
        with self.module.graph.inserting_before(node):
            made = self.module.graph.get_attr(name)
        node.replace_all_uses_with(made)
        self.module.graph.erase_node(node)
        return made

    def _once_per_reader(self, node: fx.Node) -> None:
        """XNNPACK takes a dequantiser into the operator that reads it, so that each reader needs its own."""
        origin = self.origins[str(node.target)]
        for reader in list(node.users)[1:]:
            name = f"{_PREFIX}{self.count}"
            self.count += 1
            numbers = _at(self.module, str(node.target)).numbers
            self.module.add_module(name, Dequantize(*numbers[:2]))
            self.origins[name] = origin
            with self.module.graph.inserting_before(reader):
                made = self.module.graph.call_module(name, node.args)
            reader.replace_input_with(node, made)

    def _products(self) -> None:
        """Writes products with stored weights as linear layers, the constant added behind one as its bias."""
        for node in list(self.module.graph.nodes):
            if node.op == "call_module" and isinstance(step := self.module.get_submodule(node.target), Apply):
                if step.function is FORMS[OPERATORS["MatMul"]]:
                    self._linear(node, node.args, {})
                elif step.function is OPERATORS["Gemm"]:
                    self._linear(node, node.args, step.attributes)

    def _linear(self, node: fx.Node, args: tuple[Any, ...], said: Mapping[str, Any]) -> None:
        if said.get("transA") or said.get("alpha", 1.0) != 1.0 or said.get("beta", 1.0) != 1.0:
            return
        weights = self._turned(args[1], turn=not said.get("transB"))
        if weights is None:
            return
        bias = args[2] if len(args) > 2 else None
        origin = self.origins[str(node.target)]
        adder = self._adder(node) if bias is None else None
        if adder is not None:
            bias = next(a for a in adder.args if a is not node)
            origin = (*origin, *self.origins[str(adder.target)])
        if bias is not None:
            bias = self._row(bias, node, _rows(weights, self.module))
            if bias is None:
                return
        last = adder or node
        self._step(last, Apply(nn.functional.linear, {}), (args[0], weights, bias), origin)

    def _adder(self, node: fx.Node) -> fx.Node | None:
        user = next(iter(node.users)) if len(node.users) == 1 else None
        if user is None or user.op != "call_module":
            return None
        step = self.module.get_submodule(str(user.target))
        adds = isinstance(step, Apply) and step.function is OPERATORS["Add"]
        return user if adds and any(self._constant(a) for a in user.args) else None

    def _row(self, bias: Any, node: fx.Node, rows: int) -> fx.Node | None:
        """Returns a constant of one number per row of the weights, None where the bias is not one."""
        if not self._constant(bias):
            return None
        value = self._value(bias)
        if value.numel() not in (1, rows) or (value.dim() and value.shape[-1] not in (1, rows)):
            return None
        name = f"constant_{self.count}"
        self.count += 1
        self.module.register_buffer(name, value.detach().reshape(-1).expand(rows).contiguous())
        with self.module.graph.inserting_before(node):
            return self.module.graph.get_attr(name)

    def _turned(self, weights: Any, *, turn: bool) -> fx.Node | None:
        """Returns weights as [out, in], None where they are not stored, or not a matrix."""
        if not isinstance(weights, fx.Node):
            return None
        if weights.op == "get_attr":
            value = self._value(weights)
            if value.dim() != _MATRIX:
                return None
            return self._again(weights, value.detach().mT.contiguous()) if turn else weights
        step = _at(self.module, str(weights.target)) if weights.op == "call_module" else None
        if not isinstance(step, Weights) or step.integers.dim() != _MATRIX:
            return None
        if turn:
            step.integers = step.integers.mT.contiguous()
            step.axis = 1 - step.axis
        return weights

    def _again(self, node: fx.Node, tensor: Tensor) -> fx.Node:
        name = f"constant_{self.count}"
        self.count += 1
        self.module.register_buffer(name, tensor)
        with self.module.graph.inserting_after(node):
            return self.module.graph.get_attr(name)


def _rows(weights: fx.Node, module: nn.Module) -> int:
    found = _at(module, str(weights.target))
    matrix: Tensor = found.integers if isinstance(found, Weights) else found
    return int(matrix.shape[0])


def _at(module: nn.Module, path: str) -> Any:
    parents, _, leaf = path.rpartition(".")
    return getattr(module.get_submodule(parents), leaf)
