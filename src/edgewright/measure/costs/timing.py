"""Times several artifacts beside each other, all of them in every round, here or on a device."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from edgewright.core.target import OperatorTime, RunOptions
from edgewright.device.timing.hosts import Relay
from edgewright.device.timing.rounds import Side
from edgewright.device.timing.timed import Question
from edgewright.measure.devices import connect, open_on
from edgewright.runtimes._lease import lease

Progress = Callable[[float, str], None]
_DEVICE_SECONDS = 4.0
_SHORTER = 4
"""Blocks are shorter than those of `time` by this factor: rounds of many artifacts would take too long to compare."""
_QUANTILE = 0.25
"""Of the runs of a block; whatever else runs on the machine only ever adds time."""
_SWEEPS = 20


def side_by_side(
    artifacts: Sequence[Path], samples: Sequence[Path], threads: int, rounds: int, device: str, progress: Progress
) -> tuple[float, tuple[float, ...]]:
    """Times artifacts in turn; the first is the one that ratios compare with.

    Args:
        artifacts: Folders.
        samples: `.npz` files of inputs.
        threads: Of the runtime.
        rounds: How often every artifact gets its turn.
        device: Address; empty for this machine.
        progress: Told after every round.

    Returns:
        Milliseconds of the first, and time relative to it of every one.
    """
    if device:
        return _on_device(artifacts, samples, threads, device, progress)
    with lease("local", progress):
        return _here(artifacts, samples, threads, rounds, progress)


def _here(
    artifacts: Sequence[Path], samples: Sequence[Path], threads: int, rounds: int, progress: Progress
) -> tuple[float, tuple[float, ...]]:
    with ExitStack() as stack:
        sides = [Side(stack.enter_context(Relay(artifact, samples, threads))) for artifact in artifacts]
        for side in sides:
            side.warm_up()
            side.runs = max(1, side.runs // _SHORTER)
        for number in range(rounds):
            for side in sides if number % 2 == 0 else reversed(sides):
                side.measure()
            progress((number + 1) / rounds, f"round {number + 1} of {rounds}")
    times = np.asarray([[np.quantile(block.ms, _QUANTILE) for block in side.blocks] for side in sides])
    return float(np.median(times[0])), ratios_of(times)


def ratios_of(times: NDArray[np.float64]) -> tuple[float, ...]:
    """Returns the time of every artifact relative to the first, by median polish of the logarithms (Tukey 1977).

    All artifacts of a round say how busy the machine was in it, so that the ratios do not rest on the first alone.

    Args:
        times: [artifacts, rounds], positive.
    """
    logs = np.log(times)
    own = np.median(logs, axis=1)
    for _ in range(_SWEEPS):
        busy = np.median(logs - own[:, None], axis=0)
        own = np.median(logs - busy, axis=1)
    return tuple(float(ratio) for ratio in np.exp(own - own[0]))


def _on_device(
    artifacts: Sequence[Path], samples: Sequence[Path], threads: int, device: str, progress: Progress
) -> tuple[float, tuple[float, ...]]:
    """Asks a device for one comparison after another: it keeps what it was sent and survives a broken connection."""
    ratios, whole = [1.0], 0.0
    with connect(device, progress=progress) as connection:
        for index, artifact in enumerate(artifacts[1:], start=1):
            timing = connection.time(artifact, artifacts[0], samples, Question(threads, max_seconds=_DEVICE_SECONDS))
            ratios.append(1 / timing.speedup.value)
            whole = whole or timing.reference_ms.p50
            progress(index / (len(artifacts) - 1), f"form {index} of {len(artifacts) - 1}")
    return whole, tuple(ratios)


def profiled(
    artifact: Path, feed: Mapping[str, object], threads: int, runs: int, device: str
) -> tuple[OperatorTime, ...]:
    """Returns the time of every operator of an artifact; empty where its runtime does not tell."""
    options = RunOptions(threads=threads, profile=True)
    with open_on(device, artifact, options, exclusive=True) as runner:
        for _ in range(runs):
            runner.run(feed)  # type: ignore[arg-type]
        return runner.operator_times()
