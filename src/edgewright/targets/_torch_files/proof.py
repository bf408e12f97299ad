"""Runs a file in PyTorch and describes what ran."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from importlib.metadata import version
from pathlib import Path

from edgewright.core.target import Artifact, NodePlacement, RunOptions
from edgewright.errors import ConfigError, StepFailed
from edgewright.runtimes._require import require
from edgewright.runtimes.torch import BATCH_KEY, TorchRunner
from edgewright.targets import _judge
from edgewright.targets._executorch.lower import Operator
from edgewright.targets._executorch.refusal import refusals
from edgewright.targets._feed import Feed, feeds
from edgewright.targets._hub import Hub, read_hub
from edgewright.targets._intent import intents
from edgewright.targets._torch_files.make import Exporter
from edgewright.targets._trace import traced

RUNS = 4
_FROZEN = {"aten._convolution": ("aten.conv1d", "aten.conv2d", "aten.conv3d", "aten.conv_transpose2d")}
"""What TorchScript calls operators in a frozen module -> what torch.export calls them."""


def read(model: Path, target: str, batch: int) -> tuple[Hub, Exporter]:
    """Reads the hub model and exports it.

    Raises:
        ToolchainMissing: PyTorch is not installed.
        ConfigError: `batch` is below 1.
        StepFailed: The model cannot be exported.
    """
    require("torch", "torch")
    if batch < 1:
        raise ConfigError(f"{target}: batch = {batch}, at least 1 expected", hint="leave it out for 1")
    hub = read_hub(model)
    reasons = tuple(refusals(hub.model))
    if reasons:
        hint = "export the model with fixed sizes and standard operators, or leave this target out"
        raise StepFailed(f"{target}: " + "; ".join(reasons[:5]), hint=hint)
    return hub, Exporter(hub.model, batch)


def describe(
    target: str, file: Path, hub: Hub, operators: Sequence[Operator], *, batch: int, data: Path | None, strict: bool
) -> None:
    """Runs the file and writes `artifact.json` beside it.

    Raises:
        StepFailed: PyTorch cannot run it; or `strict`, and a node does not run as planned.
    """
    found = version("torch").split("+", maxsplit=1)[0]
    artifact = Artifact(
        target=target,
        runtime="torch",
        runtime_version=found,
        runtime_range=f">={found},<{int(found.split('.', maxsplit=1)[0]) + 1}",
        files=(file.name,),
        inputs=hub.inputs,
        outputs=hub.outputs,
        precision="float32",
        session={BATCH_KEY: str(batch)},
    )
    times = _times(artifact, file, feeds(hub.inputs, data))
    placement = _judge.judged(hub.model, _placed(hub, operators, times), intents(hub.model, hub.plan, "float32"))
    fields = {name: getattr(artifact, name) for name in Artifact.__dataclass_fields__}
    fields |= {"placement": placement, "precision": _judge.main_precision(hub.model, placement)}
    _judge.write_artifact(Artifact(**fields), file.parent, strict=strict)


def _times(artifact: Artifact, file: Path, tries: Iterator[Feed]) -> Mapping[str, float]:
    runner = TorchRunner(artifact, file.read_bytes(), file.name, RunOptions(threads=1, profile=True))
    last: Exception | None = None
    while (feed := next(tries, None)) is not None:
        try:
            for _ in range(RUNS):
                runner.run(feed)
            return {time.node: time.microseconds for time in runner.operator_times()}
        except StepFailed as error:
            last = error
    raise StepFailed(
        f"PyTorch cannot run the model: {last}",
        hint="give the project data whose shapes and dtypes fit the model, or fix its dynamic axes",
    ) from last


def _placed(hub: Hub, operators: Sequence[Operator], times: Mapping[str, float]) -> list[NodePlacement]:
    """Walks what ran and what was exported side by side: the two are in the same order."""
    total, start = sum(times.values()) or 1.0, 0
    found: list[NodePlacement] = []
    for node, micros in times.items():
        op = node.partition(" #")[0].replace("::", ".")
        at = next((i for i in range(start, len(operators)) if operators[i].op in (op, *_FROZEN.get(op, ()))), None)
        owner = operators[at] if at is not None else None
        start = start if at is None else at + 1
        floats = owner is None or owner.dtype.startswith(("float", "bfloat"))
        precision = (owner.dtype if owner is not None else "float32") if floats else "integer"
        source = owner.source if owner is not None else ()
        found.append(NodePlacement(node, op, "CPU", precision, source, share=round(micros / total, 4)))
    return traced(hub.model, found)
