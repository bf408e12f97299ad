"""What tests of targets are written with: compile a small model, feed it, expect an error."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.metadata import packages_distributions
from pathlib import Path
from typing import Any, cast

import numpy as np
import onnx
import onnx_ir as ir
from numpy.typing import NDArray

from edgewright.core.target import Target
from edgewright.core.tensors import TensorSpec
from edgewright.engine import registry
from edgewright.errors import EdgewrightError
from edgewright.graph.load import tensor_specs

Feed = Mapping[str, NDArray[Any]]


@dataclass(slots=True)
class QuietContext:
    """A step's context for tests: a scratch folder, a seed, and nobody who listens."""

    scratch: Path
    seed: int = 0

    def progress(self, fraction: float, note: str = "") -> None:
        """Accepts a fraction from 0 to 1."""
        assert 0.0 <= fraction <= 1.0


_COMPILED: dict[tuple[str, bytes, str], Mapping[str, bytes]] = {}
"""Files of what this process has compiled: most checks look at the same few artifacts, and a compiler takes seconds."""


def compiled(target: str, proto: onnx.ModelProto, folder: Path, *, anew: bool = False, **fields: Any) -> Path:
    """Compiles `proto` for `target`, once per process, and returns the artifact folder.

    Args:
        target: Its name.
        proto: The model.
        folder: Empty; the hub model, scratch and artifact go below it.
        anew: Compile it even if this process has done so before, and do not keep it: for what a test changed.
        fields: The target's configuration.
    """
    model, out = folder / "model", folder / "artifact"
    model.mkdir(parents=True)
    out.mkdir()
    onnx.save(proto, model / "model.onnx")
    key = (target, proto.SerializeToString(deterministic=True), repr(sorted(fields.items())))
    if anew or key not in _COMPILED:
        make(target, **fields).run({"model": model}, out, QuietContext(folder / "scratch"))
        if not anew:
            _COMPILED[key] = {str(p.relative_to(out)): p.read_bytes() for p in out.rglob("*") if p.is_file()}
        return out
    for name, content in _COMPILED[key].items():
        (out / name).parent.mkdir(parents=True, exist_ok=True)
        (out / name).write_bytes(content)
    return out


def make(target: str, **fields: Any) -> Target:
    """Builds the target called `target`."""
    return cast(Target, registry.load("targets", target)(**fields))


def feed_for(proto: onnx.ModelProto, *, batch: int = 1, seed: int = 0) -> Feed:
    """Returns random inputs: batch axes of `batch`, other dynamic axes of 5."""
    rng = np.random.default_rng(seed)
    return {spec.name: _values(spec.dtype, _sizes(spec.shape, batch), rng) for spec in specs(proto)[0]}


def specs(proto: onnx.ModelProto) -> tuple[tuple[TensorSpec, ...], tuple[TensorSpec, ...]]:
    """Returns the inputs and outputs of `proto`."""
    return tensor_specs(ir.from_proto(proto))


def _sizes(shape: tuple[int | str, ...], batch: int) -> tuple[int, ...]:
    return tuple(axis if isinstance(axis, int) else batch if axis == "batch" else 5 for axis in shape)


def _values(dtype: str, shape: tuple[int, ...], rng: np.random.Generator) -> NDArray[Any]:
    if np.dtype(dtype).kind == "f":
        return rng.standard_normal(shape).astype(dtype)
    return rng.integers(0, 20, shape).astype(dtype)


def reference(proto: onnx.ModelProto, feed: Feed) -> list[NDArray[Any]]:
    """Runs `proto` in ONNX's reference evaluator."""
    from onnx.reference import ReferenceEvaluator

    return [np.asarray(value) for value in ReferenceEvaluator(proto).run(None, dict(feed))]


@contextmanager
def expecting(error: type[EdgewrightError], *words: str) -> Iterator[None]:
    """Requires `error`, with a hint and with every word in its message or hint."""
    raised: EdgewrightError | None = None
    try:
        yield
    except error as found:
        raised = found
    assert raised is not None, f"expected {error.__name__}, nothing was raised"
    assert raised.hint, f"{error.__name__} without a hint: {raised.message}"
    missing = [word for word in words if word not in str(raised)]
    assert not missing, f"{missing} not named in: {raised}"


@contextmanager
def without(distribution: str) -> Iterator[None]:
    """Makes every module of `distribution` look as if it were not installed."""
    modules = [name for name, owners in packages_distributions().items() if distribution in owners]
    saved = {name: sys.modules.get(name) for name in modules}
    try:
        for name in modules:
            sys.modules[name] = None  # type: ignore[assignment]
        yield
    finally:
        for name, module in saved.items():
            sys.modules.pop(name, None)
            if module is not None:
                sys.modules[name] = module
