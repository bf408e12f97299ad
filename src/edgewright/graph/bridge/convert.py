"""An ONNX graph as an fx graph, node by node."""

from __future__ import annotations

import keyword
import operator
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
import torch
from onnx_ir.passes.common import InlinePass
from torch import fx, nn

from edgewright.errors import SourceError
from edgewright.graph.bridge import control, operators
from edgewright.graph.bridge.elements import to_array, to_tensor
from edgewright.graph.bridge.folding import Folding, Sizes, inferred_sizes
from edgewright.graph.bridge.operators import FACTS, OPERATORS, Signature
from edgewright.graph.bridge.paths import attach
from edgewright.graph.opset import opset

STANDARD = ("", "ai.onnx")


def convert(
    model: ir.Model, inputs: Sequence[str] | None, outputs: Sequence[str] | None, *, straight_through: bool
) -> fx.GraphModule:
    """Does what `edgewright.graph.bridge.to_torch` says."""
    if model.functions:
        model = InlinePass()(model.clone()).model
    check(model)
    values = _by_name(model.graph)
    given = [v for v in model.graph.inputs if v.name not in model.graph.initializers]
    if inputs is not None:
        given = [_find(values, name) for name in inputs]
    wanted = list(model.graph.outputs) if outputs is None else [_find(values, name) for name in outputs]
    sized = any(node.op_type == "Shape" for node in model.graph)
    shapes = inferred_sizes(model) if sized else {}
    return build(model.graph, given, wanted, opset(model), straight_through=straight_through, shapes=shapes)


def check(model: ir.Model) -> None:
    """Checks that every node can be converted, before any is.

    Raises:
        SourceError: One cannot; the message names the node, its operator and its opset.
    """
    version, newest = opset(model), onnx.defs.onnx_opset_version()
    if version > newest:
        raise SourceError(
            f"opset {version}, the installed onnx {onnx.__version__} knows opsets to {newest}",
            hint="install a newer onnx, or export the model with an older opset",
        )
    faults = [fault for node in ir.traversal.RecursiveGraphIterator(model.graph) if (fault := _fault(node, version))]
    if faults:
        more = f", and {len(faults) - 3} more" if len(faults) > 3 else ""
        raise SourceError(
            f"the bridge to PyTorch cannot convert {'; '.join(faults[:3])}{more}",
            hint="export the model with standard operators and opset 17; edgewright.graph.bridge.claims() lists them",
        )


def _fault(node: ir.Node, version: int) -> str:
    name = f"node {node.name!r} ({node.domain + '.' if node.domain else ''}{node.op_type}, opset {version})"
    if node.domain not in STANDARD or node.op_type not in {*OPERATORS, *operators.CONTROL}:
        return name
    if version < operators.oldest(node.op_type):
        return f"{name}: its opset, {operators.oldest(node.op_type)} is the oldest"
    if node.op_type in operators.CONTROL:
        return ""
    known = operators.signature(node.op_type).attributes
    strange = sorted(a for a in node.attributes if a not in known)
    return f"{name}: attribute {', '.join(strange)}" if strange else ""


def build(
    graph: ir.Graph,
    inputs: Sequence[ir.Value],
    outputs: Sequence[ir.Value],
    version: int,
    *,
    straight_through: bool,
    shapes: Mapping[str, Sizes] | None = None,
) -> fx.GraphModule:
    """Converts the part of `graph` that computes `outputs` from `inputs`.

    Args:
        graph: A graph or a nested one.
        inputs: Tensors given.
        outputs: Tensors returned.
        version: Opset.
        straight_through: As for `to_torch`.
        shapes: Name of a tensor -> its sizes, None for open ones.

    Raises:
        SourceError: An output depends on an input of the graph that is not given.
    """
    builder = _Builder(version, shapes or {}, straight_through=straight_through)
    for value in inputs:
        builder.placeholder(value)
    for node in _needed(graph, inputs, outputs):
        builder.add(node)
    return builder.finish(inputs, outputs)


class _Builder:
    """One fx graph in the making, and the module that holds its tensors."""

    def __init__(self, version: int, shapes: Mapping[str, Sizes], *, straight_through: bool) -> None:
        self.version = version
        self.folding = Folding(shapes, _untrained, self._evaluate)
        self.straight_through = straight_through
        self.root = nn.Module()
        self.graph = fx.Graph()
        self.made: dict[ir.Value, fx.Node] = {}
        self.paths: dict[str, str] = {}

    def placeholder(self, value: ir.Value) -> None:
        node = self.graph.placeholder(_identifier(value.name))
        self._name(node, value)

    def add(self, node: ir.Node) -> None:
        handed_on = node.op_type == "Identity" and origin(node.outputs[0]) is not node.outputs[0]
        if node.op_type == "Constant" or handed_on or self.folding.visit(node):
            return
        made = self._control(node) if node.op_type in operators.CONTROL else self._call(node)
        made.meta["onnx"] = node.name
        if len(node.outputs) == 1 and node.op_type not in _TUPLES:
            self._name(made, node.outputs[0])
            return
        for index, value in enumerate(node.outputs):
            if value.name and (value.uses() or value.is_graph_output()):
                self._name(self.graph.call_function(operator.getitem, (made, index)), value)

    def _call(self, node: ir.Node) -> fx.Node:
        signature = operators.signature(node.op_type)
        args = [self._argument(node, index, signature) for index in range(len(node.inputs))]
        while args and args[-1] is None and not signature.variadic:
            args.pop()
        return self.graph.call_function(OPERATORS[node.op_type], tuple(args), self._keywords(node, signature))

    def _keywords(self, node: ir.Node, signature: Signature) -> dict[str, Any]:
        attributes = {name: _plain(attribute) for name, attribute in node.attributes.items()}
        return attributes | dict(_facts(node, signature, self.version, straight_through=self.straight_through))

    def _evaluate(self, node: ir.Node, arrays: Sequence[np.ndarray[Any, Any] | None]) -> np.ndarray[Any, Any] | None:
        """Computes a node in advance; what cannot be computed is left to fail, or not, when the module runs."""
        plain = all(array is None or array.dtype.kind in "fiub" for array in arrays)
        if not plain or node.op_type not in OPERATORS or node.op_type in _TUPLES:
            return None
        signature = operators.signature(node.op_type)
        args = [None if a is None else _given(a, i, signature) for i, a in enumerate(arrays)]
        try:
            with torch.no_grad():
                result = OPERATORS[node.op_type](*args, **self._keywords(node, signature))
        except (RuntimeError, ValueError, IndexError, TypeError):
            return None
        return to_array(result) if isinstance(result, torch.Tensor) else None

    def _control(self, node: ir.Node) -> fx.Node:
        """Adds a node with bodies as a module of its own, which takes what the bodies read from outside."""
        bodies = {name: self._body(a.as_graph()) for name, a in node.attributes.items() if name in _BODIES}
        outside = {name: tuple(self._tensor(v, trainable=True) for v in needs) for name, (_, needs) in bodies.items()}
        given = [None if v is None else self._tensor(v, trainable=False) for v in node.inputs]
        module: nn.Module
        args: tuple[Any, ...]
        if node.op_type == "If":
            module = control.If(bodies["then_branch"][0], bodies["else_branch"][0])
            args = (given[0], outside["then_branch"], outside["else_branch"])
        elif node.op_type == "Loop":
            module = control.Loop(bodies["body"][0])
            trips, going, *states = [*given, None][: max(len(given), 2)]
            args = (trips, going, tuple(states), outside["body"])
        else:
            module, count = _scan(node, bodies["body"][0])
            args = (tuple(given[:count]), tuple(given[count:]), outside["body"])
        name = _identifier(node.name or node.op_type)
        while hasattr(self.root, name):
            name += "_"
        self.root.add_module(name, module)
        return self.graph.call_module(name, args)

    def _body(self, graph: ir.Graph) -> tuple[fx.GraphModule, list[ir.Value]]:
        """Converts a nested graph; also returns the outer tensors that it reads."""
        needs = [v for v in outer(graph) if v in self.made or fixed(v) is None]
        inputs = [*graph.inputs, *needs]
        return build(graph, inputs, list(graph.outputs), self.version, straight_through=self.straight_through), needs

    def finish(self, inputs: Sequence[ir.Value], outputs: Sequence[ir.Value]) -> fx.GraphModule:
        self.graph.output(tuple(self._tensor(value, trainable=True) for value in outputs))
        self.graph.eliminate_dead_code(lambda node: node.op not in ("call_function", "get_attr"))
        self.graph.lint()
        read = {node.target for node in self.graph.nodes if node.op == "get_attr"}
        module = fx.GraphModule(self.root, self.graph)
        module.meta.update(
            inputs=tuple(str(v.name) for v in inputs),
            outputs=tuple(str(v.name) for v in outputs),
            initialisers={name: path for name, path in self.paths.items() if path in read},
        )
        return module

    def _argument(self, node: ir.Node, index: int, signature: Signature) -> Any:
        value = node.inputs[index]
        if value is None:
            return None
        array = None if value in self.made else self._fixed(value)
        if array is not None and _as_numbers(array, index, signature):
            return array.tolist()
        if node.op_type == "Reshape" and index == 1 and (shape := self.folding.reshaped(value)) is not None:
            return shape
        return self._tensor(value, trainable=index not in signature.buffers)

    def _tensor(self, value: ir.Value, *, trainable: bool) -> fx.Node:
        value = value if value in self.made else origin(value)
        if value in self.made:
            return self.made[value]
        array = self._fixed(value)
        assert array is not None, value
        tensor = to_tensor(array, value.const_value.dtype if value.const_value is not None else None)
        stored = value.producer() is None
        trainable = trainable and stored and tensor.is_floating_point() and tensor.dim() > 0
        path = attach(self.root, str(value.name), tensor, trainable=trainable)
        if stored:
            self.paths[str(value.name)] = path
        self._name(self.graph.get_attr(path), value)
        return self.made[value]

    def _fixed(self, value: ir.Value) -> np.ndarray[Any, Any] | None:
        folded = self.folding.array(value)
        return fixed(value) if folded is None else folded

    def _name(self, node: fx.Node, value: ir.Value) -> None:
        node.meta["tensor"] = value.name
        self.made[value] = node


def _as_numbers(array: np.ndarray[Any, Any], index: int, signature: Signature) -> bool:
    return index in signature.fixed or (index in signature.scalars and array.ndim == 0)


def _given(array: np.ndarray[Any, Any], index: int, signature: Signature) -> Any:
    return array.tolist() if _as_numbers(array, index, signature) else to_tensor(array)


def _untrained(value: ir.Value) -> np.ndarray[Any, Any] | None:
    """Returns a constant that no training changes: any but a stored floating tensor with axes."""
    source = origin(value)
    tensor = source.const_value
    if source.producer() is None and tensor is not None and tensor.dtype.is_floating_point() and len(tensor.shape):
        return None
    return fixed(value)


def _scan(node: ir.Node, body: nn.Module) -> tuple[control.Scan, int]:
    """Returns the module of a Scan, and how many of its inputs are states."""
    attributes = {name: a.value for name, a in node.attributes.items()}
    scanned = int(attributes["num_scan_inputs"])
    states = len(node.inputs) - scanned
    made = len(node.outputs) - states
    module = control.Scan(
        body,
        attributes.get("scan_input_axes", [0] * scanned),
        attributes.get("scan_input_directions", [0] * scanned),
        attributes.get("scan_output_axes", [0] * made),
        attributes.get("scan_output_directions", [0] * made),
    )
    return module, states


_BODIES = ("body", "then_branch", "else_branch")
_TUPLES = frozenset({"Split", "TopK", "Unique", "LSTM", "GRU", "RNN", "If", "Loop", "Scan"})
"""Operators that give a tuple even of one output."""


def origin(value: ir.Value) -> ir.Value:
    """Returns the stored tensor that `value` hands on through Identity, else `value` itself.

    Exporters store equal tensors once and hand them on: statistics of batch norm, scales of ones.
    """
    found = value
    while (node := found.producer()) is not None and node.op_type == "Identity" and node.domain in STANDARD:
        if node.inputs[0] is None:
            return value
        found = node.inputs[0]
    return found if found.const_value is not None else value


def fixed(value: ir.Value) -> np.ndarray[Any, Any] | None:
    """Returns the array that `value` always holds, None when it is computed or given."""
    value = origin(value)
    if value.const_value is not None:
        return value.const_value.numpy()
    node = value.producer()
    if node is None or node.op_type != "Constant" or node.domain not in STANDARD:
        return None
    (attribute,) = node.attributes.values()
    if attribute.name == "value":
        return np.asarray(attribute.as_tensor().numpy())
    kind = {"value_float": np.float32, "value_floats": np.float32, "value_int": np.int64, "value_ints": np.int64}
    if attribute.name not in kind:
        raise SourceError(
            f"node {node.name!r} (Constant): a {attribute.name} cannot be held in PyTorch",
            hint="store the constant as a dense numeric tensor",
        )
    return np.array(attribute.value, dtype=kind[attribute.name])


def _needed(graph: ir.Graph, inputs: Sequence[ir.Value], outputs: Sequence[ir.Value]) -> list[ir.Node]:
    """Nodes between `inputs` and `outputs`, in the graph's order."""
    known, found, stack = set(inputs), set[ir.Node](), list(outputs)
    while stack:
        value = stack.pop()
        if value in known:
            continue
        known.add(value)
        node = value.producer()
        if node is not None:
            found.add(node)
            stack.extend(v for v in used(node) if v not in known)
        elif value.const_value is None:
            raise SourceError(
                f"{[v.name for v in outputs]} cannot be computed from {[v.name for v in inputs]}: "
                f"{value.name} is missing",
                hint=f"name {value.name} among the inputs",
            )
    return [node for node in graph if node in found]


def used(node: ir.Node) -> Iterable[ir.Value]:
    """Returns the tensors that `node` reads, those that its bodies take from outside too."""
    inside = [v for a in node.attributes.values() if a.type == ir.AttributeType.GRAPH for v in outer(a.as_graph())]
    return [*(value for value in node.inputs if value is not None), *inside]


def outer(graph: ir.Graph) -> list[ir.Value]:
    """Returns the tensors that a nested graph reads from the graphs around it, in order of their first use."""
    own = {*graph.inputs, *graph.initializers.values(), *(v for node in graph for v in node.outputs)}
    read = [v for node in graph for v in used(node)] + list(graph.outputs)
    return [v for v in dict.fromkeys(read) if v not in own]


def _facts(node: ir.Node, signature: Signature, version: int, *, straight_through: bool) -> Mapping[str, Any]:
    facts = {
        "opset": version,
        "outputs": len(node.outputs),
        "kinds": tuple(None if v is None else _kind(v) for v in node.inputs),
        "straight_through": straight_through,
    }
    assert facts.keys() == set(FACTS)
    return {name: facts[name] for name in signature.facts}


def _kind(value: ir.Value) -> int | None:
    constant = value.const_value
    dtype = constant.dtype if constant is not None else value.dtype
    return None if dtype is None or dtype == ir.DataType.UNDEFINED else int(dtype)


def _plain(attribute: ir.Attr) -> Any:
    """The value of an attribute as fx can write it."""
    value = attribute.value
    if attribute.type == ir.AttributeType.TENSOR:
        return value.numpy().tolist(), int(value.dtype)
    return list(value) if isinstance(value, Sequence) and not isinstance(value, str) else value


def _by_name(graph: ir.Graph) -> dict[str, ir.Value]:
    found = {str(v.name): v for node in graph for v in node.outputs if v.name}
    found.update((str(v.name), v) for v in (*graph.inputs, *graph.initializers.values()))
    return found


def _find(values: Mapping[str, ir.Value], name: str) -> ir.Value:
    if name not in values:
        raise SourceError(f"the model has no tensor {name!r}", hint="name a tensor of the graph, as Netron shows it")
    return values[name]


def _identifier(name: str | None) -> str:
    """A name that Python accepts."""
    plain = "".join(c if c.isalnum() and c.isascii() else "_" for c in name or "")
    return f"x_{plain}" if not plain.isidentifier() or keyword.iskeyword(plain) or plain == "self" else plain
