"""Runs a .pte file in ExecuTorch and reads off its trace what every kernel really is."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

from edgewright.core.target import Artifact, NodePlacement, RunOptions
from edgewright.errors import EdgewrightError, StepFailed
from edgewright.runtimes.executorch import ExecuTorchRunner
from edgewright.targets._executorch.kernels import placed, unseen
from edgewright.targets._executorch.lower import XNNPACK, Operator, Program
from edgewright.targets._feed import Feed
from edgewright.targets._hub import Hub
from edgewright.targets._trace import traced

RUNS = 4


def prove(artifact: Artifact, program: Program, hub: Hub, tries: Iterator[Feed]) -> list[NodePlacement]:
    """Returns every kernel that runs, where, and in which precision.

    Args:
        artifact: Its description so far.
        program: The file, and the operators in it.
        hub: The model it was made from, to name sources.
        tries: Inputs to run it with; the next one is used when ExecuTorch refuses one.

    Raises:
        StepFailed: It cannot be opened or run.
    """
    runner = _ran(artifact, program, tries)
    runs = runner.events()
    times = {time.node: time.microseconds for time in runner.operator_times()}
    found = placed(program.operators, runs[-1], times) if runs else unseen(program.operators)
    return traced(hub.model, _completed(found, program.operators))


def _ran(artifact: Artifact, program: Program, tries: Iterator[Feed]) -> ExecuTorchRunner:
    last: Exception | None = None
    try:
        runner = ExecuTorchRunner(artifact, program.content, artifact.files[0], RunOptions(threads=1, profile=True))
        while (feed := next(tries, None)) is not None:
            try:
                for _ in range(RUNS):
                    runner.run(feed)
                return runner
            except StepFailed as error:
                last = error
    except EdgewrightError as error:
        raise StepFailed(
            f"ExecuTorch cannot open what it compiled: {error.message}",
            hint="a quantised model: quantise it with the scheme executorch-s8s8; else leave this target out",
        ) from error
    raise StepFailed(
        f"ExecuTorch cannot run the model: {last}",
        hint="give the project data whose shapes and dtypes fit the model, or fix its dynamic axes",
    ) from last


def _completed(found: list[NodePlacement], operators: Sequence[Operator]) -> list[NodePlacement]:
    """Adds what was fused: an operator without a kernel belongs to that of the operator before it in the same part."""
    owner: dict[str, int] = {source: at for at, node in enumerate(found) for source in node.source}
    extra: dict[int, list[str]] = {}
    last: dict[int | None, int] = {}
    for operator in operators:
        known = [owner[source] for source in operator.source if source in owner]
        if known:
            last[operator.part] = known[0]
        elif operator.part in last and operator.where == XNNPACK and "quantize" not in operator.op:
            extra.setdefault(last[operator.part], []).extend(operator.source)
    return [replace(n, source=tuple(dict.fromkeys((*n.source, *extra.get(i, ()))))) for i, n in enumerate(found)]


def said(placement: Sequence[NodePlacement]) -> str:
    """Returns the delegated share in one sentence."""
    outside = [node for node in placement if node.where != XNNPACK]
    taken, time = len(placement) - len(outside), sum(node.share or 0.0 for node in placement if node.where == XNNPACK)
    names = ", ".join(dict.fromkeys(node.op for node in outside))
    rest = f"; ExecuTorch's own kernels run {names}" if outside else ""
    share = f", {time:.0%} of the time" if any(node.share for node in placement) else ""
    return f"XNNPACK runs {taken} of {len(placement)} kernels{share}{rest}"
