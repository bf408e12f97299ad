"""Which operators of the exported program every kernel that ran stands for, and what it computes in.

The trace of a run names kernels, not operators. Both are in the same order, XNNPACK adds changes of layout and leaves
out what it fused. So the two lists are walked side by side: a kernel belongs to the next operator of its kind, and
never to one behind the next operator with weights; one that may be a change of layout or type, never to one behind the
next operator that is sure to have a kernel of its own.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import replace

from edgewright.core.target import NodePlacement
from edgewright.runtimes._etdump import Event
from edgewright.targets._executorch.lower import PORTABLE, XNNPACK, Operator
from edgewright.targets._judge import DYNAMIC

_PRODUCTS = ("Convolution", "Deconvolution", "Fully Connected")
_KINDS: Mapping[str, tuple[str, ...]] = {
    "aten.convolution": _PRODUCTS,
    "aten.linear": _PRODUCTS,
    "aten.addmm": _PRODUCTS,
    "aten.mm": _PRODUCTS,
    "aten.bmm": ("Batch Matrix Multiply",),
    "aten.constant_pad_nd": ("Constant Pad",),
    "aten._softmax": ("Softmax",),
    "aten.avg_pool2d": ("Average Pooling",),
    "aten.max_pool2d": ("Max Pooling",),
    "aten.mean": ("Global Average Pooling", "Mean", "Global Sum Pooling", "Sum", "Reduce"),
    "aten.view_copy": ("Static Reshape", "Reshape", "Copy"),
    "aten.unsqueeze_copy": ("Static Reshape", "Static Expand Dims", "Copy"),
    "aten.permute_copy": ("Transpose",),
    "aten.cat": ("Concat", "Copy", "Invalid Unary Op"),
    "aten.slice_copy": ("Slice", "Static Slice"),
    "aten.hardtanh": ("Clamp",),
    "aten.relu": ("Clamp",),
    "aten.clamp": ("Clamp",),
    "aten.mul": ("Multiply",),
    "aten.sub": ("Subtract",),
    "aten.div": ("Divide",),
    "aten.neg": ("Negate",),
    "aten.prelu": ("PReLU",),
    "aten._prelu_kernel": ("PReLU",),
    "aten.upsample_bilinear2d": ("Resize Bilinear",),
    "quantized_decomposed.quantize_per_tensor": ("Convert",),
    "quantized_decomposed.dequantize_per_tensor": ("Convert",),
}
"""Operator -> first words of the kernels that compute it; others are called after it."""
_FUSED = ("relu", "hardtanh", "clamp", "view_copy", "permute_copy", "unsqueeze_copy", "cat", "getitem", "clone")
"""Operators that may leave no kernel; quantisers are such, too."""
_LAYOUT = ("Transpose", "Convert", "Copy", "Static Reshape", "Invalid Unary Op")
"""Kernels that XNNPACK may have added."""
_NATIVE = "native_call_"
_TYPES = re.compile(r"\((?:[A-Z]+), ([A-Z0-9, ]+)\)")
_NUMBER = re.compile(r" #\d+$")
_WORDS = {"F32": "float32", "F16": "float16", "BF16": "bfloat16", "X32": "float32", "X16": "float16"}
_SCALED = ("QS8", "QU8", "QC8", "QC8W")
_MOVES = (
    "Transpose",
    "Static",
    "Copy",
    "Concat",
    "Slice",
    "Constant Pad",
    "Reshape",
    "Max Pooling",
    "Clamp",
    "Invalid Unary Op",
)


def placed(operators: Sequence[Operator], events: Sequence[Event], times: Mapping[str, float]) -> list[NodePlacement]:
    """Returns every kernel that ran, and where it came from.

    Args:
        operators: Of the exported program, in order.
        events: Kernels of one run, in order.
        times: Node -> median microseconds, whole ones: shares of a model that takes none are not known.
    """
    owners = _owners(operators, events)
    total = sum(times.values())
    found = [
        _node(event, owners.get(at, ()), round(times.get(event.node, 0.0) / total, 4) if total else None)
        for at, event in enumerate(events)
    ]
    computed = {source for node in found if not node.op.startswith(_LAYOUT) for source in node.source}
    return [_unless(node, computed) if node.op.startswith(_LAYOUT) else node for node in found]


def _unless(node: NodePlacement, computed: set[str]) -> NodePlacement:
    """A change of layout around a kernel that computes an operator is not that operator."""
    return replace(node, source=tuple(source for source in node.source if source not in computed))


def unseen(operators: Sequence[Operator]) -> list[NodePlacement]:
    """Returns the operators themselves, where the library tells nothing of its kernels."""
    return [
        NodePlacement(o.name, o.op, o.where, _stated(o), o.source, note="the library tells no kernels")
        for o in operators
        if "getitem" not in o.op and "dequantize_per" not in o.op
    ]


def _stated(operator: Operator) -> str:
    if "quantize_per" in operator.op:
        return "conversion"
    if operator.integers:
        return "int8"
    return operator.dtype if operator.dtype.startswith(("float", "bfloat")) else "integer"


def _owners(operators: Sequence[Operator], events: Sequence[Event]) -> dict[int, tuple[Operator, ...]]:
    """Returns index of a kernel -> the operators that it computes."""
    parts = {o.part for o in operators if o.part is not None}
    calls = list(dict.fromkeys(e.instruction for e in events if e.delegated))
    part_of = dict(zip(calls, sorted(parts), strict=False))
    found: dict[int, tuple[Operator, ...]] = {}
    for part in (None, *part_of.values()):
        own = [o for o in operators if o.part == part]
        ran = [(at, e) for at, e in enumerate(events) if (part_of.get(e.instruction) if e.delegated else None) == part]
        found.update(_aligned(own, ran, native=part is None))
    return found


def _aligned(
    operators: Sequence[Operator], events: Sequence[tuple[int, Event]], *, native: bool
) -> dict[int, tuple[Operator, ...]]:
    found: dict[int, tuple[Operator, ...]] = {}
    start = 0
    for at, event in events:
        for index in range(start, len(operators)):
            if _computes(event.kernel, operators[index], native=native):
                found[at] = (operators[index],)
                start = index + 1
                break
            if _stops(event.kernel, operators[index]):
                break
    return found


def _stops(kernel: str, operator: Operator) -> bool:
    if kernel.startswith(_LAYOUT):
        return operator.op.rpartition(".")[2] not in _FUSED and "quantize_per" not in operator.op
    return _KINDS.get(operator.op) is _PRODUCTS


def _computes(kernel: str, operator: Operator, *, native: bool) -> bool:
    if native:
        return kernel.removeprefix(_NATIVE).split(".")[0] == operator.op.rpartition(".")[2]
    kinds = _KINDS.get(operator.op)
    if kinds is not None:
        return kernel.startswith(kinds)
    word = operator.op.rpartition(".")[2].strip("_").replace("_", "")
    return kernel.partition(" (")[0].replace(" ", "").lower().startswith(word)


def _node(event: Event, owners: tuple[Operator, ...], share: float | None) -> NodePlacement:
    source = tuple(dict.fromkeys(name for o in owners for name in o.source))
    kernel = _NUMBER.sub("", event.kernel).removeprefix(_NATIVE)
    where = XNNPACK if event.delegated else PORTABLE
    return NodePlacement(event.node, kernel, where, precision_of(kernel, owners), source, share=share)


def precision_of(kernel: str, owners: tuple[Operator, ...] = ()) -> str:
    """Reads the compute precision off the name of a kernel, else off the operator it computes.

    XNNPACK's types: QS8 and QC8 are scaled integers (one scale, or one per channel), QD8 integers quantised as the
    operator runs, X8 anything of 8 bits that is only moved.
    """
    if kernel.startswith("Convert"):
        return "conversion"
    said = _TYPES.search(kernel)
    types = [word.strip() for word in said.group(1).split(",")] if said else []
    if any(word.startswith("QD") for word in types):
        return DYNAMIC
    scaled = any(word in _SCALED for word in types) or (not types and bool(owners) and owners[0].integers)
    if scaled:
        return "integer" if kernel.startswith(_MOVES) else "int8"
    if types:
        return next((_WORDS[word] for word in types if word in _WORDS), "integer")
    if not owners:
        return "integer" if kernel.startswith(_LAYOUT) else "float32"
    return owners[0].dtype if owners[0].dtype.startswith(("float", "bfloat")) else "integer"
