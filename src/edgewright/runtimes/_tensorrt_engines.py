"""Engines that were built on this machine: one per artifact, GPU, driver and TensorRT, kept until one of them changes.

engines/3f9c….engine      the engine
engines/3f9c….json        what it was built of and for, and its digest: written last, read first
engines/timing-….cache    kernel timings of one GPU and TensorRT, which make the next build faster
"""

from __future__ import annotations

import contextlib
import fcntl
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edgewright.core.codec import decode_stored, encode, encode_json
from edgewright.core.digest import digest_json
from edgewright.errors import StepFailed
from edgewright.runtimes import _tensorrt_build as building
from edgewright.runtimes._cuda import GpuIdentity
from edgewright.store.cache import Cache
from edgewright.store.files import digest_file

_KEPT = 4
"""Engines kept of one artifact; older ones make room."""


@dataclass(frozen=True, slots=True)
class Key:
    """What an engine depends on; it is built anew when one of these changes.

    Attributes:
        artifact: Digest of the files it is built of.
        gpu: Name of the GPU.
        capability: CUDA compute capability.
        driver: Newest CUDA version that the driver supports.
        tensorrt: Module and version of TensorRT.
    """

    artifact: str
    gpu: str
    capability: str
    driver: int
    tensorrt: str


@dataclass(frozen=True, slots=True)
class Built:
    """What stands beside an engine.

    Attributes:
        key: What it was built of and for.
        digest: Of the engine.
    """

    key: Key
    digest: str


def key_of(folder: Path, files: tuple[str, ...], gpu: GpuIdentity, trt: Any) -> Key:
    """Returns the key of the engine that `files` in `folder` make on this machine."""
    artifact = digest_json({name: digest_file(folder / name) for name in sorted(files)})
    return Key(artifact, gpu.name, gpu.capability, gpu.driver, f"{trt.__name__} {trt.__version__}")


def engine(folder: Path, key: Key, trt: Any, *, again: bool = False) -> bytes:
    """Returns the engine of `key`, built here if it is not there, is damaged, or `again` is asked for.

    Several processes wait for the one that builds. Killed at any moment, the next call finds a whole engine or none.

    Raises:
        StepFailed: TensorRT refuses the model.
    """
    place = Cache.default().root / "engines"
    name = _short(digest_json(encode(key)))
    with _alone(place, name):
        found = None if again else _kept(place, name, key)
        if found is None:
            found = _build(folder, key, trt, place)
            building.write(place / f"{name}.engine", found)
            marker = Built(key, digest_file(place / f"{name}.engine"))
            building.write(place / f"{name}.json", encode_json(marker))
            _prune(place, key)
    return found


def _kept(place: Path, name: str, key: Key) -> bytes | None:
    file = place / f"{name}.engine"
    try:
        marker = decode_stored(Built, (place / f"{name}.json").read_bytes())
        whole = marker.key == key and digest_file(file) == marker.digest
        return file.read_bytes() if whole else None
    except (OSError, ValueError):
        return None


def _build(folder: Path, key: Key, trt: Any, place: Path) -> bytes:
    timing = _short(digest_json([key.gpu, key.driver, key.tensorrt]))
    try:
        builder = building.Builder(trt, folder)
        builder.parse()
        return builder.build(place / f"timing-{timing}.cache")
    except building.BuildFailed as error:
        raise StepFailed(
            f"{folder}: no engine for {key.gpu}: {error}", hint="compile it again for this GPU: field `gpu`"
        ) from error


def _short(digest: str) -> str:
    """Returns as much of a digest as names a file."""
    return digest.rpartition(":")[2][:32]


def _prune(place: Path, key: Key) -> None:
    """Removes the oldest engines of the same artifact beyond those that are kept."""
    mine = []
    for marker in place.glob("*.json"):
        with contextlib.suppress(OSError, ValueError):
            if decode_stored(Built, marker.read_bytes()).key.artifact == key.artifact:
                mine.append((marker.stat().st_mtime_ns, marker))
    for _, marker in sorted(mine)[:-_KEPT]:
        marker.unlink(missing_ok=True)
        marker.with_suffix(".engine").unlink(missing_ok=True)


@contextlib.contextmanager
def _alone(place: Path, name: str) -> Iterator[None]:
    place.mkdir(parents=True, exist_ok=True)
    with (place / f"{name}.lock").open("a") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield
