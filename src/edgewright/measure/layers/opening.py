"""From a path to a side: what kind of model it is and which runtime opens it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from edgewright.core.target import Artifact
from edgewright.errors import SourceError, UsageError
from edgewright.measure.layers.sides import Side

ARTIFACT = "artifact.json"


@dataclass(slots=True)
class Scratch:
    """A context for a target that is run here and not by the executor."""

    scratch: Path
    seed: int = 0

    def progress(self, fraction: float, note: str = "") -> None:
        """Reports nothing."""


@contextmanager
def open_side(path: Path, scratch: Path) -> Iterator[Side]:
    """Opens a model in its own runtime.

    Args:
        path: An .onnx or .tflite file, a hub model folder, an artifact folder, or an .ewb bundle.
        scratch: An empty folder.

    Raises:
        SourceError: It is none of these, or cannot be read.
        UsageError: Its runtime gives no inner tensors.
        ToolchainMissing: Its runtime is not installed.
    """
    scratch.mkdir(parents=True, exist_ok=True)
    if path.suffix.lower() == ".tflite":
        from edgewright.measure.layers.tflite_side import open_tflite

        with open_tflite(path) as tflite:
            yield tflite
        return
    artifact = _artifact(path, scratch)
    from edgewright.runtimes import load_artifact

    described = load_artifact(artifact)
    runtime = described.runtime
    title = f"{path.name}, {runtime}"
    if runtime == "onnxruntime":
        from edgewright.measure.layers.onnx_side import open_onnx

        _require_readable(path, described)

        with open_onnx(artifact, title, scratch / "onnx") as onnx:
            yield onnx
    elif runtime == "openvino":
        from edgewright.measure.layers.openvino_side import open_openvino

        with open_openvino(artifact, title) as openvino:
            yield openvino
    elif runtime == "litert":
        from edgewright.measure.layers.tflite_side import open_tflite

        with open_tflite(artifact / described.files[0], described) as tflite:
            tflite.title = title
            yield tflite
    else:
        raise UsageError(f"{path}: {runtime} shows no inner tensors", hint="compare onnxruntime, openvino or litert")


def _require_readable(path: Path, described: Artifact) -> None:
    """Refuses what ONNX Runtime runs as a whole: a provider that compiles, and a file of its own format."""
    from edgewright.runtimes._ort_providers import CPU, provider_of

    provider = provider_of(described.session).name
    closed = f"{provider} shows no inner tensors" if provider != CPU else "an ORT file shows no inner tensors"
    if provider != CPU or not described.files[0].endswith(".onnx"):
        raise UsageError(
            f"{path}: {closed}", hint='compare what provider = "cpu" and format = "onnx" make of the model'
        )


def _artifact(path: Path, scratch: Path) -> Path:
    if path.suffix.lower() == ".ewb":
        from edgewright.bundle import open_bundle

        return open_bundle(path).artifact
    if (path / ARTIFACT).is_file():
        return path
    if path.suffix.lower() == ".onnx" or path.is_dir():
        return _compiled(path, scratch)
    raise SourceError(
        f"{path}: neither .onnx, .tflite, .ewb nor a folder of a model or an artifact", hint="check the path"
    )


def _compiled(path: Path, scratch: Path) -> Path:
    """Makes an artifact of ONNX Runtime of a model, which also tells where each node runs.

    A folder is a model of ours and gets the session options that its plan calls for. A bare file runs as it does
    wherever someone opens it: without the option that keeps sums of products from saturating.
    """
    from edgewright.targets.onnxruntime import PRECISE, OnnxRuntimeTarget

    out = scratch / "artifact"
    out.mkdir()
    session = {} if path.is_dir() else {PRECISE: "0"}
    OnnxRuntimeTarget(session=session).run({"model": path}, out, Scratch(scratch))
    return out
