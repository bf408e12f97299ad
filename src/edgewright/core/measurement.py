"""What was measured, on what, under which conditions."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from edgewright.core.data import PairedDifference, QualityFigure
from edgewright.core.digest import Digest
from edgewright.core.telemetry import Telemetry

MEASURED, EMULATED, PREDICTED = "measured", "emulated", "predicted"


@dataclass(frozen=True, slots=True)
class Device:
    """The machine a figure belongs to.

    Attributes:
        name: `local`, or the name it has in a lab file.
        machine: `x86_64`, `aarch64`...
        processor: Marketing name, e.g. `AMD EPYC 7763`.
        cores: Logical cores this process may use.
        isa: The instruction sets that decide which kernels run: avx2, avx512f, avx512_vnni, avx_vnni,
            avx512_bf16, amx_int8, amx_bf16, asimddp, i8mm, bf16...
        memory_bytes: Physical memory.
        system: Kernel and release.
    """

    name: str
    machine: str
    processor: str
    cores: int
    isa: tuple[str, ...]
    memory_bytes: int
    system: str


@dataclass(frozen=True, slots=True)
class Conditions:
    """The state of the device while timing.

    Attributes:
        threads: Intra-operator threads of the runtime.
        batch: Samples per run.
        governor: CPU frequency governor; None where the system does not say.
        temperature_c: Hottest sensor in degrees Celsius; None where there is none.
        load: One-minute load average before the measurement started.
        rounds: Interleaved rounds (A B A B) that were run.
        warmup: Runs thrown away before timing.
        note: Anything a reader must know, such as a limit that was reached before the interval was narrow.
        telemetry: What the device did meanwhile; None where it has no sensors.
    """

    threads: int
    batch: int
    governor: str | None
    temperature_c: float | None
    load: float
    rounds: int
    warmup: int
    note: str = ""
    telemetry: Telemetry | None = None


@dataclass(frozen=True, slots=True)
class Summary:
    """A latency distribution in milliseconds, after warm-up."""

    p50: float
    p90: float
    p95: float
    p99: float
    mean: float
    count: int


@dataclass(frozen=True, slots=True)
class Ratio:
    """Speed-up over the reference measured in the same interleaved run (> 1 is faster), with its 95% interval."""

    value: float
    low: float
    high: float


@dataclass(frozen=True, slots=True)
class Timing:
    """Everything a fresh process tells about one artifact beside the reference.

    Attributes:
        latency_ms: Distribution of one run of `conditions.batch` samples.
        reference_ms: The reference in the same interleaved run.
        speedup: Ratio of medians, reference / this.
        throughput: Samples per second at p50.
        load_ms: From opening the artifact to the first finished run, in a fresh process.
        size_bytes: Files of the artifact that ship.
        peak_memory_bytes: Peak resident memory of the fresh process, runtime included.
        energy_mj: Energy per run in millijoules (RAPL package), None where unreadable.
        energy_note: Why energy is absent, or what it covers.
        conditions: See `Conditions`.
        basis: measured, emulated or predicted.
    """

    latency_ms: Summary
    reference_ms: Summary
    speedup: Ratio
    throughput: float
    load_ms: float
    size_bytes: int
    peak_memory_bytes: int
    energy_mj: float | None
    energy_note: str
    conditions: Conditions
    basis: str = MEASURED


@dataclass(frozen=True, slots=True)
class Quality:
    """Quality of one artifact on one split, through its own runtime.

    Attributes:
        figures: One per metric; the first is the one budgets judge.
        difference: Paired difference to the reference per metric, same order; empty for the reference itself.
        per_class: Class name -> value of the first metric (classification and detection).
        changed_share: Share of samples whose decision differs from the reference's.
        agreement: True when the figure is agreement with the original model because there are no labels.
        warnings: What a reader must know, such as outputs that were not finite.
        stand_in: Who computed it where the artifact's own runtime does not run here, e.g. "the same graph in
            onnxruntime"; empty where its own runtime did.
    """

    figures: tuple[QualityFigure, ...]
    difference: tuple[PairedDifference, ...] = ()
    per_class: Mapping[str, float] = field(default_factory=dict)
    changed_share: float = 0.0
    agreement: bool = False
    warnings: tuple[str, ...] = ()
    stand_in: str = ""


@dataclass(frozen=True, slots=True)
class Measurement:
    """One artifact, judged.

    Attributes:
        artifact: Digest of the artifact folder.
        device: Where.
        tune: Quality on the split that the search selects on.
        test: Quality on the split that is reported; None until the artifact is a finalist.
        timing: None while only quality is known.
        size_bytes: Files of the artifact that ship; None where only `timing` tells.
    """

    artifact: Digest
    device: Device
    tune: Quality
    test: Quality | None = None
    timing: Timing | None = None
    size_bytes: int | None = None

    @property
    def size(self) -> int | None:
        """Bytes that ship, by the timing where there is one."""
        return self.timing.size_bytes if self.timing else self.size_bytes

    @property
    def on_target(self) -> bool:
        """True when latency and quality are those of the target itself, and nothing stood in for it."""
        return self.timing is not None and self.timing.basis == MEASURED and not self.tune.stand_in
