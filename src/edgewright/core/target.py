"""Targets, how each wants to be quantised, what they make, and who runs it."""

from __future__ import annotations

import re
from collections.abc import Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Protocol

from numpy.typing import NDArray

from edgewright.core.digest import Digest
from edgewright.core.measurement import Device
from edgewright.core.step import Step
from edgewright.core.tensors import TensorSpec

if TYPE_CHECKING:
    import onnx_ir


@dataclass(frozen=True, slots=True)
class Scheme:
    """How one runtime on one kind of processor wants a graph to be quantised: data, not code.

    Attributes:
        name: e.g. `onnxruntime-u8s8`.
        activation: `uint8`, `int8`, `uint16` or `int16`.
        activation_symmetric: Zero point fixed at the middle of the type.
        weight: `int8` or `uint8`.
        weight_symmetric: Zero point at the middle of the type for every channel: 0 for int8, 128 for uint8.
        weight_per_channel: One scale per output channel where the operator allows it.
        weight_bits: 8, or 7 where 8 would saturate the processor's 16-bit accumulator (`reduce_range`).
        quantized: Operators whose inputs are quantised.
        shared: Operators that pass integers through: input and output share one scale.
        bias: `int32` (scale = input scale x weight scale) or `float32`.
        session: Session options the artifact needs, e.g. {"session.x64quantprecision": "1"}.
        outputs: Operators that the runtime only computes in integers when their output is quantised too.
        fused: Activations computed inside the operator before them: the quantiser goes behind them.
        keep_float: Nodes this runtime runs better in float: name patterns or `@first`, `@last`, `@depthwise`,
            `@activations`.
        requantize_shared: Put quantisers behind data movement too; False where the runtime moves integers on its own
            and would compute a second rounding.
        input_weight_bits: Bits of weights that multiply the model's input, where they saturate first; 0 for
            `weight_bits`.
        caution: What may go wrong with it on this processor; empty where nothing is known to.
        float_results: Operators whose result the runtime quantises wrongly when they compute in float.
        fixed_outputs: Operator -> (scale, zero point) of its result, whatever the data.
        per_tensor_ops: Operators whose weights take one scale although `weight_per_channel`.
        safe_pairs: Scale weights so that no sum of two neighbouring products exceeds 16 bits (see `graph.saturation`).
        skip_adds: Quantise the branch that an Add takes past an operator with weights, and not that operator's result.
        opset: Lowest ONNX opset whose QuantizeLinear knows the types.
        activates: Operators without weights that compute one of `fused` along.
        interpolates: A Resize in mode linear passes integers as well: the runtime interpolates between them.
        whole: Every operator that takes integers is quantised, from the model's inputs to its outputs, and not only
            what operators with weights need.
        biases: An Add of a constant vector is the bias of the MatMul before it: nothing between them is quantised.
    """

    name: str
    activation: str
    activation_symmetric: bool
    weight: str
    weight_symmetric: bool
    weight_per_channel: bool
    weight_bits: int
    quantized: tuple[str, ...]
    shared: tuple[str, ...]
    bias: str
    session: Mapping[str, str] = field(default_factory=dict)
    outputs: tuple[str, ...] = ()
    fused: tuple[str, ...] = ("Relu", "Clip")
    keep_float: tuple[str, ...] = ()
    requantize_shared: bool = True
    input_weight_bits: int = 0
    caution: str = ""
    float_results: tuple[str, ...] = ()
    fixed_outputs: Mapping[str, tuple[float, int]] = field(default_factory=dict)
    per_tensor_ops: tuple[str, ...] = ()
    skip_adds: bool = False
    safe_pairs: bool = False
    opset: int = 13
    activates: tuple[str, ...] = ()
    interpolates: bool = False
    whole: bool = False
    biases: bool = False


def exactly(name: str) -> str:
    """Returns the pattern of `keep_float` that matches the operator called `name` and no other."""
    return re.sub(r"([*?\[])", r"[\1]", name)


@dataclass(frozen=True, slots=True)
class TensorPlan:
    """How one tensor is quantised: real = scale x (integer - zero point).

    Attributes:
        tensor: Name in the graph.
        dtype: `int8`, `uint8`, `int32`...
        scale: One value, or one per channel.
        zero_point: As many as scales.
        axis: Channel axis; None for per-tensor.
        reason: Why these numbers, for a reader.
        limits: Smallest and largest integer that constants are saturated to; None for those of the type.
    """

    tensor: str
    dtype: str
    scale: tuple[float, ...]
    zero_point: tuple[int, ...]
    axis: int | None
    reason: str
    limits: tuple[int, int] | None = None


@dataclass(frozen=True, slots=True)
class Plan:
    """A whole quantisation, described before it is applied; saved as `plan.json` beside the model.

    Attributes:
        scheme: Name of the scheme it follows.
        tensors: One entry per quantised tensor, in graph order.
        kept_float: Node name -> why it stays float.
        hints: What ONNX cannot say: {"inference_precision": "bf16"}, palettes, dynamic activations.
    """

    scheme: str
    tensors: tuple[TensorPlan, ...] = ()
    kept_float: Mapping[str, str] = field(default_factory=dict)
    hints: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class NodePlacement:
    """Where and in which precision one node of the compiled artifact really runs.

    Attributes:
        node: The runtime's own name for it.
        op: The runtime's own operator or kernel name.
        where: `CPU`, `XNNPACK`, `NPU`...
        precision: `float32`, `float16`, `bfloat16`, `int8`, `integer` (data movement of integers)...
        source: Names of the nodes of the model that went into it.
        planned: False when the plan wanted another precision or place; `strict` fails on these.
        share: Share of the run time, 0 to 1; None where the runtime does not say.
        note: Why it is unplanned, or what the runtime did.
    """

    node: str
    op: str
    where: str
    precision: str
    source: tuple[str, ...] = ()
    planned: bool = True
    share: float | None = None
    note: str = ""


@dataclass(frozen=True, slots=True)
class Artifact:
    """What a target makes: `artifact.json` in its folder, beside the files of the runtime.

    Attributes:
        target: Name of the target.
        runtime: Name of the runtime that runs it.
        runtime_version: Exact version it was compiled and proven with.
        runtime_range: PEP 440 specifier of versions it is expected to run with.
        files: Relative paths of the runtime's files; the first is the one to open.
        inputs: In the graph's order.
        outputs: In the graph's order.
        precision: `float32`, `bfloat16`, `int8`...: the main compute precision.
        session: Options a Runner must set to reproduce what was measured.
        placement: Every node, as the runtime really runs it.
        extras: Relative paths of files for developers beside them (sources, pictures): they travel in the bundle, but
            the device does not need them and they do not count as its size.
        proof: What the target itself proved of it on the machine that made it, one sentence each.
        unproven: What only another machine can show, and how it is shown there.
    """

    target: str
    runtime: str
    runtime_version: str
    runtime_range: str
    files: tuple[str, ...]
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    precision: str
    session: Mapping[str, str] = field(default_factory=dict)
    placement: tuple[NodePlacement, ...] = ()
    extras: tuple[str, ...] = ()
    proof: tuple[str, ...] = ()
    unproven: tuple[str, ...] = ()


class Target(Step, Protocol):
    """A place to run a model. `run` takes inputs["model"] (hub folder) and writes an artifact folder."""

    name: ClassVar[str]
    runtime: ClassVar[str]
    extra: ClassVar[str]
    """Name of the extra that installs its toolchain."""

    strict: bool

    def refuses(self, graph: onnx_ir.Model) -> tuple[str, ...]:
        """Says why the target cannot take `graph`, one sentence per reason, before anything is paid for."""

    def schemes(self, device: Device) -> tuple[Scheme, ...]:
        """How this runtime can be quantised on `device`, the most promising first; empty if it cannot."""

    def precisions(self, device: Device) -> Mapping[str, str]:
        """Float precisions: name -> "" when `device` runs it natively, else why it is not worth trying.

        `int8` may be there too, with the reason why there are no schemes.
        """


@dataclass(frozen=True, slots=True)
class RunOptions:
    """How to open an artifact.

    Attributes:
        threads: Intra-operator threads.
        profile: Record time per operator, at some cost in speed.
        session: Options of the runtime on top of those of the artifact.
    """

    threads: int = 1
    profile: bool = False
    session: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class OperatorTime:
    """Time of one node of the running artifact, median over the profiled runs."""

    node: str
    op: str
    microseconds: float


class Runner(Protocol):
    """An opened artifact."""

    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]

    def run(self, inputs: Mapping[str, NDArray[Any]]) -> Mapping[str, NDArray[Any]]:
        """Runs one batch.

        Args:
            inputs: Name -> array with the batch axis, of exactly the declared dtype.

        Raises:
            DataError: A name, dtype or shape does not fit.
        """

    def operator_times(self) -> tuple[OperatorTime, ...]:
        """Time per operator of the runs so far; empty unless opened with `profile`."""


class Runtime(Protocol):
    """Opens artifacts; its framework is imported in `open`, not before."""

    name: ClassVar[str]
    distribution: ClassVar[str]
    """The distribution whose version is the runtime's version."""

    def open(self, artifact: Path, options: RunOptions) -> AbstractContextManager[Runner]:
        """Opens the artifact folder.

        Raises:
            ToolchainMissing: The runtime is not installed; the hint is the install line.
            Corrupt: The artifact cannot be read.
        """


@dataclass(frozen=True, slots=True)
class ArtifactRef:
    """An artifact on disk and its identity."""

    path: Path
    digest: Digest
