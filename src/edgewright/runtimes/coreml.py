"""Core ML, on macOS."""

from __future__ import annotations

import json
import platform
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path, PurePosixPath
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from edgewright.core.target import Artifact, Runner, RunOptions
from edgewright.core.tensors import TensorSpec
from edgewright.errors import ConfigError, Corrupt, StepFailed, ToolchainMissing
from edgewright.runtimes._coremltools import require_coremltools
from edgewright.runtimes._litert_artifact import ArtifactRunner
from edgewright.runtimes._litert_io import SAME, Border
from edgewright.runtimes._open import load_artifact

UNITS_KEY, BORDER_KEY = "compute_units", "edgewright.coreml"
"""Session entries: which processors Core ML may use, and what the package calls its tensors."""
UNITS = ("ALL", "CPU_ONLY", "CPU_AND_GPU", "CPU_AND_NE")
_ELSEWHERE = "Core ML predicts on macOS only, this is {}"


class CoreMl:
    """Opens a .mlpackage. Core ML chooses its own threads, and gives no times per operator."""

    name: ClassVar[str] = "coreml"
    distribution: ClassVar[str] = "coremltools"

    def open(self, artifact: Path, options: RunOptions) -> AbstractContextManager[Runner]:
        """See `edgewright.core.target.Runtime`.

        Raises:
            ConfigError: An entry of the session is unknown.
        """
        return _opened(artifact, options)


@contextmanager
def _opened(path: Path, options: RunOptions) -> Iterator[Runner]:
    artifact = load_artifact(path)
    border = read_border(artifact, path)
    units = _units({**artifact.session, **options.session})
    manifest = path / artifact.files[0]
    _require_manifest(manifest)
    coremltools = require_coremltools()
    if platform.system() != "Darwin":
        raise ToolchainMissing(
            _ELSEWHERE.format(platform.system()),
            hint='measure on a Mac (`device = "ssh://..."` of the target), or run prove_on_mac.py there',
        )
    try:
        model = coremltools.models.MLModel(str(manifest.parent), compute_units=getattr(coremltools.ComputeUnit, units))
    except Exception as error:  # Core ML raises RuntimeError and its own kinds
        text = " ".join(str(error).split())[:400]
        raise Corrupt(f"{manifest.parent}: Core ML cannot open it: {text}", hint="compile the model again") from error
    yield ArtifactRunner(artifact, PackageRunner(model, border, artifact.outputs), str(manifest.parent))


def _units(session: Mapping[str, str]) -> str:
    unknown = set(session) - {UNITS_KEY, BORDER_KEY}
    units = session.get(UNITS_KEY, UNITS[0])
    if unknown or units not in UNITS:
        found = f'"{min(unknown)}"' if unknown else f'{UNITS_KEY} = "{units}"'
        raise ConfigError(f"Core ML has no session entry {found}", hint=f"{UNITS_KEY} is one of {', '.join(UNITS)}")
    return units


def _require_manifest(file: Path) -> None:
    """Checks the package's own table of contents before Core ML is asked.

    Raises:
        Corrupt: It is malformed, or names a file that is not there.
    """
    try:
        content = json.loads(file.read_bytes())
        entries = [str(item["path"]) for item in content["itemInfoEntries"].values()]
        missing = [entry for entry in entries if not (file.parent / "Data" / _inside(entry)).exists()]
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise Corrupt(f"{file}: not the manifest of a package: {error}", hint="compile or unpack it again") from error
    if missing:
        raise Corrupt(f"{file} names {missing[0]}, which is missing", hint="compile or unpack it again")


def _inside(entry: str) -> str:
    path = PurePosixPath(entry)
    if path.is_absolute() or ".." in path.parts:
        raise ValueError(f"{entry} leaves the package")
    return entry


def read_border(artifact: Artifact, where: Path) -> dict[str, list[dict[str, Any]]]:
    """Returns what the package calls its inputs and outputs, and how images are made: see `PackageRunner`.

    Raises:
        Corrupt: The session says it in no form that can be read.
    """
    try:
        found = json.loads(artifact.session[BORDER_KEY])
        for side in ("inputs", "outputs"):
            for tensor in found[side]:
                TensorSpec(str(tensor["name"]), np.dtype(tensor["dtype"]).name, tuple(map(int, tensor["shape"])))
        return {side: list(found[side]) for side in ("inputs", "outputs")}
    except (ValueError, KeyError, TypeError) as error:
        raise Corrupt(
            f"{where}: {BORDER_KEY} of the session: {error!r}", hint="compile or unpack the artifact again"
        ) from error


class PackageRunner:
    """A loaded package, taking and giving tensors in its own types and order.

    Args:
        model: coremltools' `MLModel`, or anything with its `predict`.
        border: Per side a list of {"name", "dtype", "shape"}; an input that is an image also has "image": {"colour",
            "scale", "bias"}, with which the model's tensor is turned back into the picture that Core ML takes.
        declared: Outputs as the artifact gives them: of other types than the package's, where that has no such type.
    """

    def __init__(
        self, model: Any, border: Mapping[str, Sequence[Mapping[str, Any]]], declared: Sequence[TensorSpec]
    ) -> None:
        self._model = model
        self._types = [spec.dtype for spec in declared]
        self._images = {str(t["name"]): dict(t["image"]) for t in border["inputs"] if t.get("image")}
        self.inputs, self.outputs = (
            tuple(TensorSpec(str(t["name"]), str(t["dtype"]), tuple(t["shape"])) for t in border[side])
            for side in ("inputs", "outputs")
        )

    def compute(self, arrays: Sequence[NDArray[Any]], borders: Sequence[Border]) -> list[NDArray[Any]]:
        """Predicts once; see `edgewright.runtimes._litert_artifact.FileRunner`.

        Raises:
            StepFailed: Core ML refuses.
        """
        assert all(border is SAME for border in borders)
        feed = {spec.name: self._given(spec, array) for spec, array in zip(self.inputs, arrays, strict=True)}
        try:
            found = self._model.predict(feed)
        except Exception as error:  # Core ML raises RuntimeError and its own kinds
            raise StepFailed(f"Core ML: {error}", hint="try the original model on the same input") from error
        pairs = zip(self.outputs, self._types, strict=True)
        return [np.asarray(found[s.name], dtype).reshape([int(n) for n in s.shape]) for s, dtype in pairs]

    def _given(self, spec: TensorSpec, array: NDArray[Any]) -> Any:
        if spec.name not in self._images:
            return np.ascontiguousarray(array, spec.dtype)
        from PIL import Image

        return Image.fromarray(picture(array, **self._images[spec.name]))


def picture(tensor: NDArray[Any], colour: str, scale: Sequence[float], bias: Sequence[float]) -> NDArray[np.uint8]:
    """Returns the picture [height, width] or [height, width, red green blue] that a tensor [1, C, H, W] was made of.

    Args:
        tensor: scale x pixel + bias.
        colour: Order of its channels: `rgb`, `bgr` or `gray`.
        scale: One per channel.
        bias: One per channel.
    """
    factor, offset = (np.asarray(n, np.float64).reshape(-1, 1, 1) for n in (scale, bias))
    values = np.clip(np.rint((tensor[0].astype(np.float64) - offset) / factor), 0, 255).astype(np.uint8)
    ordered = values[::-1] if colour == "bgr" else values
    return np.ascontiguousarray(ordered[0] if colour == "gray" else np.moveaxis(ordered, 0, -1))


plugin = CoreMl
