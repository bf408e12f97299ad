"""Every import is compared with its source; the difference is written down beside the model."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgewright.core.codec import encode_json
from edgewright.core.tensors import TensorSpec
from edgewright.errors import SourceError, StepFailed, ToolchainMissing
from edgewright.runtimes._ort_custom import register
from edgewright.sources._feeds import Feed, Feeds

Outputs = Mapping[str, NDArray[Any]]
Evaluate = Callable[[Feed], Outputs]


@dataclass(frozen=True, slots=True)
class Difference:
    """How far two models are apart on the same inputs.

    Attributes:
        samples: Batches compared.
        largest: Largest absolute difference of any output element.
        snr_db: 10 log10(sum of squares of the reference / sum of squared differences) of the worst output; None when
            every element is equal.
    """

    samples: int
    largest: float
    snr_db: float | None


@dataclass(frozen=True, slots=True)
class ImportRecord:
    """`import.json`: what was imported and how faithful it is.

    Attributes:
        kind: `onnx`, `torch`, `tflite`, `keras` or `saved-model`.
        opset: Of the imported model.
        inputs: In the graph's order.
        outputs: In the graph's order.
        compared_samples: Batches compared with the source.
        largest_difference: Largest absolute difference of any output element.
        snr_db: Of the worst output; None when every element is equal.
        compared_with: Who ran the source, and on which inputs.
        notes: What a reader should know, e.g. what was repaired.
    """

    kind: str
    opset: int
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    compared_samples: int
    largest_difference: float
    snr_db: float | None
    compared_with: str
    notes: tuple[str, ...] = ()


def compare(reference: Evaluate, imported: Evaluate, feeds: Iterable[Feed]) -> Difference:
    """Runs both on every feed and returns the worst difference.

    Raises:
        StepFailed: An output is missing, has another shape, or is not a number where the reference is.
    """
    samples, largest = 0, 0.0
    signal: dict[str, float] = {}
    noise: dict[str, float] = {}
    for feed in feeds:
        expected, found = reference(feed), imported(feed)
        for name, value in expected.items():
            error = _error(name, value, found)
            largest = max(largest, float(np.max(error, initial=0.0)))
            signal[name] = signal.get(name, 0.0) + float(np.sum(np.square(_finite(value))))
            noise[name] = noise.get(name, 0.0) + float(np.sum(np.square(error)))
        samples += 1
    ratios = [_decibels(signal[name], noise[name]) for name in signal if noise[name] > 0]
    return Difference(samples, largest, min(ratios) if ratios else None)


def check_difference(difference: Difference, least_snr_db: float, against: str) -> None:
    """Checks that the import computes what its source does.

    Raises:
        StepFailed: The worst output is nearer to noise than `least_snr_db` allows.
    """
    if difference.snr_db is not None and difference.snr_db < least_snr_db:
        raise StepFailed(
            f"the imported model differs from {against}: {difference.snr_db:.1f} dB, at least {least_snr_db:g} dB "
            f"expected; largest difference {difference.largest:.4g} on {difference.samples} samples",
            hint="export the model in evaluation mode and without random operators; if outputs are decisions that "
            "rounding may flip, lower `least_snr_db`",
        )


def write_record(record: ImportRecord, out: Path) -> None:
    """Writes `import.json` into `out`."""
    (out / "import.json").write_bytes(encode_json(record))


def describe_feeds(runner: str, feeds: Feeds) -> str:
    """Returns the sentence for `compared_with`."""
    return f"{runner}, on {feeds.origin}"


def onnxruntime_evaluator(path: Path, *, literal: bool = False, libraries: Iterable[Path] = ()) -> Evaluate:
    """Opens an ONNX file in ONNX Runtime on the CPU.

    Args:
        path: The file.
        literal: Compute every operator as the ONNX specification says, quantisers around operators on floats: the
            integer kernels that ONNX Runtime puts in their place saturate on some processors.
        libraries: Native libraries of its custom operators.

    Raises:
        ToolchainMissing: ONNX Runtime is not installed.
        SourceError: It refuses the model.
    """
    try:
        import onnxruntime
    except ImportError as error:
        raise ToolchainMissing(
            "comparing a model with its import needs onnxruntime", hint='pip install "edgewright[onnxruntime]"'
        ) from error
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    if literal:
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    register(options, libraries)
    try:
        session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    except Exception as error:  # its exceptions share no public base class
        text = " ".join(str(error).split())[:500]
        raise SourceError(
            f"{path}: ONNX Runtime does not run this model: {text}",
            hint="replace the operator it names, or export the model again with a current exporter",
        ) from error
    names = [output.name for output in session.get_outputs()]
    return lambda feed: dict(zip(names, session.run(names, dict(feed)), strict=True))


def _error(name: str, expected: NDArray[Any], outputs: Outputs) -> NDArray[np.float64]:
    found = outputs.get(name)
    if found is None or found.shape != expected.shape:
        raise StepFailed(
            f'output "{name}": shape {expected.shape} expected, {"nothing" if found is None else found.shape} found',
            hint="this is a defect of the import; report it with the model",
        )
    same = (expected == found) | (np.isnan(_float(expected)) & np.isnan(_float(found)))
    with np.errstate(invalid="ignore"):
        error = np.where(same, 0.0, np.abs(_float(expected) - _float(found)))
    if not np.all(np.isfinite(error)):
        raise StepFailed(
            f'output "{name}" is not a finite number where its source is, or the other way round',
            hint="compare on real samples: random inputs can leave the range the model was made for",
        )
    return error


def _float(value: NDArray[Any]) -> NDArray[np.float64]:
    return np.asarray(value, dtype=np.float64)


def _finite(value: NDArray[Any]) -> NDArray[np.float64]:
    return np.nan_to_num(_float(value), posinf=0.0, neginf=0.0)


def _decibels(signal: float, noise: float) -> float:
    return 10.0 * math.log10(signal / noise) if signal > 0 else -math.inf
