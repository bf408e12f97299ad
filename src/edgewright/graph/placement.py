"""Decide which tensors of a graph are quantised: the first of decide, describe, apply.

Operators with weights are the anchors: they are why one quantises. Every other operator takes integers only where an
integer operator further on wants its result; so the last joins, activations and decoders of a network, whose
tensors often mix ranges (boxes beside scores), stay float unless asked otherwise.
"""

from __future__ import annotations

from collections.abc import Container, Iterable, Mapping
from dataclasses import dataclass, field
from fnmatch import fnmatchcase

import onnx_ir as ir

from edgewright.core.target import Scheme
from edgewright.graph.quantisers import behind, is_constant, numbers

WEIGHTED = ("Conv", "ConvTranspose", "MatMul", "Gemm")
_JOINS = ("Concat", "Split")
SELECTORS = {
    "@first": "first operator with weights, close to the input's own precision",
    "@last": "no operator with weights comes after it, its error reaches the output directly",
    "@depthwise": "depthwise, little arithmetic per byte",
    "@activations": "a product of two activations, computed in float inside an attention kernel",
}


@dataclass(frozen=True, slots=True)
class Placement:
    """Which tensors are quantised.

    Attributes:
        values: Activations, in graph order.
        groups: Name of an activation -> name that stands for all that share its scale.
        fixed: Name of such a group -> scale and zero point that the runtime fixes.
        anchors: Operators with weights whose weights are quantised.
        kept_float: Name of an operator -> why it stays float.
    """

    values: tuple[ir.Value, ...]
    groups: Mapping[str, str]
    anchors: tuple[ir.Node, ...]
    kept_float: Mapping[str, str]
    fixed: Mapping[str, tuple[float, int]] = field(default_factory=dict)


@dataclass(slots=True)
class _Search:
    """State of one decision."""

    scheme: Scheme
    kept: dict[str, str]
    masked: dict[str, str]
    wrong: dict[str, str] = field(default_factory=dict)
    wanted: dict[str, ir.Value] = field(default_factory=dict)
    parent: dict[str, str] = field(default_factory=dict)
    pending: list[ir.Value] = field(default_factory=list)

    def want(self, value: ir.Value | None) -> None:
        if value is not None and value.name and value.name not in self.wanted and _is_activation(value):
            self.wanted[value.name] = value
            self.pending.append(value)

    def root(self, name: str) -> str:
        while self.parent.get(name, name) != name:
            name = self.parent[name]
        return name

    def share(self, first: ir.Value | None, second: ir.Value | None) -> None:
        if first is not None and second is not None and first.name in self.wanted and second.name in self.wanted:
            self.parent[self.root(first.name)] = self.root(second.name)


def decide(
    graph: ir.Graph,
    scheme: Scheme,
    keep_float: Iterable[str] = (),
    ops: Iterable[str] = (),
    masked: Mapping[str, str] | None = None,
) -> Placement:
    """Chooses the tensors.

    Args:
        graph: Cleaned up, with types and shapes inferred; every node named.
        scheme: What the runtime takes.
        keep_float: Node names, patterns with `*`, or selectors (`SELECTORS`).
        ops: Quantise only these of the scheme's operators; all of them when empty.
        masked: Activations that 8 bits cannot hold, and why (`masks.masked`): what reads them computes in float, but
            where the scheme has no float.
    """
    allowed = set(ops) & set(scheme.quantized) if ops else set(scheme.quantized)
    unfit = {} if scheme.whole else dict(masked or {})
    search = _Search(scheme, kept_float(graph, (*scheme.keep_float, *keep_float)), unfit)
    for node in graph:
        _leave_masked(search, node, allowed)
    kept = search.kept
    kept.update(_behind_float(graph, scheme, kept))
    anchors = [n for n in graph if n.op_type in WEIGHTED and n.op_type in allowed and n.name not in kept and _fits(n)]
    for node in anchors:
        _want_inputs(search, node)
        if node.op_type in scheme.outputs:
            search.want(result(node, scheme))
    if scheme.skip_adds:
        chosen = {id(node) for node in anchors}
        for node in graph:
            search.want(skip_branch(node, chosen) if node.name not in kept else None)
    if scheme.whole:
        _want_everything(search, graph, allowed)
    while search.pending:
        _spread(search, search.pending.pop(), allowed)
    for node in graph:
        if _moves(search, node):
            _share(search, node)
    order = {name: i for i, name in enumerate(_names(graph))}
    values = sorted(search.wanted.values(), key=lambda v: order[v.name or ""])
    if not scheme.requantize_shared:
        values = [v for v in values if not _moved(search, v)]
    groups = {v.name or "": search.root(v.name or "") for v in values}
    fixed = {groups[v.name or ""]: found for v in values if (found := _fixed(v, scheme)) is not None}
    untouched = _untouched(graph, allowed, search, anchors)
    return Placement(tuple(values), groups, tuple(anchors), {**kept, **untouched}, fixed)


def kept_float(graph: ir.Graph, patterns: Iterable[str]) -> dict[str, str]:
    """Returns node name -> reason for every operator that `patterns` keep in float."""
    weighted = [n for n in graph if n.op_type in WEIGHTED and _holds_weights(n)]
    found: dict[str, str] = {}
    for pattern in patterns:
        if pattern == "@first":
            names = [n.name for n in weighted[:1]]
        elif pattern == "@last":
            names = [n.name for n in weighted if not _weights_follow(n)]
        elif pattern == "@depthwise":
            names = [n.name for n in weighted if is_depthwise(n)]
        elif pattern == "@activations":
            names = [n.name for n in graph if n.op_type == "MatMul" and not _holds_weights(n)]
        else:
            names = [n.name for n in graph if n.name and fnmatchcase(n.name, pattern)]
        found.update(dict.fromkeys(filter(None, names), SELECTORS.get(pattern, f"named by keep_float ({pattern})")))
    return found


def _behind_float(graph: ir.Graph, scheme: Scheme, kept: Mapping[str, str]) -> dict[str, str]:
    """Returns why activations behind operators that are kept in float stay in float too.

    Everything between such an operator and the next quantiser would only be rounded once more: a gate such as
    x * sigmoid(x) computes on what the operator gives.
    """
    source = {id(n): n.name or "" for n in graph if n.op_type in WEIGHTED and n.name in kept}
    found: dict[str, str] = {}
    for node in graph:
        if node.op_type in (*WEIGHTED, *scheme.shared, *_JOINS):
            continue
        makers = [value.producer() for value in data_inputs(node) if value.const_value is None]
        names = [None if maker is None else source.get(id(maker)) for maker in makers]
        if names and all(names):
            source[id(node)] = names[0] or ""
            if node.name and node.op_type in scheme.quantized and node.name not in kept:
                found[node.name] = f'it follows "{names[0]}", which stays float'
    return found


def has_weights(node: ir.Node) -> bool:
    """Says whether the second input of `node` is a constant."""
    return len(node.inputs) > 1 and node.inputs[1] is not None and node.inputs[1].const_value is not None


def _holds_weights(node: ir.Node) -> bool:
    """Says the same of a graph whose weights may be quantised already."""
    stored = behind(node.inputs[1]) if len(node.inputs) > 1 else None
    return has_weights(node) or (stored is not None and stored.constant)


def is_depthwise(node: ir.Node) -> bool:
    """Says whether `node` is a convolution with one input channel per group."""
    weights = node.inputs[1] if len(node.inputs) > 1 else None
    if node.op_type != "Conv" or weights is None or weights.shape is None:
        return False
    return (node.attributes.get_int("group", 1) or 1) > 1 and weights.shape[1] == 1


def after_fused(value: ir.Value, fused: tuple[str, ...]) -> ir.Value:
    """Returns the value behind an activation that the runtime fuses into the producer of `value`, or `value` itself."""
    users = [use.node for use in value.uses()]
    if len(users) == 1 and users[0].op_type in fused and not value.is_graph_output():
        return users[0].outputs[0]
    return value


def _leave_masked(search: _Search, node: ir.Node, allowed: set[str]) -> None:
    """Keeps `node` in float if it would read integers that say nothing any more."""
    reasons = [search.masked[v.name] for v in data_inputs(node) if v.name and v.name in search.masked]
    if reasons and node.name and (node.op_type in allowed or node.op_type in search.scheme.shared):
        search.kept.setdefault(node.name, reasons[0])
    _leave_float_results(search, node, allowed)


def _leave_float_results(search: _Search, node: ir.Node, allowed: set[str]) -> None:
    """Leaves the result of `node` alone if the runtime quantises it wrongly, and what is moved there from elsewhere."""
    reason = ""
    if node.op_type in search.scheme.float_results and not _reads_integers(search, node, allowed):
        reason = f'it reads the {node.op_type} "{node.name}", which runs in float and whose result is quantised wrongly'
    elif node.op_type in search.scheme.shared:  # the runtime moves quantisers backwards through these
        reason = next((search.wrong[v.name] for v in data_inputs(node) if v.name and v.name in search.wrong), "")
    if reason:
        names = [v.name for v in node.outputs if v.name]
        search.wrong.update(dict.fromkeys(names, reason))
        search.masked.update(dict.fromkeys(names, reason))


def _want_inputs(search: _Search, node: ir.Node) -> None:
    inputs = node.inputs[:1] if has_weights(node) else node.inputs[:2]
    for value in inputs:
        search.want(value)


def _spread(search: _Search, value: ir.Value, allowed: set[str]) -> None:
    """Wants the inputs of the operator that makes `value`, where that operator then computes in integers."""
    node = value.producer()
    if node is None or node.name in search.kept or node.op_type in WEIGHTED or taken_in(node, search.scheme):
        return
    before = activated(node, search.scheme)
    if before is not None and before.op_type in allowed and before.name not in search.kept:
        node = before
    if _moves(search, node) or node.op_type in allowed:
        for each in data_inputs(node):
            search.want(each)


def _want_everything(search: _Search, graph: ir.Graph, allowed: set[str]) -> None:
    """Wants what every operator reads and gives that computes in integers."""
    for node in graph:
        if node.op_type in WEIGHTED or taken_in(node, search.scheme) or activated(node, search.scheme) is not None:
            continue
        if not _reads_integers(search, node, allowed):
            continue
        for value in data_inputs(node):
            search.want(value)
        for value in node.outputs:
            activates = node.op_type in search.scheme.activates
            search.want(after_fused(value, search.scheme.fused) if activates else value)


def result(node: ir.Node, scheme: Scheme) -> ir.Value:
    """Returns what an operator with weights gives: behind its bias and the activation that are computed along."""
    value = node.outputs[0]
    users = [use.node for use in value.uses()]
    if scheme.biases and len(users) == 1 and not value.is_graph_output() and _bias_of(users[0]) is node:
        value = users[0].outputs[0]
    return after_fused(value, scheme.fused)


def _bias_of(node: ir.Node) -> ir.Node | None:
    """Returns the MatMul that `node` adds a constant vector to."""
    if node.op_type != "Add" or len(node.inputs) != 2:
        return None
    for one, other in (tuple(node.inputs), tuple(reversed(node.inputs))):
        made = one.producer() if one is not None else None
        array = numbers(other)
        if made is None or made.op_type != "MatMul" or array is None or not _holds_weights(made):
            continue
        shape = made.inputs[1].shape if made.inputs[1] is not None else None
        if shape is not None and len(shape) == 2 and array.size == shape[1] and array.shape[-1:] == (shape[1],):
            return made
    return None


def taken_in(node: ir.Node, scheme: Scheme) -> bool:
    """Says whether an operator with weights computes `node` along: its bias, or its activation."""
    if scheme.biases and (before := _bias_of(node)) is not None:
        return len(before.outputs[0].uses()) == 1
    source = node.inputs[0].producer() if node.op_type in scheme.fused and node.inputs[0] is not None else None
    if source is None:
        return False
    return source.op_type in WEIGHTED or (taken_in(source, scheme) and source.op_type == "Add")


def activated(node: ir.Node, scheme: Scheme) -> ir.Node | None:
    """Returns the operator without weights that computes the activation `node` along."""
    source = node.inputs[0].producer() if node.op_type in scheme.fused and node.inputs[0] is not None else None
    if source is None or source.op_type not in scheme.activates:
        return None
    return source if after_fused(source.outputs[0], scheme.fused) is node.outputs[0] else None


def moves_integers(node: ir.Node, scheme: Scheme) -> bool:
    """Says whether integers pass through `node`; Resize lets them where it copies pixels, or interpolates integers."""
    if node.op_type == "Resize":
        mode = node.attributes.get_string("mode", "nearest")
        if mode != "nearest" and not (scheme.interpolates and mode == "linear"):
            return False
    return node.op_type in scheme.shared


def scales_apart(node: ir.Node, scheme: Scheme) -> bool:
    """Says whether the runtime fixes scales of what `node` joins, so that one scale for all is impossible."""
    return len({_fixed(value, scheme) for value in data_inputs(node)}) > 1


def _fixed(value: ir.Value, scheme: Scheme) -> tuple[float, int] | None:
    """Returns the fixed scale and zero point of `value`, also where integers passed through operators since."""
    pair = behind(value)
    node = (value if pair is None else pair.source).producer()
    if node is None or node.op_type not in scheme.shared:
        return scheme.fixed_outputs.get(node.op_type) if node is not None else None
    found = {_fixed(each, scheme) for each in data_inputs(node)}
    return found.pop() if len(found) == 1 else None


def skip_branch(node: ir.Node, anchors: Container[int]) -> ir.Value | None:
    """Returns what an Add adds to the result of one of `anchors` (ids of nodes) that only it reads, else None."""
    if node.op_type != "Add" or len(node.inputs) != 2:
        return None
    for value, other in (tuple(node.inputs), tuple(reversed(node.inputs))):
        made = value.producer() if value is not None else None
        if value is not None and made is not None and id(made) in anchors and len(value.uses()) == 1:
            return None if other is None or is_constant(other) else other
    return None


def _moves(search: _Search, node: ir.Node) -> bool:
    return node.name not in search.kept and moves_integers(node, search.scheme)


def _reads_integers(search: _Search, node: ir.Node, allowed: set[str]) -> bool:
    return _moves(search, node) or (node.op_type in allowed and node.name not in search.kept)


def _share(search: _Search, node: ir.Node) -> None:
    if scales_apart(node, search.scheme):
        return
    for value in data_inputs(node):
        for output in node.outputs:
            search.share(value, output)


def _moved(search: _Search, value: ir.Value) -> bool:
    """Says whether `value` is made of integers that already have its scale."""
    node = value.producer()
    if node is None or not _moves(search, node) or scales_apart(node, search.scheme):
        return False
    return all(v.name in search.wanted for v in data_inputs(node))


def data_inputs(node: ir.Node) -> tuple[ir.Value, ...]:
    """Returns the inputs that carry data, not shapes, indices or limits."""
    many = node.op_type in ("Concat", "Add", "Mul", "Sub", "Div", "Sum", "Max", "Min", "Where", "MatMul", "PRelu")
    return tuple(v for v in (node.inputs if many else node.inputs[:1]) if v is not None)


def _weights_follow(node: ir.Node) -> bool:
    seen: set[int] = set()
    pending = [use.node for v in node.outputs for use in v.uses()]
    while pending:
        each = pending.pop()
        if each.op_type in WEIGHTED and _holds_weights(each):
            return True
        if id(each) not in seen:
            seen.add(id(each))
            pending.extend(use.node for v in each.outputs for use in v.uses())
    return False


def _fits(node: ir.Node) -> bool:
    weights = node.inputs[1] if len(node.inputs) > 1 else None
    data = node.inputs[0]
    return data is not None and weights is not None and _is_float(data) and _is_float(weights)


def _is_float(value: ir.Value) -> bool:
    return value.dtype == ir.DataType.FLOAT


def _is_activation(value: ir.Value) -> bool:
    return _is_float(value)


def _names(graph: ir.Graph) -> list[str]:
    made = [v.name or "" for node in graph for v in node.outputs]
    return [*(v.name or "" for v in graph.inputs), *graph.initializers, *made]


def _last(value: ir.Value, scheme: Scheme) -> ir.Value:
    made = value.producer()
    return after_fused(value, scheme.fused) if made is not None and made.op_type in scheme.activates else value


def _untouched(graph: ir.Graph, allowed: set[str], search: _Search, anchors: list[ir.Node]) -> dict[str, str]:
    """Explains every operator of the scheme that ends up in float although nobody asked for it."""
    chosen = {id(n) for n in anchors}
    found: dict[str, str] = {}
    for node in graph:
        if node.op_type not in allowed or id(node) in chosen or node.name in search.kept or not node.name:
            continue
        if node.op_type in WEIGHTED:
            found[node.name] = "its operands are not float32"
        elif not any(_last(v, search.scheme).name in search.wanted for v in node.outputs):
            found[node.name] = "no integer operator takes its result"
    return found
