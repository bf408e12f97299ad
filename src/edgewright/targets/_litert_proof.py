"""Runs a .tflite file in LiteRT and reads off its execution plan what each operator really is."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from edgewright.core.codec import encode_json
from edgewright.core.target import Artifact, NodePlacement, RunOptions
from edgewright.errors import EdgewrightError, StepFailed
from edgewright.formats.tflite.reader import TfliteGraph, TfliteOperator, read_tflite
from edgewright.runtimes import open_runner
from edgewright.runtimes._litert_apart import node_name
from edgewright.runtimes._litert_io import Border, Borders, entries
from edgewright.runtimes._require import require
from edgewright.runtimes.litert import interpreter_settings, uses_delegate
from edgewright.targets import _judge
from edgewright.targets._feed import Feed
from edgewright.targets._hub import Hub
from edgewright.targets._tflite.options import Compiled
from edgewright.targets._trace import traced

RUNS = 4
DELEGATE = "DELEGATE"
XNNPACK, BUILTIN = "XNNPACK", "CPU"
_CONVERSIONS = frozenset({"QUANTIZE", "DEQUANTIZE", "CAST"})
_MOVING = """
RESHAPE TRANSPOSE CONCATENATION PAD PADV2 MIRROR_PAD SLICE STRIDED_SLICE SPLIT SPLIT_V GATHER GATHER_ND SQUEEZE
EXPAND_DIMS PACK UNPACK TILE BROADCAST_TO MAX_POOL_2D REDUCE_MAX REDUCE_MIN MAXIMUM MINIMUM DEPTH_TO_SPACE
SPACE_TO_DEPTH BATCH_TO_SPACE_ND SPACE_TO_BATCH_ND RESIZE_NEAREST_NEIGHBOR ARG_MAX ARG_MIN REVERSE_V2 SHAPE
SELECT SELECT_V2 EMBEDDING_LOOKUP RELU
"""
_MOVES = frozenset(_MOVING.split())
"""They move or choose integers, whatever those stand for."""
_SCALED = frozenset({"int8", "uint8", "int16"})
_UNPACKS = ("DEQUANTIZE", "DENSIFY")


def session(made: Compiled) -> dict[str, str]:
    """Returns the entries a runner needs to feed the compiled file."""
    return entries(Borders(_borders(made.inputs), _borders(made.outputs)))


def _borders(given: Mapping[str, Any]) -> dict[str, Border]:
    return {name: Border(b.perm, b.dtype, b.scale, b.zero_point) for name, b in given.items()}


def prove(
    artifact: Artifact, file: Path, hub: Hub, trace: Sequence[Sequence[str]], tries: Iterator[Feed]
) -> list[NodePlacement]:
    """Returns every operator of the file, where it runs and in which precision.

    Args:
        artifact: Its description so far.
        file: The .tflite file that ships.
        hub: The model it was made from, to name sources.
        trace: Per operator, the nodes of the model that went into it.
        tries: Inputs to run it with; the next one is used when LiteRT refuses one.

    Raises:
        StepFailed: LiteRT cannot open or run it.
    """
    graph = read_tflite(file)
    taken = delegated(file.read_bytes(), graph, artifact.session)
    times = _times(artifact, file, tries)
    total = sum(times.values()) or 1.0
    return traced(hub.model, [_node(graph, i, i in taken, trace[i], times, total) for i in range(len(graph.operators))])


def delegated(content: bytes, graph: TfliteGraph, entries: Mapping[str, str]) -> frozenset[int]:
    """Returns the numbers of the operators that LiteRT gave to the XNNPACK delegate.

    The delegate appends one node per part that it takes, with the tensors that go in and come out. The operators of
    a part are those that its outputs depend on, backwards to its inputs.

    Args:
        content: The file.
        graph: The same, read.
        entries: Session of the artifact.

    Raises:
        StepFailed: LiteRT cannot open it.
    """
    module = require("ai_edge_litert.interpreter", "litert")
    try:
        settings = interpreter_settings(module, 1, delegate=uses_delegate(entries))
        interpreter = module.Interpreter(model_content=content, **settings)
        interpreter.allocate_tensors()
    except (RuntimeError, ValueError) as error:
        text = " ".join(str(error).split())[:400]
        raise StepFailed(f"LiteRT cannot open the compiled file: {text}", hint="leave this target out") from error
    appended = interpreter._get_ops_details()[len(graph.operators) :]
    writes = {number: i for i, op in enumerate(graph.operators) for number in op.outputs}
    found: set[int] = set()
    for part in appended:
        found |= _part(graph, writes, part["inputs"], part["outputs"])
    return frozenset(found)


def _part(graph: TfliteGraph, writes: Mapping[int, int], inputs: Sequence[int], outputs: Sequence[int]) -> set[int]:
    outside = {int(n) for n in inputs}
    found: set[int] = set()
    open_ends = [int(n) for n in outputs]
    while open_ends:
        number = open_ends.pop()
        at = writes.get(number)
        if number in outside or at is None or at in found:
            continue
        found.add(at)
        open_ends.extend(n for n in graph.operators[at].inputs if n >= 0)
    return found


def _times(artifact: Artifact, file: Path, tries: Iterator[Feed]) -> dict[str, float]:
    """Runs the file, and every operator of it alone; returns microseconds per operator."""
    last: Exception | None = None
    with tempfile.TemporaryDirectory(prefix="edgewright-") as name:
        folder = Path(name)
        (folder / artifact.files[0]).symlink_to(file.resolve())
        (folder / "artifact.json").write_bytes(encode_json(artifact))
        with open_runner(folder, RunOptions(threads=1, profile=True)) as runner:
            while (feed := next(tries, None)) is not None:
                try:
                    for _ in range(RUNS):
                        runner.run(feed)
                    return {time.node: time.microseconds for time in runner.operator_times()}
                except StepFailed as error:
                    last = error
                except EdgewrightError:
                    raise
    raise StepFailed(
        f"LiteRT cannot run the model: {last}",
        hint="give the project data whose shapes and dtypes fit the model, or fix its dynamic axes",
    ) from last


def _node(
    graph: TfliteGraph, number: int, taken: bool, source: Sequence[str], times: Mapping[str, float], total: float
) -> NodePlacement:
    op = graph.operators[number]
    name = node_name(number, op.op, graph.tensors[op.outputs[0]].name if op.outputs else "")
    return NodePlacement(
        node=name,
        op=op.op,
        where=XNNPACK if taken else BUILTIN,
        precision=precision_of(graph, op),
        source=tuple(dict.fromkeys(source)),
        share=round(times.get(name, 0.0) / total, 4),
        note="" if name in times else "done once, when the model is opened",
    )


def precision_of(graph: TfliteGraph, op: TfliteOperator) -> str:
    """Reads the compute precision off an operator and the types of its tensors.

    Float activations with integer weights are computed in integers, their activations quantised at run time.
    """
    if op.op in _CONVERSIONS:
        return "conversion"
    if _hybrid(graph, op):
        return _judge.DYNAMIC
    kinds = [graph.tensors[n].dtype for n in (*op.outputs, *op.inputs) if n >= 0 and graph.tensors[n].data is None]
    for kind in kinds:
        if kind.startswith("float"):
            return kind
    scaled = next((kind for kind in kinds if kind in _SCALED), "")
    if not scaled or op.op in _MOVES:
        return "integer"
    return "int16" if scaled == "int16" else "int8"


def _hybrid(graph: TfliteGraph, op: TfliteOperator) -> bool:
    read = [graph.tensors[n] for n in op.inputs if n >= 0]
    floats = any(t.data is None and t.dtype == "float32" for t in read)
    stored = any(t.data is not None and t.scale and t.dtype in _SCALED for t in read)
    return floats and stored and op.op not in _UNPACKS


def finished(artifact: Artifact, hub: Hub, placement: tuple[NodePlacement, ...]) -> Artifact:
    """Returns the description with its placement and the precision that follows from it."""
    return replace(artifact, placement=placement, precision=_judge.main_precision(hub.model, placement))
