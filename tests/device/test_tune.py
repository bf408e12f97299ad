"""The best batch under a budget: the choice as arithmetic, the measuring on a real bundle."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from edgewright.bundle import decide
from edgewright.bundle.open import open_bundle
from edgewright.bundle.options import with_options
from edgewright.core.bundle import Options
from edgewright.core.measurement import Ratio
from edgewright.device.session import RunConfig, run_bundle
from edgewright.device.tune import Limits, Tried, choose, tune, waiting
from edgewright.errors import UsageError

SINGLE = Tried(1, 1, 1.0, 1.2, 1000.0, Ratio(1.0, 1.0, 1.0))


def tried(size: int, gain: float, p95: float, low: float = 1.1, broke: str = "") -> Tried:
    return Tried(size, 1, p95 * 0.9, p95, 1000 * gain, Ratio(gain, low, gain + 0.2), 0, broke)


def test_the_soonest_of_the_nearly_best_is_chosen() -> None:
    flat = (SINGLE, tried(2, 1.3, 2.0), tried(4, 1.58, 3.0), tried(8, 1.6, 6.0))
    best = choose(flat)
    assert best is not None
    assert best.size == 4
    steep = choose((*flat[:3], tried(8, 2.0, 6.0)))
    assert steep is not None
    assert steep.size == 8


def test_a_gain_that_may_be_none_loses_and_so_does_a_broken_limit() -> None:
    assert choose((SINGLE, tried(2, 1.4, 2.0, low=0.9))) == SINGLE
    assert choose((SINGLE, tried(2, 1.4, 2.0), tried(4, 2.0, 9.0, broke="9 ms"))) == tried(2, 1.4, 2.0)
    assert choose((replace(SINGLE, broke="slow"),)) is None


def test_waiting_is_bounded_by_computing_and_by_the_budget() -> None:
    best = tried(8, 1.6, 10.0)
    assert waiting(best, None) == 9.0, "no longer than a batch computes"
    assert waiting(best, 12.5) == 2.5, "no longer than the bound leaves"
    assert waiting(best, 9.0) == 0.0
    assert waiting(SINGLE, 50.0) == 0.0


def test_options_travel_in_a_new_bundle(classifier_bundle: Path, tmp_path: Path) -> None:
    bundle = open_bundle(classifier_bundle, tmp_path / "cache")
    out = with_options(bundle, Options(2, 1, 16, 3.5, 4), tmp_path / "new.ewb")
    again = open_bundle(out, tmp_path / "cache")
    assert again.manifest == replace(bundle.manifest, options=Options(2, 1, 16, 3.5, 4))
    assert again.digest != bundle.digest


def test_what_a_bundle_recommends_is_done(classifier_bundle: Path, tmp_path: Path) -> None:
    bundle = open_bundle(classifier_bundle, tmp_path / "cache")
    out = with_options(bundle, Options(max_batch=4, max_delay_ms=1.0), tmp_path / "new.ewb")
    (tmp_path / "in").mkdir()
    for i in range(6):
        np.save(tmp_path / "in" / f"{i}.npy", np.ones(4))
    config = RunConfig(out, str(tmp_path / "in"), cache=tmp_path / "cache")
    assert run_bundle(config).max_batch == 4
    assert run_bundle(replace(config, max_batch=1)).max_batch == 1


def known_times(monkeypatch: pytest.MonkeyPatch, per_run: float, per_sample: float) -> None:
    """Makes every run take a known time on the clock that `tune` reads, however busy the machine is."""
    now, run = [0.0], decide.Decider._run

    def timed(self: Any, samples: list[Any], block: int) -> Any:
        now[0] += per_run + per_sample * len(samples)
        return run(self, samples, block)

    monkeypatch.setattr(decide.Decider, "_run", timed)
    clock = SimpleNamespace(perf_counter=lambda: now[0], monotonic=lambda: now[0])
    monkeypatch.setattr("edgewright.device.tune.time", clock)


def test_the_ladder_ends_where_the_latency_breaks(
    classifier_bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    known_times(monkeypatch, 2e-3, 0.5e-3)
    bundle = open_bundle(classifier_bundle, tmp_path / "cache")
    found = tune(bundle, [np.ones(4)] * 3, Limits(latency_ms=8.0, seconds=0.0), threads=1)
    assert [row.size for row in found.tried] == [1, 2, 4, 8, 16]
    assert found.stopped == "batches of 16 break the budget: 10.0 ms, at most 8"
    assert found.best.size == 8
    assert found.best.gain.value == pytest.approx(2.5 * 8 / 6)
    assert found.best.p95_ms == pytest.approx(6.0)
    assert found.max_delay_ms == pytest.approx(2.0, abs=0.11)
    assert found.difference <= 1e-6 < found.tolerance


def test_a_model_that_mixes_its_samples_is_noticed(
    classifier_bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    known_times(monkeypatch, 2e-3, 0.5e-3)
    run = decide.Decider._run

    def mixed(self: Any, samples: list[Any], block: int) -> Any:
        return [{"y": row["y"] + (len(samples) > 1) * np.arange(3)} for row in run(self, samples, block)]

    monkeypatch.setattr(decide.Decider, "_run", mixed)
    bundle = open_bundle(classifier_bundle, tmp_path / "cache")
    found = tune(bundle, [np.ones(4)] * 3, Limits(largest=2, seconds=0.0), threads=1)
    assert found.best.size == 2
    assert found.difference > found.tolerance


def test_no_batch_is_no_use_where_runs_cost_nothing_by_themselves(
    classifier_bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    known_times(monkeypatch, 0.0, 1e-3)
    bundle = open_bundle(classifier_bundle, tmp_path / "cache")
    found = tune(bundle, [np.ones(4)], Limits(seconds=0.0, largest=8), threads=1)
    assert found.best.size == 1
    assert "gained less" in found.stopped
    assert found.max_delay_ms == 0.0


def test_what_cannot_be_tuned_says_why(
    classifier_bundle: Path, detector_bundle: Path, tmp_path: Path, bright_square: Any
) -> None:
    bundle = open_bundle(classifier_bundle, tmp_path / "cache")
    with pytest.raises(UsageError, match="not even single samples"):
        tune(bundle, [np.ones(4)], Limits(latency_ms=1e-6, seconds=0.0))
    with pytest.raises(UsageError, match="no samples"):
        tune(bundle, [], Limits())
    fixed = open_bundle(detector_bundle, tmp_path / "cache")
    with pytest.raises(UsageError, match="compiled for batches of 1"):
        tune(fixed, [bright_square(0)], Limits(seconds=0.0))


@pytest.mark.slow
def test_the_command_measures_memory_and_writes(classifier_bundle: Path, tmp_path: Path) -> None:
    out = tmp_path / "tuned.ewb"
    command = ["batch", str(classifier_bundle), "--memory-mb", "4000", "--largest", "2", "--seconds", "0", "--json"]
    done = subprocess.run(
        [sys.executable, "-m", "edgewright.cli", *command, "--write", str(out)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert [row["size"] for row in found["tried"]][:2] == [1, 2]
    assert all(20 << 20 < row["memory_bytes"] < 4000 << 20 for row in found["tried"])
    options = open_bundle(out, tmp_path / "cache").manifest.options
    assert (options.max_batch, options.max_delay_ms) == (found["best"]["size"], found["max_delay_ms"])
