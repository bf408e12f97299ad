"""ONNX Runtime's own format: a FlatBuffer of the optimised graph, for builds with only the operators it needs.

The graph is optimised up to the level `extended`, which fuses operators; the levels above it choose memory layouts for
the processor at hand and are left to whoever opens the file. Integers stay signed where the plan has them signed, so
that the file holds the same graph whether it is made on x86 or on ARM. Its bytes are not the same every time: ONNX
Runtime writes initialisers in the order of a randomised hash table.
"""

from __future__ import annotations

import importlib
import logging
import sys
import warnings
from collections.abc import Iterator, Mapping
from contextlib import redirect_stdout
from dataclasses import dataclass
from io import StringIO
from pathlib import Path
from typing import Any

import numpy as np

from edgewright.errors import StepFailed
from edgewright.runtimes.onnxruntime import open_session, session_options
from edgewright.targets._feed import Feed, feeds
from edgewright.targets._hub import Hub

FILE = "model.ort"
CONFIG = "required_operators_and_types.config"
LEAST_SNR_DB = 60.0
_PORTABLE = {"session.qdqisint8allowed": "1", "session.save_model_format": "ORT"}


@dataclass(frozen=True, slots=True)
class Converted:
    """An ORT file and what it was made from.

    Attributes:
        extras: The configuration of a reduced build (`--include_ops_by_config`).
        proof: What was compared.
        opsets: Domain -> version of the newest operator in it.
    """

    extras: tuple[str, ...]
    proof: tuple[str, ...]
    opsets: Mapping[str, int]


def convert(ort: Any, out: Path, entries: Mapping[str, str], hub: Hub, data: Path | None) -> Converted:
    """Replaces `model.onnx` in `out` by `model.ort` and the configuration of a reduced build.

    Raises:
        StepFailed: ONNX Runtime cannot write it, or what it wrote answers otherwise than the ONNX file.
    """
    source = out / "model.onnx"
    size = sum(file.stat().st_size for file in out.glob("model.onnx*"))
    _write(ort, source, out / FILE, entries)
    _write_config(out)
    said = _compared(ort, source, out / FILE, entries, feeds(hub.inputs, data))
    for file in (source, out / "model.onnx.data"):
        file.unlink(missing_ok=True)
    made = (out / FILE).stat().st_size
    return Converted((CONFIG,), (*said, f"{made} bytes, {made / size:.0%} of the ONNX file"), _domains(out))


def _write(ort: Any, source: Path, target: Path, entries: Mapping[str, str]) -> None:
    options = session_options(ort, {**entries, **_PORTABLE}, threads=1)
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_ENABLE_EXTENDED
    options.optimized_model_filepath = str(target)
    _open(ort, source, options, entries)


def _domains(out: Path) -> dict[str, int]:
    """Reads domains and their newest operator off the configuration: lines of `domain;opset;operators`."""
    found: dict[str, int] = {}
    for line in (out / CONFIG).read_text().splitlines():
        domain, _, rest = line.partition(";")
        if rest and not line.startswith("#"):
            found[domain] = max(found.get(domain, 0), int(rest.partition(";")[0]))
    return found


def _open(ort: Any, file: Path, options: Any, entries: Mapping[str, str]) -> Any:
    try:
        return open_session(ort, file, options, entries)
    except Exception as error:
        raise StepFailed(
            f"ONNX Runtime {ort.__version__} cannot convert the model to its own format: {error}",
            hint='set format = "onnx"; custom operators and float16 on the CPU are the usual causes',
        ) from error


def _write_config(out: Path) -> None:
    """Lists operators and types with ONNX Runtime's own tool, which prints as it goes."""
    create_config_from_models = _tool()
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with redirect_stdout(StringIO()), warnings.catch_warnings():
            warnings.simplefilter("ignore", ResourceWarning)  # it leaves the file to the garbage collector
            create_config_from_models([out / FILE], out / CONFIG, enable_type_reduction=True)
    finally:
        logging.disable(before)
    text = (out / CONFIG).read_text().replace(str(out), ".")
    (out / CONFIG).write_text(text)


def _tool() -> Any:
    """Imports ONNX Runtime's tool; the package around it would import PyTorch for another one, which takes seconds."""
    hidden = "torch" not in sys.modules
    if hidden:
        sys.modules["torch"] = None  # type: ignore[assignment]
    try:
        return importlib.import_module("onnxruntime.tools.ort_format_model").create_config_from_models
    finally:
        if hidden:
            del sys.modules["torch"]


def _compared(ort: Any, source: Path, target: Path, entries: Mapping[str, str], tries: Iterator[Feed]) -> list[str]:
    """Runs both files on the same input.

    Raises:
        StepFailed: They differ by more than the order of additions does.
    """
    sessions = [_open(ort, file, session_options(ort, entries, 1), entries) for file in (source, target)]
    for feed in tries:
        try:
            first, second = (session.run(None, dict(feed)) for session in sessions)
        except Exception:  # noqa: S112 - a guessed size that the model does not take; the proof says if all are
            continue
        same = sum(np.array_equal(a, b, equal_nan=True) for a, b in zip(first, second, strict=True))
        snr = min((_snr(a, b) for a, b in zip(first, second, strict=True)), default=np.inf)
        if snr < LEAST_SNR_DB:
            raise StepFailed(
                f"the ORT file answers otherwise than the ONNX file: {snr:.1f} dB, expected {LEAST_SNR_DB:g}",
                hint='set format = "onnx" and report it with the model',
            )
        exact = f"{same} of {len(first)} outputs equal bit for bit"
        return [f"compared with the ONNX file: {exact}" + ("" if snr == np.inf else f", {snr:.0f} dB")]
    return []


def _snr(expected: Any, found: Any) -> float:
    if not np.issubdtype(np.asarray(expected).dtype, np.floating):
        return np.inf if np.array_equal(expected, found) else 0.0
    signal = float(np.square(expected, dtype=np.float64).sum())
    noise = float(np.square(np.subtract(expected, found, dtype=np.float64)).sum())
    return np.inf if noise == 0 else 10 * float(np.log10(max(signal, 1e-30) / noise))
