"""The keyword spotter at half its multiply-accumulates and in INT8, taught by its float self without a label.

Half of the 1,000 clips, moved in time, slowed and quickened, mixed with each other and with noise, ask the published
float network what it hears; the pruned one learns to say the same. The other half judges. Single halves swing by a
point, so several are drawn, and each difference is paired: both networks hear the same clips.
"""

from __future__ import annotations

import os
import statistics
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from setting import CLEAN_UP, Options, Row, Setting, open_setting

from edgewright.core.codec import decode_stored
from edgewright.core.data import PairedDifference
from edgewright.core.pruning import PRUNING_FILE, Pruning
from edgewright.core.recipe import StepSpec
from edgewright.engine.execute import Result

PROJECT = "keyword_spotting/edgewright.toml"
MACS, LOSS = 0.5, 0.015
SCHEME = "onnxruntime-u8s8-pairs"
RATE = 16000
FIT: dict[str, Any] = {"validation": 0.0, "weight_decay": 0.0, "augment": [{"op": "mixup"}]}
Wave = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Plan:
    """How many halves, how many changed copies of a clip, and how long is learnt from them."""

    halves: int = 3
    copies: int = 8
    epochs: int = 150
    batch: int = 64
    rate: float = 1e-2
    integer_epochs: int = 10
    seconds: float = 10.0


@dataclass(frozen=True, slots=True)
class Outcome:
    """One half: differences to the published float network on clips that were not learnt from."""

    float: PairedDifference
    int8: PairedDifference
    value: float
    macs: float
    faster: float


def run(options: Options) -> tuple[Row, ...]:
    """Prunes, distils and quantises on every half, and prints every figure."""
    plan = Plan(halves=1, copies=1, epochs=2, integer_epochs=1, seconds=2.0) if options.quick else Plan()
    found = [_half(options, plan, seed) for seed in range(plan.halves)]
    lost = [outcome.int8.value for outcome in found]
    mean, spread = statistics.fmean(lost), statistics.stdev(lost) if len(lost) > 1 else 0.0
    worst = _said(min((outcome.int8 for outcome in found), key=lambda difference: difference.value))
    measured = (
        f"{max(outcome.macs for outcome in found):.0%} of the MACs, INT8: {100 * mean:+.1f} points "
        f"(spread {100 * spread:.1f}) over {len(found)} halves, worst {worst}"
    )
    met = mean >= -LOSS and all(outcome.macs <= MACS + 0.005 for outcome in found)
    asked = f"half the MACs, INT8, at most {100 * LOSS:.1f} points"
    return (Row("2 keyword spotting, no labels", asked, measured, bool(met)),)


def _half(options: Options, plan: Plan, seed: int) -> Outcome:
    setting = _setting(options, plan, seed)
    artifact = setting.compile(setting.apply([CLEAN_UP]))
    reference = setting.judge(artifact)
    learnt = _learnt(plan)
    pruned, quantise = setting.apply(learnt), _quantised(plan)
    compact = setting.judge(setting.compile(pruned), reference=reference)
    small = setting.compile(setting.apply([*learnt, *quantise]))
    int8 = setting.judge(small, reference=reference)
    assert compact.difference is not None
    assert int8.difference is not None
    macs = _macs(setting, learnt)
    speed = setting.time(small, artifact, plan.seconds).speedup.value
    print(
        f"  half {seed}: float {reference.value:.4f}, {macs:.1%} of the MACs {_said(compact.difference)}, "
        f"INT8 {int8.value:.4f} {_said(int8.difference)}, {speed:.2f}x as fast",
        flush=True,
    )
    return Outcome(compact.difference, int8.difference, int8.value, macs, speed)


def _learnt(plan: Plan) -> list[StepSpec]:
    regime = {"epochs": plan.epochs, "batch": plan.batch, "learning_rate": plan.rate, "fit": FIT}
    prune = StepSpec("prune", {"macs": MACS, "align": 1, "split": "unlabelled"})
    return [CLEAN_UP, prune, StepSpec("reconstruct", {"limit": 256}), StepSpec("distill", regime)]


def _quantised(plan: Plan) -> list[StepSpec]:
    regime = {"epochs": plan.integer_epochs, "batch": plan.batch, "fit": FIT, "split": "unlabelled"}
    return [StepSpec("static-int8", {"scheme": SCHEME}), StepSpec("qat", regime)]


def _macs(setting: Setting, passes: list[StepSpec]) -> float:
    pruned: Result = setting.apply(passes[:2])
    return decode_stored(Pruning, (pruned.path / PRUNING_FILE).read_bytes()).macs


def _said(difference: PairedDifference) -> str:
    low, high = 100 * difference.low, 100 * difference.high
    return f"{100 * difference.value:+.1f} points [{low:+.1f}, {high:+.1f}]"


def _setting(options: Options, plan: Plan, seed: int) -> Setting:
    files = _files(options, plan, seed)
    clips = {"reader": "npz", "path": str(files / "report.npz")}
    known = {"reader": "npz", "path": str(files / "known.npz"), "label": ""}
    data = {
        "calibration": known,
        "unlabelled": {**known, "path": str(files / "learn.npz")},
        "tune": clips,
        "test": clips,
    }
    return open_setting(PROJECT, replace(options, seed=seed), data=data)


def _files(options: Options, plan: Plan, seed: int) -> Path:
    """Writes one half of the clips, its changed copies, and the other half with its labels."""
    folder = options.work / f"keyword-half-{seed}-{plan.copies}"
    if folder.is_dir():
        return folder
    with np.load(Path(os.environ["EDGEWRIGHT_BENCH"]) / "kws" / "kws01_waveforms_int16.npz") as arrays:
        waves, labels = arrays["x"], arrays["y"]
    rng = np.random.default_rng(seed)
    order = rng.permutation(len(waves))
    known, other = waves[order[: len(waves) // 2]], order[len(waves) // 2 :]
    partial = folder.with_suffix(".partial")
    partial.mkdir(parents=True, exist_ok=True)
    np.savez(partial / "known.npz", x=known)
    np.savez(partial / "report.npz", x=waves[other], y=labels[other])
    np.savez(partial / "learn.npz", x=np.concatenate([known, np.stack(list(_copies(known, plan.copies, rng)))]))
    partial.rename(folder)
    return folder


def _copies(waves: NDArray[np.int16], count: int, rng: np.random.Generator) -> Iterator[NDArray[np.int16]]:
    for wave in waves:
        for _ in range(count):
            changed = _moved(wave.astype(np.float64), rng)
            if rng.random() < 0.4:
                other = waves[rng.integers(len(waves))].astype(np.float64)
                changed = _mixed(changed, np.roll(other, rng.integers(-RATE // 4, RATE // 4)), rng.uniform(0, 20))
            if rng.random() < 0.7:
                changed = _mixed(changed, _noise(rng), rng.uniform(5, 40))
            yield (changed / (np.abs(changed).max() + 1e-9) * 32000).astype(np.int16)


def _moved(wave: Wave, rng: np.random.Generator) -> Wave:
    """Plays up to 12% faster or slower, from up to a tenth of a second earlier or later."""
    places = np.arange(len(wave)) * rng.uniform(0.88, 1.12) + rng.integers(-RATE // 10, RATE // 10)
    return np.interp(places, np.arange(len(wave)), wave, left=0.0, right=0.0)


def _mixed(wave: Wave, other: Wave, decibels: float) -> Wave:
    """Adds `other`, so many decibels below `wave`."""
    levels = [np.sqrt(np.mean(np.square(signal))) + 1.0 for signal in (wave, other)]
    return wave + other * (levels[0] / levels[1] * 10 ** (-decibels / 20))


def _noise(rng: np.random.Generator) -> Wave:
    """White or pink noise."""
    white = rng.normal(size=RATE) * 1000
    if rng.random() < 0.5:
        return white
    spectrum = np.fft.rfft(white)
    pink = np.fft.irfft(spectrum / np.sqrt(np.arange(len(spectrum)) + 1), RATE)
    return np.asarray(pink * (white.std() / pink.std()))
