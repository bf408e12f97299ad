"""What each target refuses of a model, and what works but costs, before training or export."""

from __future__ import annotations

import re
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgewright.core.recipe import StepSpec
from edgewright.core.target import Scheme
from edgewright.errors import ConfigError, EdgewrightError, ToolchainMissing
from edgewright.report.inspection import Subject, as_hub

if TYPE_CHECKING:
    import onnx_ir

    from edgewright.core.measurement import Device
    from edgewright.graph.risks import Layer, Layers

REFUSED, RISKY = "refused", "risky"
_QUOTED = re.compile(r'"([^"]+)"')
_INSTEAD: Mapping[str, str] = {
    "fixed size": "declare the size in the model's inputs",
    "free axis": "declare the size in the model's inputs, or give the target a range of sizes",
    "opset": "export with an older opset, 17 to 21",
    "NonMaxSuppression": 'end the model at boxes and scores and put { op = "nms" } into [[postprocess]]',
    "NonZero": "use a mask of fixed size, or move it behind the model",
    "Loop": "unroll the loop when exporting",
    "If": "choose the branch when exporting",
    "Einsum": "write it as MatMul and Transpose",
}
"""A word in a refusal -> what to do; the first that occurs counts."""
_OTHERWISE = "replace this layer by operators that the target takes, or leave the target out"


@dataclass(frozen=True, slots=True)
class FoundLayer:
    """A layer that a finding is about.

    Attributes:
        node: Name of the node.
        op: Its operator.
        layer: Path of the module, e.g. `backbone.layer1.0.conv1`; empty where the model does not say.
        line: `file.py:line` of the call; empty where the model does not say.
    """

    node: str
    op: str
    layer: str = ""
    line: str = ""

    @property
    def shown(self) -> str:
        """The layer for a reader: its path, else the node."""
        return self.layer or self.node


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing a target refuses, or takes at a cost.

    Attributes:
        level: `refused` or `risky`.
        rule: Name of the rule; `target` where the target itself refuses.
        layers: Where; empty where it is the model as a whole.
        why: The reason, one sentence.
        instead: What to do.
    """

    level: str
    rule: str
    layers: tuple[FoundLayer, ...]
    why: str
    instead: str


@dataclass(frozen=True, slots=True)
class TargetCheck:
    """What one target makes of the model.

    Attributes:
        target: Its name.
        install: The line that installs its toolchain; empty where it is here. Without it only risks are told.
        scheme: Its most promising INT8 scheme for this machine; empty where it has none.
        integer_share: Share of the multiply-accumulates that INT8 computes in integers.
        findings: The refused first.
    """

    target: str
    install: str = ""
    scheme: str = ""
    integer_share: float | None = None
    findings: tuple[Finding, ...] = ()

    @property
    def refused(self) -> bool:
        """Whether the target does not take the model."""
        return any(finding.level == REFUSED for finding in self.findings)


@dataclass(frozen=True, slots=True)
class Check:
    """All targets.

    Attributes:
        model: File name or `module:factory`.
        opset: Of its ONNX form.
        nodes: Operators after clean-up.
        targets: One entry each.
        notes: What was repaired while reading the model.
    """

    model: str
    opset: int
    nodes: int
    targets: tuple[TargetCheck, ...]
    notes: tuple[str, ...] = field(default=())

    @property
    def refused(self) -> tuple[str, ...]:
        """Targets that do not take the model."""
        return tuple(found.target for found in self.targets if found.refused)


def check_model(subject: Subject, targets: Sequence[StepSpec], device: Device) -> Check:
    """Checks a model for every target. A PyTorch module needs no checkpoint: random weights have the same layers.

    Args:
        subject: The model.
        targets: What to check for.
        device: Whose processor decides the INT8 schemes.

    Raises:
        SourceError: The model cannot be read.
        StepFailed: A PyTorch module cannot be exported.
        ToolchainMissing: The source's framework is not installed.
    """
    from edgewright.graph import opset, shapes, simplify
    from edgewright.graph.opset import QDQ_OPSET, raise_opset
    from edgewright.graph.risks import Layers, free_axes

    with tempfile.TemporaryDirectory(prefix="edgewright-check-") as folder:
        model, _, notes = as_hub(subject, Path(folder))
        given, layers, free = opset.opset(model), Layers(model.graph), free_axes(model)
        clean = simplify.simplify(raise_opset(model, max(QDQ_OPSET, 17)))
        scene = _Scene(clean, shapes.bind_axes(clean, {}), layers, given, free, device)
        found = tuple(_checked(spec, scene) for spec in targets)
    name = subject.source if subject.kind == "torch" else Path(subject.source).name
    return Check(name, given, len(list(clean.graph)), found, notes)


@dataclass(frozen=True, slots=True)
class _Scene:
    clean: onnx_ir.Model
    bound: onnx_ir.Model
    layers: Layers
    opset: int
    free: Mapping[str, tuple[str, ...]]
    device: Device


def _checked(spec: StepSpec, scene: _Scene) -> TargetCheck:
    from edgewright.engine import registry
    from edgewright.graph.risks import look, risks

    target: Any = registry.make("targets", spec)
    refused, install = _refused(target, scene)
    scheme = _scheme(target, scene.device)
    sight = look(scene.bound, spec.name, scheme, scene.opset, scene.free, scene.device.machine)
    nodes = {node.name or "": node for node in scene.bound.graph}
    risky = tuple(
        Finding(RISKY, risk.rule, _layers(risk.nodes, nodes, scene.layers), risk.why, risk.instead)
        for risk in risks(sight)
    )
    share = sight.integer_share
    return TargetCheck(spec.name, install, scheme.name if scheme else "", share, (*refused, *risky))


def _refused(target: Any, scene: _Scene) -> tuple[tuple[Finding, ...], str]:
    """Returns what the target itself says, and the install line where it cannot say anything."""
    from edgewright.engine import toolchain

    extra = getattr(target, "extra", "")
    if extra and toolchain.missing(extra):
        return (), toolchain.install_line(extra)
    try:
        reasons = tuple(target.refuses(scene.clean.clone()))
    except ToolchainMissing as error:
        return (), error.hint
    except EdgewrightError as error:
        reasons = (error.message,)
    nodes = {node.name or "": node for node in scene.clean.graph}
    return tuple(_refusal(reason, nodes, scene.layers) for reason in reasons), ""


def _refusal(reason: str, nodes: Mapping[str, onnx_ir.Node], layers: Layers) -> Finding:
    named = [known for name in _QUOTED.findall(reason) if (known := _known(name, nodes))]
    instead = next((line for word, line in _INSTEAD.items() if re.search(rf"\b{word}\b", reason)), _OTHERWISE)
    return Finding(REFUSED, "target", _layers(named, nodes, layers), reason, instead)


def _known(name: str, nodes: Mapping[str, onnx_ir.Node]) -> str:
    """Returns the node that a target means: itself, or the one that its compiler split (`layer_norm/Pow_6`)."""
    while name and name not in nodes:
        name = name.rpartition("/")[0]
    return name


def _layers(names: Iterable[str], nodes: Mapping[str, onnx_ir.Node], layers: Layers) -> tuple[FoundLayer, ...]:
    found: list[Layer] = [layers.of(nodes[name]) for name in names if name in nodes]
    return tuple(FoundLayer(each.node, each.op, each.path, each.line) for each in found)


def _scheme(target: Any, device: Device) -> Scheme | None:
    try:
        schemes: tuple[Scheme, ...] = tuple(target.schemes(device))
    except (ToolchainMissing, ConfigError):
        return None
    return schemes[0] if schemes else None
