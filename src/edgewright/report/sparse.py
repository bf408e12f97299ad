"""Zeros among the weights of a candidate, and what they bring on its target: measured where a dense twin was tried."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from edgewright.core.measurement import Ratio
from edgewright.core.recipe import Candidate, StepSpec, Study
from edgewright.errors import EdgewrightError
from edgewright.report.evidence import Evidence
from edgewright.search import wording

if TYPE_CHECKING:
    from edgewright.graph.sparsity import LayerSparsity

KERNELS: Mapping[str, str] = {
    "onnxruntime": "the kernels of ONNX Runtime for processors compute a zero like any other weight",
    "openvino": "OpenVINO unpacks sparse INT8 weights of matrix products on processors with AMX, and only where "
    "CPU_SPARSE_WEIGHTS_DECOMPRESSION_RATE asks for it; other kernels compute a zero like any other weight",
    "litert": "XNNPACK skips zeros only in 1x1 convolutions that a file stores sparsely; this one stores them all",
    "tensorrt": "tensor cores of Ampere and newer skip half of 2:4 weights, if the target is given `sparse = true`",
}
"""Target -> what its kernels do with zeros (their manuals; `docs/how-to/sparsity.md` names the places)."""
_SAME_SHAPES = ("sparsify", "fine-tune", "distill", "qat")
"""Passes that change the values of weights and nothing that a dense kernel's time depends on."""


@dataclass(frozen=True, slots=True)
class Sparse:
    """Zeros of one candidate.

    Attributes:
        share: Of all weights that are zero.
        layers: Every layer, in order.
        text: How many, in which pattern, and what they bring here.
        gain: Speed over the dense twin; None where none was timed.
    """

    share: float
    layers: tuple[LayerSparsity, ...]
    text: str
    gain: Ratio | None = None


def sparse(study: Study, candidate: Candidate, evidence: Evidence) -> Sparse | None:
    """Returns what there is to say of zeros in `candidate`; None where its weights are dense or no longer stored."""
    folder = _model(candidate, evidence)
    layers = () if folder is None else _measured(folder)
    if not any(layer.pattern for layer in layers):
        return None
    share = sum(layer.share * layer.weights for layer in layers) / sum(layer.weights for layer in layers)
    twin = dense_twin(study, candidate)
    gain = None if twin is None else _gain(candidate, twin)
    text = f"{share:.0%} of the weights are zero; {_patterns(layers)}. {_brings(candidate, twin, gain)}"
    return Sparse(share, layers, text, gain)


def dense_twin(study: Study, candidate: Candidate) -> Candidate | None:
    """Returns the candidate that differs in its zeros alone: same target, threads, batch and structure."""
    if not any(spec.name == "sparsify" for spec in candidate.recipe.passes):
        return None
    mine = _structure(candidate)
    for other in study.of_target(candidate.target):
        alike = (other.threads, other.batch) == (candidate.threads, candidate.batch) and _structure(other) == mine
        if alike and not any(spec.name == "sparsify" for spec in other.recipe.passes):
            return other
    return None


def ratio(ours: Ratio, theirs: Ratio) -> Ratio:
    """Returns how many times `ours` is `theirs`: two ratios to one reference, their errors taken as independent."""
    value = ours.value / theirs.value
    spread = math.hypot(*(math.log(each.high / each.low) / 2 for each in (ours, theirs)))
    return Ratio(value, value / math.exp(spread), value * math.exp(spread))


def _structure(candidate: Candidate) -> tuple[StepSpec, ...]:
    return tuple(spec for spec in candidate.recipe.passes if spec.name not in _SAME_SHAPES)


def _gain(candidate: Candidate, twin: Candidate) -> Ratio | None:
    timings = [c.measurement.timing for c in (candidate, twin) if c.measurement and c.measurement.timing]
    return ratio(timings[0].speedup, timings[1].speedup) if len(timings) == 2 else None


def _patterns(layers: tuple[LayerSparsity, ...]) -> str:
    kinds = dict.fromkeys(layer.pattern for layer in layers if layer.pattern)
    counts = {kind: sum(layer.pattern == kind for layer in layers) for kind in kinds}
    words = {kind: "are unstructured" if kind == "unstructured" else f"keep to {kind}" for kind in counts}
    return f"of {wording.plural(len(layers), 'layer')} " + ", ".join(f"{n} {words[kind]}" for kind, n in counts.items())


def _brings(candidate: Candidate, twin: Candidate | None, gain: Ratio | None) -> str:
    kernels = next((KERNELS[record.step] for record in reversed(candidate.lineage) if record.step in KERNELS), "")
    because = f": {kernels}" if kernels else ""
    if twin is None or gain is None:
        return f"What they bring in speed was not measured: no candidate is the same but dense{because}."
    interval = f"{wording.speed(gain.value)} [{gain.low:.2f}, {gain.high:.2f}] of the speed of {twin.recipe.title!r}"
    if gain.low > 1:
        return f"They bring speed on {candidate.target}: {interval}, which is dense."
    if gain.high < 1:
        return f"They cost speed on {candidate.target}: {interval}, which is dense{because}."
    return f"They bring nothing on {candidate.target}: {interval}, which is dense{because}."


def _model(candidate: Candidate, evidence: Evidence) -> Path | None:
    """Returns the model that was compiled, or else the newest one of its recipe that is still there."""
    kept = evidence.file(candidate, "model")
    names = {spec.name for spec in candidate.recipe.passes}
    made = (evidence.made(record) for record in reversed(candidate.lineage) if record.step in names)
    return next((found for found in (kept, *made) if found is not None and (found / "model.onnx").is_file()), None)


def _measured(folder: Path) -> tuple[LayerSparsity, ...]:
    """Returns the layers of a stored model; nothing where it cannot be read."""
    from edgewright.graph.load import load
    from edgewright.graph.sparsity import measure

    try:
        return measure(load(folder))
    except EdgewrightError:
        return ()
