"""What a bundle says about itself: `manifest.json`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from edgewright.core.budget import Budget, Violation
from edgewright.core.digest import Digest
from edgewright.core.measurement import Device, Measurement
from edgewright.core.recipe import Recipe
from edgewright.core.step import StepRecord
from edgewright.core.tensors import TensorSpec
from edgewright.core.variant import Condition

SCHEMA = 1
"""Version of the manifest's layout that this code writes; lower ones stay readable, higher ones are refused.

Variants did not raise it: who does not know them runs the manifest's own artifact, which is right on every machine.
"""


@dataclass(frozen=True, slots=True)
class FileEntry:
    """One file of the bundle.

    Attributes:
        size: In bytes.
        digest: Of its content.
    """

    size: int
    digest: Digest


@dataclass(frozen=True, slots=True)
class RuntimeRef:
    """Which runtime runs the artifact.

    Attributes:
        name: Name of the runtime, e.g. `onnxruntime`.
        version: Exact version that the artifact was compiled and proven with.
        range: PEP 440 specifier of versions it is expected to run with.
    """

    name: str
    version: str
    range: str


@dataclass(frozen=True, slots=True)
class Options:
    """How the artifact was measured and should be run.

    Attributes:
        threads: Intra-operator threads.
        batch: Samples per run.
        max_batch: Samples that a runner should gather into one run, see `edgewright batch`; 0 where nobody measured.
        max_delay_ms: How long it should wait for them, in milliseconds.
        batches_ahead: How many batches of waiting samples it should sort by length together.
    """

    threads: int = 1
    batch: int = 1
    max_batch: int = 0
    max_delay_ms: float = 0.0
    batches_ahead: int = 1


@dataclass(frozen=True, slots=True)
class GoldenRef:
    """The golden pairs inside the bundle.

    Attributes:
        file: Path of `golden.json` in the bundle; empty when there are no pairs.
        count: Number of pairs.
        tolerance: Largest difference of a decision, see `edgewright.bundle.compare`.
    """

    file: str = ""
    count: int = 0
    tolerance: float = 0.0


@dataclass(frozen=True, slots=True)
class GoldenPair:
    """A raw input and the decision that the artifact made about it when it was packed.

    Attributes:
        input: File of the raw input, relative to the folder of `golden.json`.
        decision: See `edgewright.core.decision.decision_to_json`.
        tolerance: Largest difference of a decision.
    """

    input: str
    decision: Mapping[str, Any]
    tolerance: float


@dataclass(frozen=True, slots=True)
class PipelineSpec:
    """Everything around the model that a device repeats; `pipeline.json` of the golden step.

    Attributes:
        preprocess: Operation tables; file names in them are relative to the folder of this spec.
        postprocess: Operation tables.
        labels: Class names, in index order.
        resources: Name of a file the operations read -> its path relative to the folder of this spec.
    """

    preprocess: tuple[Mapping[str, Any], ...] = ()
    postprocess: tuple[Mapping[str, Any], ...] = ()
    labels: tuple[str, ...] = ()
    resources: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Variant:
    """An artifact that machines of one kind run instead of the manifest's own.

    Attributes:
        name: e.g. `x86-vnni`.
        when: Which machines.
        artifact: Folder of its artifact in the bundle; that of another variant where only session options differ.
        candidate: Its id in the study.
        precision: Main compute precision.
        recipe: What was done to the model.
        runtime: Which runtime, which versions.
        golden: Its own decisions about the golden inputs.
        session: Options of the runtime on top of those of the artifact.
        measurement: What was measured of it on the machine that built the bundle.
        why: Why these machines run it.
    """

    name: str
    when: Condition
    artifact: str
    candidate: str
    precision: str
    recipe: Recipe
    runtime: RuntimeRef
    golden: GoldenRef
    session: Mapping[str, str] = field(default_factory=dict)
    measurement: Measurement | None = None
    why: str = ""


@dataclass(frozen=True, slots=True)
class Manifest:
    """`manifest.json` of a bundle: all that a device and an auditor need to know.

    Where there are variants, the manifest's own artifact, candidate, recipe, runtime, golden pairs and measurement are
    those for machines that no variant fits.

    Attributes:
        schema: Version of this layout.
        edgewright: Version that made the bundle.
        project: Name of the project.
        target: Name of the target.
        candidate: Id of the winner in the study.
        artifact: Folder of the artifact in the bundle.
        precision: Main compute precision.
        inputs: Of the artifact, in its own order.
        outputs: Of the artifact, in its own order.
        pipeline: Pre- and post-processing, labels, resources.
        runtime: Which runtime, which versions.
        options: Threads and batch.
        recipe: What was done to the model.
        budget: The limits that the winner was judged by.
        met: Whether it meets them.
        violations: Broken limits, when it does not.
        why: Why it won, in one sentence.
        measurement: Quality, latency, memory and size of this artifact, with their conditions.
        reference: The original model, measured the same way.
        device: Where it was measured.
        lineage: Every step that led to the artifact, with the versions of its tools.
        tools: Distribution -> version of the environment that built it.
        warnings: What the study warned about.
        golden: The golden pairs.
        files: Path in the bundle -> size and digest, for every file except the manifest itself.
        variants: What machines of some kinds run instead; the first that fits counts.
        session: Options of the runtime on top of those of the manifest's own artifact.
        proof: What was proven of the artifact on the machine that made it.
        unproven: What only the target's own machine can show.
    """

    schema: int
    edgewright: str
    project: str
    target: str
    candidate: str
    artifact: str
    precision: str
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    pipeline: PipelineSpec
    runtime: RuntimeRef
    options: Options
    recipe: Recipe
    budget: Budget
    met: bool
    device: Device
    golden: GoldenRef
    files: Mapping[str, FileEntry]
    violations: tuple[Violation, ...] = ()
    why: str = ""
    measurement: Measurement | None = None
    reference: Measurement | None = None
    lineage: tuple[StepRecord, ...] = ()
    tools: Mapping[str, str] = field(default_factory=dict)
    warnings: tuple[str, ...] = ()
    variants: tuple[Variant, ...] = ()
    session: Mapping[str, str] = field(default_factory=dict)
    proof: tuple[str, ...] = ()
    unproven: tuple[str, ...] = ()

    @property
    def artifacts(self) -> tuple[Manifest | Variant, ...]:
        """The manifest's own artifact and those of the variants, each as the one that describes it."""
        return (self, *self.variants)

    def variant_for(self, device: Device) -> Variant | None:
        """Returns what `device` runs; None for the manifest's own artifact."""
        return next((variant for variant in self.variants if variant.when.fits(device)), None)
