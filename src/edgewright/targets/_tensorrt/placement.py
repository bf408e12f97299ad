"""Reads off a built engine which kernel computes which node, and in which types. No GPU is needed.

An engine of TensorRT-RTX holds its program in words: every tensor with its type, every kernel with its tensors and
the ONNX nodes that went into it. NVIDIA documents its inspector instead, which needs the GPU; the version that is read
here is locked with its toolchain, and a text that is not understood gives no placement at all rather than a wrong one.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass

from edgewright.core.target import NodePlacement

TYPES = {
    "float": "float32",
    "half": "float16",
    "bfloat16": "bfloat16",
    "bf16": "bfloat16",
    "int8": "int8",
    "fp8_e4m3": "float8",
}
"""TensorRT's types of arithmetic -> ours; any other (int32, int64, bool) moves or counts."""
_NARROW = ("int8", "float8")
_PROGRAM = re.compile(r"header \{\n")
_TENSOR = re.compile(r'\n  (?:sub_)?tensor=\{[^\n]*? name="([^"\n]*)"[^\n]*? type=(\w+)')
_KERNEL = re.compile(r"\n  (\w+)=\{ ")
_NOT_KERNELS = frozenset({"tensor", "sub_tensor", "region", "signal", "wait", "inputs", "outputs", "accelerators"})
_LAYERS = re.compile(r'layers="([^"]*)"')
_LAYER = re.compile(r"\[ONNX Layer: (.*?)\](?=[\x00-\x20\[]|$)", re.S)
_NAME = re.compile(r'name="?([^\s"]+)')
_READS = re.compile(r"\binput(?:_args)?=\{([^}]*)\}")
_WRITES = re.compile(r"\boutput(?:_args)?=\{([^}]*)\}")
_QUOTED = re.compile(r'"([^"]*)"')


@dataclass(frozen=True, slots=True)
class Kernel:
    """One kernel of the engine.

    Attributes:
        kind: `corrltn` (convolution), `fully_connected`, `runtime_fusion`, `function` (generated code), ...
        name: TensorRT's.
        layers: ONNX nodes that went into it.
        reads: Types of what it reads, in order.
        writes: Types of what it writes.
    """

    kind: str
    name: str
    layers: tuple[str, ...]
    reads: tuple[str, ...]
    writes: tuple[str, ...]


def kernels(engine: bytes) -> tuple[Kernel, ...]:
    """Returns the kernels of an engine in the order of its programs; none where its text is not understood.

    Kernels that a fusion compiled again on its own are left out: the fusion stands for them.
    """
    found: list[Kernel] = []
    fused: set[str] = set()
    for program in _PROGRAM.split(engine.decode("latin-1"))[1:]:
        types = dict(_TENSOR.findall(program))
        here = [kernel for kernel in _kernels(program, types) if kernel.layers]
        if here and all(fused.issuperset(kernel.layers) for kernel in here):
            continue
        found += here
        fused.update(layer for kernel in here if kernel.kind == "runtime_fusion" for layer in kernel.layers)
    return tuple(found)


def _kernels(program: str, types: Mapping[str, str]) -> list[Kernel]:
    starts = [match for match in _KERNEL.finditer(program) if match[1] not in _NOT_KERNELS]
    ends = [*(match.start() for match in starts[1:]), len(program)]
    found = []
    for match, end in zip(starts, ends, strict=False):
        body = program[match.end() : end]
        layers = _LAYERS.search(body)
        if layers is None:
            continue
        head = body[: layers.start()]
        name = _NAME.search(head)
        named = tuple(dict.fromkeys(_LAYER.findall(layers[1])))
        reads, writes = (_types(pattern, head, types) for pattern in (_READS, _WRITES))
        found.append(Kernel(match[1], name[1] if name else match[1], named, reads, writes))
    return found


def _types(pattern: re.Pattern[str], head: str, types: Mapping[str, str]) -> tuple[str, ...]:
    listed = pattern.search(head)
    names = _QUOTED.findall(listed[1]) if listed else []
    return tuple(types[name] for name in names if name in types and "const-lit" not in name)


def placement(found: tuple[Kernel, ...], weighted: Collection[str], quantisers: Collection[str]) -> list[NodePlacement]:
    """Returns one entry per kernel; every node belongs to one of them: with weights, to the kernel that multiplies.

    Args:
        found: Of the engine.
        weighted: Names of nodes with weights.
        quantisers: Names of QuantizeLinear, DequantizeLinear and Cast.
    """
    owner: dict[str, int] = {}
    for heavy in (True, False):
        for index, kernel in enumerate(found):
            for layer in kernel.layers:
                if heavy == (layer in weighted and _multiplies(kernel)) or not heavy:
                    owner.setdefault(layer, index)
    return [
        _entry(index, kernel, tuple(layer for layer in kernel.layers if owner[layer] == index), weighted, quantisers)
        for index, kernel in enumerate(found)
    ]


def _multiplies(kernel: Kernel) -> bool:
    return kernel.kind != "function"


def _entry(
    index: int, kernel: Kernel, source: tuple[str, ...], weighted: Collection[str], quantisers: Collection[str]
) -> NodePlacement:
    heavy = _multiplies(kernel) and any(layer in weighted for layer in kernel.layers)
    converts = all(layer in quantisers for layer in kernel.layers)
    precision = "conversion" if converts else _heavy(kernel) if heavy else _light(kernel)
    note = "" if source else f"finishes what {kernel.layers[0]} computes"
    return NodePlacement(f"{kernel.name}#{index}", f"{kernel.kind} {kernel.name}", "GPU", precision, source, note=note)


def _heavy(kernel: Kernel) -> str:
    """Returns the type of the products: narrow where both factors are."""
    reads = [TYPES.get(kind, "integer") for kind in kernel.reads]
    for narrow in _NARROW:
        if reads.count(narrow) >= 2:
            return narrow
    wide = [kind for kind in reads if kind not in ("integer", *_NARROW)]
    return wide[0] if wide else "integer"


def _light(kernel: Kernel) -> str:
    """Returns the widest type of floats that go in or out; data movement of integers has none."""
    seen = {TYPES.get(kind, "integer") for kind in (*kernel.reads, *kernel.writes)}
    for wide in ("float32", "bfloat16", "float16", "float8"):
        if wide in seen:
            return wide
    return "integer"
