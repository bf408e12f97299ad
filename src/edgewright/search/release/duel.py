"""Two bundles timed in turn on this machine: A B, B A, A B ..., each in fresh processes, on their own golden inputs."""

from __future__ import annotations

import shutil
import statistics
import tempfile
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgewright.bundle import open_bundle
from edgewright.bundle.open import Bundle, check_runtime
from edgewright.bundle.raw import read_raw
from edgewright.core.codec import encode_json
from edgewright.core.measurement import Ratio
from edgewright.device.timing.hosts import Relay
from edgewright.device.timing.rounds import Side, interleave
from edgewright.errors import UsageError
from edgewright.measure._decisions import filled
from edgewright.measure._samples import save_inputs
from edgewright.pipeline import Preprocess
from edgewright.runtimes import read_artifact
from edgewright.runtimes._lease import lease

SECONDS = 20.0
WIDTH = 0.03
Progress = Callable[[float, str], None]


@dataclass(frozen=True, slots=True)
class Timed:
    """Both sides of one target, from one interleaved run.

    Attributes:
        speed: New over old per sample; above 1 the new one is faster.
        old_ms: Median time of a sample.
        new_ms: The same.
        old_memory_bytes: Peak of a fresh process, the runtime included.
        new_memory_bytes: The same.
        note: Why the interval is wider than wanted; empty where it is not.
    """

    speed: Ratio
    old_ms: float
    new_ms: float
    old_memory_bytes: int
    new_memory_bytes: int
    note: str = ""


def time_in_turn(
    old: Path, new: Path, *, seconds: float = SECONDS, width: float = WIDTH, progress: Progress | None = None
) -> Timed:
    """Times two bundles with their own threads and batch, each through what it decides with on this machine.

    Args:
        old: A bundle.
        new: A bundle.
        seconds: Limit of the interleaved part.
        width: It ends earlier once the 95% interval of the ratio is narrower than this share of it.
        progress: Told how far it is.

    Raises:
        ToolchainMissing: A runtime is not installed in a fitting version.
        UsageError: A bundle carries no golden inputs to time with.
        StepFailed: An artifact does not run here.
    """
    told = progress or (lambda fraction, note: None)
    before, after = open_bundle(old), open_bundle(new)
    with tempfile.TemporaryDirectory(prefix="edgewright-diff-") as folder, lease("local", told), ExitStack() as stack:
        relays = [stack.enter_context(_relay(b, Path(folder) / str(i))) for i, b in enumerate((before, after))]
        one, other = (Side(relay) for relay in relays)
        one.warm_up()
        other.warm_up()
        ratio, note = interleave(other, one, width=width, seconds=seconds, progress=told)
        for relay in relays:
            relay.finish()
    batches = (before.manifest.options.batch, after.manifest.options.batch)
    scale = batches[1] / batches[0]
    return Timed(
        speed=Ratio(ratio.value * scale, ratio.low * scale, ratio.high * scale),
        old_ms=statistics.median(one.milliseconds) / batches[0],
        new_ms=statistics.median(other.milliseconds) / batches[1],
        old_memory_bytes=max(relays[0].peak_memory_bytes),
        new_memory_bytes=max(relays[1].peak_memory_bytes),
        note=note,
    )


def _relay(bundle: Bundle, folder: Path) -> Relay:
    check_runtime(bundle.runtime)
    folder.mkdir()
    samples = save_inputs(_batches(bundle), folder)
    return Relay(_artifact(bundle, folder / "artifact"), samples, bundle.manifest.options.threads)


def _artifact(bundle: Bundle, folder: Path) -> Path:
    """Returns the artifact that this machine runs; with the options of its variant, where that has some."""
    session = (bundle.variant or bundle.manifest).session
    if not session:
        return bundle.artifact
    shutil.copytree(bundle.artifact, folder)
    described = read_artifact(folder)
    (folder / "artifact.json").write_bytes(encode_json(replace(described, session={**described.session, **session})))
    return folder


def _batches(bundle: Bundle) -> list[dict[str, NDArray[Any]]]:
    """Prepares the golden inputs, each repeated to a whole batch."""
    pairs = bundle.golden_pairs()
    if not pairs:
        raise UsageError(f"{bundle.path}: carries no golden inputs to time with", hint="set [output] golden = 8")
    preprocess = Preprocess.from_spec(bundle.manifest.pipeline.preprocess, bundle.folder, bundle.manifest.inputs)
    folder = (bundle.folder / bundle.golden.file).parent
    names = [spec.name for spec in bundle.manifest.inputs]
    prepared = (preprocess(read_raw(folder / pair.input)).tensors for pair in pairs)
    return [filled({name: one[name][np.newaxis] for name in names}, bundle.manifest.options.batch) for one in prepared]
