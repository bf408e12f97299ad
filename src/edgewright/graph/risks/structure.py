"""Rules about shapes, joins and what the graph holds besides arithmetic."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

import onnx_ir as ir

from edgewright.graph.kinds import KINDS
from edgewright.graph.placement import WEIGHTED
from edgewright.graph.risks.sight import Hit, Sight
from edgewright.graph.schemes.predict import FLOAT, INTEGER

OLD_OPSET, NEW_OPSET = 13, 22
"""Below the first, DequantizeLinear knows no channels; from the second on, runtimes older than about a year cannot load
the file."""
DATA_DEPENDENT = ("NonZero", "Unique", "Compress", "StringNormalizer", "TopK")
CONTROL = ("If", "Loop", "Scan")
BOUNDED = ("Sigmoid", "Softmax", "HardSigmoid")
RANK = 5
MOVES = KINDS["data movement"]
INTEGER_ENOUGH = 0.9
"""Least share of the multiply-accumulates in integers before the rest is worth a word."""
_EASY_RESIZE = ("half_pixel", "asymmetric", "pytorch_half_pixel")


def dynamic_axes(sight: Sight) -> Iterator[Hit]:
    """Inputs with an axis of no fixed size, the batch left out."""
    for name, axes in sight.free.items():
        yield Hit((), f'input "{name}": {", ".join(axes)}')


def old_opset(sight: Sight) -> Iterator[Hit]:
    """The model's opset is older than quantisation per channel."""
    if sight.opset < OLD_OPSET:
        yield Hit((), f"opset {sight.opset}")


def new_opset(sight: Sight) -> Iterator[Hit]:
    """The model's opset is newer than what runtimes in the field read."""
    if sight.opset >= NEW_OPSET:
        yield Hit((), f"opset {sight.opset}")


def suppression(sight: Sight) -> Iterator[Hit]:
    """Non-maximum suppression inside the graph."""
    yield from (Hit((node.name or "",)) for node in sight.having("NonMaxSuppression"))


def data_dependent(sight: Sight) -> Iterator[Hit]:
    """Operators whose result has as many elements as the data decides, or that sort."""
    yield from (Hit((node.name or "",), node.op_type) for node in sight.having(*DATA_DEPENDENT))


def control_flow(sight: Sight) -> Iterator[Hit]:
    """Branches and loops."""
    yield from (Hit((node.name or "",), node.op_type) for node in sight.having(*CONTROL))


def high_rank(sight: Sight) -> Iterator[Hit]:
    """Tensors with more axes than mobile kernels take."""
    for node in sight.graph:
        rank = max((len(value.shape) for value in node.outputs if value.shape is not None), default=0)
        if rank >= RANK:
            yield Hit((node.name or "",), f"{rank} axes")


def resizes(sight: Sight) -> Iterator[Hit]:
    """Ways to interpolate that runtimes lack or compute differently."""
    for node in sight.having("Resize", "Upsample"):
        mode = node.attributes.get_string("mode", "nearest") or "nearest"
        where = node.attributes.get_string("coordinate_transformation_mode", "half_pixel") or "half_pixel"
        antialias = bool(node.attributes.get_int("antialias", 0))
        if mode == "cubic" or antialias or where == "tf_crop_and_resize":
            yield Hit((node.name or "",), f"{mode}, {where}{', antialias' if antialias else ''}")
        elif mode == "linear" and where not in _EASY_RESIZE:
            yield Hit((node.name or "",), f"{mode}, {where}")


def float_resizes(sight: Sight) -> Iterator[Hit]:
    """Interpolation that computes in float inside an INT8 model."""
    for node in sight.having("Resize", "Upsample"):
        mode = node.attributes.get_string("mode", "nearest") or "nearest"
        if mode != "nearest" and sight.kinds.get(node.name or "") == FLOAT:
            yield Hit((node.name or "",), f"{mode} runs in float")


def mixed_joins(sight: Sight) -> Iterator[Hit]:
    """A Concat at the end that joins what a sigmoid or softmax bounds with what nothing bounds: scores and boxes."""
    for node in sight.having("Concat"):
        if not _only_moved_to_the_end(node):
            continue
        kinds = {_bounded(value) for value in node.inputs if value is not None and value.const_value is None}
        if len(kinds) > 1:
            yield Hit((node.name or "",), f"{len(node.inputs)} tensors in one")


def float_islands(sight: Sight) -> Iterator[Hit]:
    """Operators in float between operators in integers: converted there and back."""
    found = [
        node
        for node in sight.graph
        if sight.kinds.get(node.name or "") == FLOAT and _amid(node, sight, True) and _amid(node, sight, False)
    ]
    if found:
        counted = Counter(node.op_type for node in found).most_common()
        yield Hit(tuple(node.name or "" for node in found), ", ".join(f"{count} {op}" for op, count in counted))


def float_products(sight: Sight) -> Iterator[Hit]:
    """Operators with weights that the scheme leaves in float."""
    share = sight.integer_share
    if share is None or share >= INTEGER_ENOUGH:
        return
    nodes = [n.name or "" for n in sight.having(*WEIGHTED) if sight.kinds.get(n.name or "") != INTEGER]
    if nodes:
        yield Hit(tuple(nodes), f"{share:.0%} of the arithmetic is in integers")


def caution(sight: Sight) -> Iterator[Hit]:
    """What is known to go wrong with the scheme on this processor."""
    if sight.scheme is not None and sight.scheme.caution:
        yield Hit((), sight.scheme.caution)


def _only_moved_to_the_end(node: ir.Node) -> bool:
    """Says whether nothing but data movement stands between `node` and the model's outputs."""
    pending, ends = [*node.outputs], False
    while pending:
        value = pending.pop()
        ends = ends or value.is_graph_output()
        for use in value.uses():
            if use.node.op_type not in MOVES:
                return False
            pending.extend(use.node.outputs)
    return ends


def _bounded(value: ir.Value) -> bool:
    made = value.producer()
    if made is None:
        return False
    if made.op_type in MOVES and made.inputs and made.inputs[0] is not None:
        return _bounded(made.inputs[0])
    return made.op_type in BOUNDED


def _amid(node: ir.Node, sight: Sight, before: bool) -> bool:
    """Says whether an operator in integers stands before (or behind) `node`, past others in float."""
    seen: set[int] = set()
    pending = _next(node, before)
    while pending:
        each = pending.pop()
        if id(each) in seen:
            continue
        seen.add(id(each))
        kind = sight.kinds.get(each.name or "")
        if kind == INTEGER and each.op_type not in MOVES:
            return True
        pending.extend(_next(each, before))
    return False


def _next(node: ir.Node, before: bool) -> list[ir.Node]:
    if before:
        return [made for value in node.inputs if value is not None and (made := value.producer()) is not None]
    return [use.node for value in node.outputs for use in value.uses()]
