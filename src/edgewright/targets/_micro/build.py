"""From a hub model to a file that the interpreter has run."""

from __future__ import annotations

import tempfile
from dataclasses import dataclass
from pathlib import Path

from edgewright.core.codec import encode_json
from edgewright.core.target import Artifact, NodePlacement
from edgewright.errors import StepFailed
from edgewright.formats.tflite.reader import TfliteGraph, parse
from edgewright.graph.qdq import is_quantised
from edgewright.runtimes import open_runner
from edgewright.runtimes._litert_apart import node_name
from edgewright.runtimes.tflm import Arena, TflmRunner
from edgewright.targets import _litert_proof
from edgewright.targets._feed import feeds
from edgewright.targets._hub import Hub
from edgewright.targets._micro.arena import Prediction, predict
from edgewright.targets._micro.boards import Board
from edgewright.targets._micro.fit import Fit
from edgewright.targets._micro.flash import Flash, estimate
from edgewright.targets._micro.layout import BOARD, HOST
from edgewright.targets._micro.support import unsupported
from edgewright.targets._tflite.compile import compile_model
from edgewright.targets._tflite.options import Compiled, Options
from edgewright.targets._trace import traced

_SHOWN = 8


@dataclass(frozen=True, slots=True)
class Built:
    """A compiled model and what it will need.

    Attributes:
        made: The file.
        graph: The same, read.
        host: Arena predicted for the interpreter here, which is measured.
        target: Arena predicted for a 32-bit microcontroller.
        flash: Estimated.
    """

    made: Compiled
    graph: TfliteGraph
    host: Prediction
    target: Prediction
    flash: Flash


def compiled(hub: Hub, form: str, batch: int) -> Built:
    """Compiles a model that TensorFlow Lite Micro can run.

    Args:
        hub: The model.
        form: `int8`, `float32` or `auto`; see `MicroTarget.integer_only`.
        batch: Size of a free batch axis.

    Raises:
        StepFailed: The compiler or TensorFlow Lite Micro does not support an operator, named with its node.
    """
    made = _compile(hub, form, batch)
    graph = parse(made.content)
    reasons = list(unsupported(graph, made.trace))
    if reasons:
        more = f"; and {len(reasons) - _SHOWN} more" if len(reasons) > _SHOWN else ""
        raise StepFailed(
            f"micro: TensorFlow Lite Micro cannot run the model: {'; '.join(reasons[:_SHOWN])}{more}",
            hint="quantise the model to int8 (static-int8), or rewrite these parts with operators that have kernels",
        )
    return Built(made, graph, predict(graph, HOST), predict(graph, BOARD), estimate(graph, len(made.content)))


def _compile(hub: Hub, form: str, batch: int) -> Compiled:
    if form == "int8" or (form == "auto" and is_quantised(hub.model.graph)):
        try:
            return compile_model(hub.model, hub.plan, Options(batch=batch, integer_only="int8", hybrid=False))
        except StepFailed:
            if form == "int8":
                raise
    return compile_model(hub.model, hub.plan, Options(batch=batch, hybrid=False))


def require_fit(built: Built, board: Board | None, reserve_kb: int) -> None:
    """Holds the prediction against a board.

    Raises:
        StepFailed: It does not fit.
    """
    problems = Fit(board, built.target, built.flash, reserve_kb << 10).problems() if board else ()
    if problems:
        raise StepFailed(
            f"micro: the model {'; it '.join(problems)}",
            hint="quantise it to int8, prune it or lower its resolution, or choose a larger board",
        )


def measured(built: Built, artifact: Artifact, hub: Hub, data: Path | None) -> Arena:
    """Runs the file in the interpreter and returns the arena it used.

    Args:
        built: The file.
        artifact: Its description so far.
        hub: The model, for its inputs.
        data: A `data.json`, or None for synthetic inputs.

    Raises:
        ToolchainMissing: tflite-micro is not installed.
        StepFailed: The interpreter refuses the file or its inputs.
    """
    runner = TflmRunner(built.made.content, artifact.files[0])
    with tempfile.TemporaryDirectory(prefix="edgewright-") as name:
        folder = Path(name)
        (folder / artifact.files[0]).write_bytes(built.made.content)
        (folder / "artifact.json").write_bytes(encode_json(artifact))
        with open_runner(folder) as opened:
            opened.run(next(feeds(hub.inputs, data)))
    return runner.arena()


def placement(hub: Hub, built: Built) -> list[NodePlacement]:
    """Returns every operator of the file; all run on the processor."""
    graph = built.graph
    found = [
        NodePlacement(
            node=node_name(number, op.op, graph.tensors[op.outputs[0]].name if op.outputs else ""),
            op=op.op,
            where="CPU",
            precision=_litert_proof.precision_of(graph, op),
            source=tuple(dict.fromkeys(built.made.trace[number])),
        )
        for number, op in enumerate(graph.operators)
    ]
    return traced(hub.model, found)
