"""Which operators of a file TensorFlow Lite Micro cannot run, each with its reason."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from edgewright.formats.tflite.reader import TfliteGraph, TfliteOperator, TfliteTensor
from edgewright.targets._micro.kernels import ALL, KERNELS, Kernel

_RANKS = {"PAD": 5, "PADV2": 5, "TRANSPOSE": 6, "STRIDED_SLICE": 5, "BATCH_MATMUL": 5, "CONV_2D": 4, "CONCATENATION": 5}
_TABLES = ("SHAPE", "GATHER_ND", "EXPAND_DIMS", "RESHAPE")
_CONVERSIONS = ("QUANTIZE", "DEQUANTIZE", "CAST", "ARG_MAX", "ARG_MIN")


def unsupported(graph: TfliteGraph, trace: Sequence[Sequence[str]] = ()) -> Iterator[str]:
    """Yields one sentence per operator that has no kernel for its types or shapes.

    Args:
        graph: The file.
        trace: Per operator, names of the nodes of the model that went into it.
    """
    for number, op in enumerate(graph.operators):
        for reason in _reasons(graph, op):
            yield f"{_named(op, number, trace, graph)}: {reason}"


def _named(op: TfliteOperator, number: int, trace: Sequence[Sequence[str]], graph: TfliteGraph) -> str:
    nodes = trace[number] if number < len(trace) else ()
    found = " and ".join(f'"{name}"' for name in nodes[:3])
    return f"{op.op} (node {found})" if found else f'{op.op} (tensor "{graph.tensors[op.outputs[0]].name}")'


def _reasons(graph: TfliteGraph, op: TfliteOperator) -> Iterator[str]:
    kernel = KERNELS.get(op.op)
    if kernel is None:
        yield "TensorFlow Lite Micro has no kernel for it"
        return
    read = [graph.tensors[n] for n in op.inputs if n >= 0]
    written = [graph.tensors[n] for n in op.outputs]
    yield from _types(op, kernel, read, written)
    limit = _RANKS.get(op.op)
    if limit is not None and (deep := max((len(t.shape) for t in (*read[:1], *written)), default=0)) > limit:
        yield f"its kernel takes at most {limit} axes, the tensor has {deep}"
    if any(True in tensor.dynamic for tensor in (*read, *written)):
        yield "its sizes are not fixed"
    if any(tensor.sparse for tensor in read):
        yield "its weights are stored sparsely"


def _types(
    op: TfliteOperator, kernel: Kernel, read: Sequence[TfliteTensor], written: Sequence[TfliteTensor]
) -> Iterator[str]:
    computed = [t for t in read if t.data is None]
    if not computed:
        return
    kind = computed[0].dtype
    if kind not in kernel.types:
        yield f"its kernel takes {', '.join(kernel.types)}, not {kind}"
    elif kernel.channels >= 0 and len(read) > kernel.channels:
        weights = read[kernel.channels].dtype
        if weights != ("float32" if kind == "float32" else "int8"):
            yield f"{kind} activations with {weights} weights: hybrid operators have no kernel"
    elif op.op not in (*_CONVERSIONS, *_TABLES) and kind in ALL and len(computed) > 1:
        others = {t.dtype for t in computed[1:] if t.dtype in ALL} - {kind}
        if others:
            yield f"its inputs are {kind} and {min(others)}; a kernel takes one type"
