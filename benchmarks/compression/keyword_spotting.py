"""The keyword spotter at half its multiply-accumulates and in INT8, taught by its float self without a label.

Half of the 1,000 clips, at another pace and pitch, moved in time, some spliced or mixed with each other, through other
microphones and in noise, ask the published float network what it hears; the pruned one learns to say the same. Its
batch norm was folded at export, and it learns with a new one. The other half judges. Single halves swing by a point,
so several are drawn, and each difference is paired: both networks hear the same clips. The recipe was chosen by how
far a network that learnt from four fifths of one half agrees with its teacher on the last fifth.
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
TEMPERATURE = 2.0
RATE = 16000
GRAIN, REACH = 800, 160
"""Samples of a grain of sound, and how far it may move to fit the one before."""
FIT: dict[str, Any] = {"validation": 0.0, "weight_decay": 0.0}
Wave = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Plan:
    """How many halves, how many changed copies of a clip, and how long is learnt from them."""

    halves: int = 3
    copies: int = 24
    epochs: int = 14
    batch: int = 64
    rate: float = 3e-2
    integer_epochs: int = 1
    seconds: float = 10.0


@dataclass(frozen=True, slots=True)
class Outcome:
    """One half: the difference to the published float network on clips that were not learnt from, and what it cost."""

    int8: PairedDifference
    macs: float


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
    return Outcome(int8.difference, macs)


def _learnt(plan: Plan) -> list[StepSpec]:
    regime = {"epochs": plan.epochs, "batch": plan.batch, "learning_rate": plan.rate, "fit": FIT}
    taught = {**regime, "temperature": TEMPERATURE, "steps": "normalised"}
    prune = StepSpec("prune", {"macs": MACS, "least": 0.66, "align": 1, "split": "unlabelled"})
    return [CLEAN_UP, prune, StepSpec("reconstruct", {"limit": 2000}), StepSpec("distill", taught)]


def _quantised(plan: Plan) -> list[StepSpec]:
    regime = {"epochs": plan.integer_epochs, "batch": plan.batch, "temperature": TEMPERATURE, "fit": FIT}
    return [StepSpec("static-int8", {"scheme": SCHEME}), StepSpec("qat", {**regime, "split": "unlabelled"})]


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
            changed = _spoken(wave, rng)
            if (drawn := rng.random()) < 0.3:
                other = _spoken(waves[rng.integers(len(waves))], rng)
                changed = _spliced(changed, other, rng) if drawn < 0.15 else _mixed(changed, other, rng.uniform(5, 25))
            changed = _heard(changed, rng)
            yield (changed / (np.abs(changed).max() + 1e-9) * 32000).astype(np.int16)


def _spoken(wave: NDArray[np.int16], rng: np.random.Generator) -> Wave:
    """By somebody else: at another pace, in another pitch, up to a tenth of a second earlier or later."""
    changed = wave.astype(np.float64)
    if rng.random() < 0.7:
        changed = _paced(changed, rng.uniform(0.8, 1.25))
    middle = len(wave) // 2
    places = (np.arange(len(wave)) - middle) * rng.uniform(0.85, 1.18) + middle + rng.integers(-RATE // 10, RATE // 10)
    return np.asarray(np.interp(places, np.arange(len(wave)), changed, left=0.0, right=0.0))


def _paced(wave: Wave, pace: float) -> Wave:
    """Slower or faster in the same pitch: overlapping grains, each begun where it fits on the one before (WSOLA)."""
    whole, hop = len(wave), GRAIN // 2
    shape = np.hanning(GRAIN + 1)[:GRAIN]
    made, weight, before = np.zeros(whole + 2 * GRAIN), np.zeros(whole + 2 * GRAIN), 0
    for start in range(0, whole, hop):
        at = int(start * pace) - hop
        tail, near = wave[before + hop :][:GRAIN:4], wave[max(at - REACH, 0) :][: 2 * REACH + GRAIN : 4]
        if start and len(tail) == GRAIN // 4 < len(near):
            at = max(at - REACH, 0) + 4 * int(np.argmax(np.correlate(near, tail, "valid")))
        before = min(max(at, 0), whole - GRAIN)
        made[start : start + GRAIN] += wave[before : before + GRAIN] * shape
        weight[start : start + GRAIN] += shape
    return (made / np.maximum(weight, 1e-3))[hop : hop + whole]


def _spliced(wave: Wave, other: Wave, rng: np.random.Generator) -> Wave:
    """Goes over from one to the other, at one level, either of them first."""
    start, length = rng.uniform(RATE * 0.2, RATE * 0.8), rng.uniform(RATE * 0.02, RATE * 0.2)
    share = np.clip((np.arange(len(wave)) - start) / length + 0.5, 0.0, 1.0)
    if rng.random() < 0.5:
        share = 1.0 - share
    return np.asarray(wave * share + other * (_level(wave) / _level(other)) * (1.0 - share))


def _mixed(wave: Wave, other: Wave, decibels: float) -> Wave:
    """Adds `other`, so many decibels below `wave`."""
    return np.asarray(wave + other * (_level(wave) / _level(other) * 10 ** (-decibels / 20)))


def _heard(wave: Wave, rng: np.random.Generator) -> Wave:
    """Through another microphone (a smooth curve of gains), and now and then with noise between white and pink."""
    spectrum = np.fft.rfft(wave)
    if rng.random() < 0.7:
        place = np.pi * np.sqrt(np.linspace(0.0, 1.0, len(spectrum)))
        decibels = sum(rng.normal() * 4 / (turn + 0.5) * np.cos(turn * place) for turn in range(1, 5))
        spectrum *= 10 ** (decibels / 20)
    if rng.random() < 0.4:
        noise = rng.normal(size=(2, len(spectrum))) / (np.arange(len(spectrum)) + 1) ** rng.uniform(0.0, 1.0)
        power = np.sqrt(np.mean(np.square(np.abs(spectrum))) / np.mean(np.square(noise)) / 2)
        spectrum += (noise[0] + 1j * noise[1]) * power * 10 ** (-rng.uniform(12, 45) / 20)
    return np.asarray(np.fft.irfft(spectrum, len(wave)))


def _level(wave: Wave) -> float:
    return float(np.sqrt(np.mean(np.square(wave)))) + 1.0
