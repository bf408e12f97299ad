"""What `edgewright inspect` finds out about one model."""

from __future__ import annotations

import tempfile
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgewright.core.codec import encode
from edgewright.core.measurement import Device
from edgewright.core.recipe import StepSpec
from edgewright.core.target import NodePlacement, OperatorTime, RunOptions
from edgewright.core.tensors import TensorSpec
from edgewright.errors import EdgewrightError, SourceError

if TYPE_CHECKING:
    import onnx_ir

    from edgewright.graph.cost import ModelCost

_WARM_UP = 3
_KINDS = {".tflite": "tflite", ".keras": "keras", ".h5": "keras", ".hdf5": "keras"}


@dataclass(frozen=True, slots=True)
class NodeRow:
    """One node of the model.

    Attributes:
        name: Of the node.
        op: Its operator.
        shapes: Of its outputs, for one sample.
        macs: Multiply-accumulates.
        parameters: Elements of the weights it reads.
        microseconds: Median time of its kernel; None where another node's kernel does its work, or not timed.
        fused_into: The node whose kernel it runs in.
    """

    name: str
    op: str
    shapes: tuple[str, ...]
    macs: int
    parameters: int
    microseconds: float | None = None
    fused_into: str = ""


@dataclass(frozen=True, slots=True)
class TargetRow:
    """One target: is it here, and what would it refuse.

    Attributes:
        name: Of the target.
        installed: Its toolchain is installed.
        install: The line that installs it, empty when it is.
        refuses: One sentence per operator or property it will not take.
    """

    name: str
    installed: bool
    install: str = ""
    refuses: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Times:
    """Time per operator, measured here.

    Attributes:
        runtime: Name and version of the runtime.
        threads: Intra-operator threads.
        runs: Profiled runs; figures are medians over them.
        total: Sum over all kernels, microseconds.
        by_operator: Kernel -> microseconds, the longest first.
        note: Why there are no figures.
    """

    runtime: str = ""
    threads: int = 1
    runs: int = 0
    total: float = 0.0
    by_operator: Mapping[str, float] = field(default_factory=dict)
    note: str = ""


@dataclass(frozen=True, slots=True)
class Inspection:
    """Everything `edgewright inspect` shows. Figures are for one sample: dynamic axes count as 1.

    Attributes:
        name: File name or `module:factory`.
        kind: `onnx`, `tflite`, `keras`, `saved-model` or `torch`.
        file_bytes: Size on disk, external data included; 0 for a factory.
        opset: Of the ONNX form.
        inputs: In the graph's order.
        outputs: In the graph's order.
        operators: Operator -> count, the most frequent first.
        parameters: Elements of all weights.
        macs: Multiply-accumulates.
        weight_bytes: Bytes of all weights in the ONNX form.
        peak_activation_bytes: Largest sum of activations alive at once.
        peak_node: The node that runs at that moment.
        nodes: In the graph's order.
        times: Per operator.
        targets: Every target there is.
        device: Where the times were measured.
        imported: How faithful the import is (`import.json`); empty for an ONNX file, which is read as it is.
        notes: What a reader should know.
    """

    name: str
    kind: str
    file_bytes: int
    opset: int
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    operators: Mapping[str, int]
    parameters: int
    macs: int
    weight_bytes: int
    peak_activation_bytes: int
    peak_node: str
    nodes: tuple[NodeRow, ...]
    times: Times
    targets: tuple[TargetRow, ...]
    device: Device
    imported: Mapping[str, Any] = field(default_factory=dict)
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Subject:
    """What to inspect.

    Attributes:
        source: Path of an `.onnx`, `.tflite`, `.keras` or `.h5` file, of a SavedModel or of a model folder, or
            `module:factory` for PyTorch.
        inputs: Only for PyTorch: the arguments of `forward`.
        checkpoint: Only for PyTorch.
        code: Only for PyTorch: the folder that holds the module.
    """

    source: str
    inputs: tuple[TensorSpec, ...] = ()
    checkpoint: Path | None = None
    code: Path = Path()

    @property
    def kind(self) -> str:
        """`onnx`, `tflite`, `keras`, `saved-model` or `torch`.

        Raises:
            SourceError: It cannot be told.
        """
        path = Path(self.source)
        if path.suffix.lower() in _KINDS:
            return _KINDS[path.suffix.lower()]
        if (path / "saved_model.pb").is_file():
            return "saved-model"
        if path.suffix.lower() == ".onnx" or path.is_dir():
            return "onnx"
        if ":" in self.source and not path.exists():
            return "torch"
        raise SourceError(
            f"{self.source}: neither .onnx, .tflite, .keras, .h5 nor a SavedModel nor module:factory",
            hint="rename the file, or check the path",
        )


def inspect_model(subject: Subject, *, runs: int = 20, threads: int = 1) -> tuple[Inspection, onnx_ir.Model]:
    """Finds out what there is to know about a model.

    Args:
        subject: What to inspect.
        runs: Profiled runs; 0 to measure nothing.
        threads: Intra-operator threads of the profiled runs.

    Returns:
        The findings, and the model with the shapes of one sample, for a picture.

    Raises:
        SourceError: The model cannot be read.
        Corrupt: The file is damaged.
        ToolchainMissing: The source's framework is not installed.
    """
    from edgewright.engine import toolchain

    own = {"onnx": (), "torch": ("torch", "onnxruntime"), "tflite": ("tflite", "onnxruntime")}
    toolchain.need("inspecting a model", "build", *own.get(subject.kind, ()))
    from edgewright.graph import cost, load, opset, shapes
    from edgewright.runtimes._machine import local_device

    with tempfile.TemporaryDirectory(prefix="edgewright-inspect-") as name:
        folder = Path(name)
        model, imported, notes = as_hub(subject, folder)
        bound = shapes.bind_axes(model, {})
        costs = cost.model_cost(bound)
        placement, kernels, times = _measured(folder, runs, threads)
        inputs, outputs = load.tensor_specs(model)
        found = Inspection(
            name=Path(subject.source).name if subject.kind != "torch" else subject.source,
            kind=subject.kind,
            file_bytes=_file_bytes(subject),
            opset=opset.opset(model),
            inputs=inputs,
            outputs=outputs,
            operators=dict(Counter(node.op for node in costs.nodes).most_common()),
            parameters=costs.parameters,
            macs=costs.macs,
            weight_bytes=costs.weight_bytes,
            peak_activation_bytes=costs.peak_activation_bytes,
            peak_node=costs.peak_node,
            nodes=_rows(costs, placement, kernels),
            times=times,
            targets=_targets(model),
            device=local_device(),
            imported=imported,
            notes=(*notes, *_unknown(costs)),
        )
        return found, bound


def as_hub(subject: Subject, folder: Path) -> tuple[onnx_ir.Model, Mapping[str, Any], tuple[str, ...]]:
    """Writes the model in hub format; an ONNX file is read even where no runtime here can run it.

    Returns:
        The model, the record of its import (empty for an ONNX file), and what was repaired.

    Raises:
        SourceError: The model cannot be read.
        ToolchainMissing: The source's framework is not installed.
    """
    import json

    from edgewright.graph import check, load, opset, tidy

    if subject.kind == "onnx":
        source = load.model_file(Path(subject.source))
        model = load.load(source)
        opset.require_opset(model)
        check.check_file(source)
        model, notes = tidy.tidy(model)
        load.save(model, folder)
        return model, {}, notes
    _import(subject, folder)
    record = json.loads((folder / "import.json").read_text(encoding="utf-8"))
    return load.load(folder), record, tuple(record.get("notes", ()))


def _import(subject: Subject, folder: Path) -> None:
    from edgewright.engine.execute import run_in_worker

    inputs = {"code": subject.code} if subject.kind == "torch" else {"model": Path(subject.source)}
    if subject.checkpoint is not None:
        inputs["checkpoint"] = subject.checkpoint
    fields = {"factory": subject.source, "inputs": encode(subject.inputs)} if subject.kind == "torch" else {}
    spec = StepSpec(subject.kind, fields)
    with tempfile.TemporaryDirectory(prefix="edgewright-scratch-") as scratch:
        request = {
            "group": "sources",
            "step": spec.name,
            "config": spec.config,
            "inputs": {name: str(path.resolve()) for name, path in inputs.items()},
            "out": str(folder),
            "scratch": scratch,
            "root": str(subject.code.resolve()),
            "seed": 0,
        }
        run_in_worker(request, lambda fraction, note: None)


def _measured(folder: Path, runs: int, threads: int) -> tuple[Sequence[NodePlacement], Sequence[OperatorTime], Times]:
    if runs < 1:
        return (), (), Times(note="not measured: no runs were asked for")
    try:
        return _profiled(folder, runs, threads)
    except EdgewrightError as error:
        return (), (), Times(note=f"not measured: {error.message}")


def _profiled(folder: Path, runs: int, threads: int) -> tuple[Sequence[NodePlacement], Sequence[OperatorTime], Times]:
    from edgewright.engine.execute import run_in_worker
    from edgewright.runtimes import load_artifact, open_runner
    from edgewright.sources._feeds import make_feeds

    with tempfile.TemporaryDirectory(prefix="edgewright-artifact-") as name:
        out, scratch = Path(name) / "artifact", Path(name) / "scratch"
        out.mkdir()
        scratch.mkdir()
        request = {"group": "targets", "step": "onnxruntime", "config": {}, "inputs": {"model": str(folder)}}
        places = {"out": str(out), "scratch": str(scratch), "root": str(folder)}
        run_in_worker({**request, **places, "seed": 0}, lambda fraction, note: None)
        artifact = load_artifact(out)
        feed = make_feeds(None, artifact.inputs, 1, seed=0).batches[0]
        with open_runner(out, RunOptions(threads=threads, profile=True)) as runner:
            for _ in range(runs + _WARM_UP):
                runner.run(feed)
            kernels = runner.operator_times()
    by_operator: dict[str, float] = defaultdict(float)
    for kernel in kernels:
        by_operator[kernel.op] += kernel.microseconds
    ordered = dict(sorted(by_operator.items(), key=lambda item: -item[1]))
    runtime = f"{artifact.runtime} {artifact.runtime_version}"
    return artifact.placement, kernels, Times(runtime, threads, runs, sum(ordered.values()), ordered)


def _rows(costs: ModelCost, placement: Sequence[NodePlacement], kernels: Sequence[OperatorTime]) -> tuple[NodeRow, ...]:
    """Gives each kernel's time to the node that does most of its work; the others name that node."""
    macs = {node.node: node.macs for node in costs.nodes}
    took = {kernel.node: kernel.microseconds for kernel in kernels}
    time: dict[str, float] = {}
    host: dict[str, str] = {}
    for placed in placement:
        made_from = [name for name in placed.source if name in macs]
        if placed.node not in took or not made_from:
            continue
        main = max(made_from, key=lambda name: macs[name])
        time[main] = time.get(main, 0.0) + took[placed.node]
        host |= {name: main for name in made_from if name != main}
    return tuple(
        NodeRow(n.node, n.op, n.shapes, n.macs, n.parameters, time.get(n.node), host.get(n.node, ""))
        for n in costs.nodes
    )


def _targets(model: onnx_ir.Model) -> tuple[TargetRow, ...]:
    from edgewright.engine import registry, toolchain

    rows = []
    for name in registry.names("targets"):
        kind = registry.load("targets", name)
        extra = getattr(kind, "extra", "")
        if extra and toolchain.missing(extra):
            rows.append(TargetRow(name, installed=False, install=toolchain.install_line(extra)))
        else:
            rows.append(TargetRow(name, installed=True, refuses=tuple(kind().refuses(model))))
    return tuple(rows)


def _file_bytes(subject: Subject) -> int:
    from edgewright.graph import confine, load

    if subject.kind == "torch":
        return 0
    if subject.kind != "onnx":
        source = Path(subject.source)
        files = (path for path in source.rglob("*") if path.is_file()) if source.is_dir() else (source,)
        return sum(path.stat().st_size for path in files)
    path = load.model_file(Path(subject.source))
    outside = confine.external_files(load.load_proto(path), path.parent)
    return sum(file.stat().st_size for file in (path, *outside))


def _unknown(costs: ModelCost) -> tuple[str, ...]:
    count = len(costs.unknown_shapes)
    if not count:
        return ()
    return (
        f"the shapes of {count} nodes could not be inferred, {costs.unknown_shapes[0]} for one; MACs and memory leave "
        "them out",
    )
