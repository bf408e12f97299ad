"""Interleaved timing: the arithmetic on made-up hosts, the steps on real processes."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgewright.core.codec import decode_stored
from edgewright.core.measurement import Ratio, Timing
from edgewright.core.target import OperatorTime
from edgewright.device.timing import rounds as _rounds
from edgewright.device.timing.conditions import governor, temperature
from edgewright.device.timing.hosts import Block, HostProcess
from edgewright.device.timing.rounds import Side, block_runs, interleave, speedup, summary
from edgewright.errors import Corrupt, DataError, StepFailed
from edgewright.measure.profile import Profile
from edgewright.measure.time import Time, size_bytes
from edgewright.runtimes._lease import lease, runtime_folder


class FakeHost:
    """Takes `ms` per run with noise common to all hosts of a clock; time does not pass."""

    def __init__(self, ms: float, noise: Iterator[float], log: list[str], name: str) -> None:
        self.ms, self.noise, self.log, self.name = ms, noise, log, name

    def time(self, runs: int, unrecorded: int) -> Block:
        self.log.append(self.name)
        factor = next(self.noise)
        return Block(tuple(self.ms * factor for _ in range(runs)), microjoules=2000 * runs)

    def renew(self) -> None:
        self.log.append(self.name.upper())


def _sides(spread: float) -> tuple[Side, Side, list[str]]:
    rng, log = np.random.default_rng(0), list[str]()
    noise = iter(lambda: float(rng.lognormal(0.0, spread)), None)
    return Side(FakeHost(1.0, noise, log, "a")), Side(FakeHost(2.0, noise, log, "b")), log


def _quiet(fraction: float, note: str) -> None:
    pass


def test_order_alternates_and_it_stops_when_narrow() -> None:
    a, b, log = _sides(0.001)
    ratio, note = interleave(a, b, width=0.05, seconds=60, progress=_quiet)
    renewed = "AaaaaaBbbbbb"  # a fresh process each, warmed up
    assert "".join(log) == "abbaabbaab" + renewed + "baabbaabba"
    assert note == ""
    assert ratio.low <= ratio.value <= ratio.high
    assert ratio.value == pytest.approx(2.0, rel=0.01)


def test_more_noise_takes_more_rounds() -> None:
    a, b, _ = _sides(0.05)
    ratio, _ = interleave(a, b, width=0.05, seconds=60, progress=_quiet)
    assert len(a.blocks) > 20
    assert (ratio.high - ratio.low) / ratio.value <= 0.05
    assert ratio.low <= 2.0 <= ratio.high


def test_the_limit_ends_it_and_says_so() -> None:
    a, b, _ = _sides(0.5)
    ratio, note = interleave(a, b, width=0.01, seconds=0, progress=_quiet)
    assert len(a.blocks) == 6
    assert note.startswith("stopped at 0 s: the 95% interval of the ratio is")
    assert np.isfinite([ratio.low, ratio.high]).all()


def test_a_disturbed_round_does_not_decide() -> None:
    a, b = Side(FakeHost(1, iter(()), [], "a")), Side(FakeHost(2, iter(()), [], "b"))
    a.blocks = [Block((1.0,), None)] * 9 + [Block((50.0,), None)]
    b.blocks = [Block((2.0,), None)] * 10
    assert speedup(a, b).value == 2.0


def test_energy_per_run_is_of_all_recorded_runs() -> None:
    a, _, _ = _sides(0.0)
    a.warm_up()
    a.measure()
    assert a.energy_mj == pytest.approx(2.0)
    a.blocks.append(Block((1.0,), None))
    assert a.energy_mj is None


@pytest.mark.parametrize(("ms", "runs"), [(0.01, 500), (1.0, 100), (14.0, 10), (100.0, 5), (2000.0, 1)])
def test_block_sizes(ms: float, runs: int) -> None:
    assert block_runs(ms) == runs


def test_summary_is_of_single_runs() -> None:
    found = summary([float(v) for v in range(1, 101)])
    assert (found.p50, found.count, found.mean) == (50.5, 100, 50.5)
    assert found.p50 < found.p90 < found.p95 < found.p99 < 100


def _timing(folder: Path) -> Timing:
    return decode_stored(Timing, (folder / "timing.json").read_bytes())


@pytest.fixture
def pair(linear: Any, give_data: Any) -> tuple[Path, Path]:
    """An artifact and a reference with four times its work."""
    weight = np.eye(256) * 0.99
    give_data([np.ones(256, np.float32)] * 3)
    return linear("small", weight, layers=6), linear("large", weight, layers=24)


@pytest.mark.slow
def test_time_against_a_slower_reference(pair: tuple[Path, Path], out: Path, context: Any) -> None:
    step = Time(max_seconds=6.0, target_width=0.1)
    step.run({"artifact": pair[0], "reference": pair[1], "data": Path()}, out, context)
    found = _timing(out)
    assert 1.5 < found.speedup.value < 6.0
    assert found.speedup.low <= found.speedup.value <= found.speedup.high
    assert found.latency_ms.p50 < found.reference_ms.p50
    assert found.latency_ms.count >= 6 * found.conditions.rounds
    assert found.throughput == pytest.approx(1000 / found.latency_ms.p50)
    assert found.load_ms > 1.0
    assert found.peak_memory_bytes > 20 * 2**20
    assert found.size_bytes == (pair[0] / "model.onnx").stat().st_size
    assert (found.energy_mj is None) or found.energy_mj > 0
    assert found.energy_note
    assert (found.conditions.threads, found.conditions.batch, found.basis) == (1, 1, "measured")
    assert found.conditions.warmup >= 20
    assert not list(context.scratch.iterdir())


@pytest.mark.slow
def test_the_reference_itself_is_timed_alone(pair: tuple[Path, Path], out: Path, context: Any) -> None:
    Time(batch=2).run({"artifact": pair[0], "reference": pair[0], "data": Path()}, out, context)
    found = _timing(out)
    assert found.speedup == Ratio(1.0, 1.0, 1.0)
    assert found.latency_ms == found.reference_ms
    assert found.conditions.note == "the reference itself"
    assert found.throughput == pytest.approx(2 * 1000 / found.latency_ms.p50)


def test_a_fixed_batch_refuses_another(linear: Any, give_data: Any, out: Path, context: Any) -> None:
    give_data([np.ones(3, np.float32)])
    with pytest.raises(DataError, match="fixed batch of 1, batch 4 was asked for"):
        Time(batch=4).run({"artifact": linear("a", np.eye(3), batch=1), "data": Path()}, out, context)


@pytest.mark.slow
def test_a_broken_artifact_is_named(linear: Any, give_data: Any, out: Path, context: Any) -> None:
    give_data([np.ones(3, np.float32)])
    artifact = linear("a", np.eye(3))
    (artifact / "model.onnx").write_bytes(b"not a model")
    with pytest.raises(Corrupt) as caught:
        Time().run({"artifact": artifact, "data": Path()}, out, context)
    assert str(artifact) in caught.value.message


def test_missing_input_and_empty_split(linear: Any, give_data: Any, out: Path, context: Any) -> None:
    artifact = linear("a", np.eye(3))
    give_data([])
    with pytest.raises(DataError, match="holds no sample to time with"):
        Time().run({"artifact": artifact, "data": Path()}, out, context)


def test_a_host_that_dies_leaves_its_last_words(linear: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    code = "import sys; sys.stdin.readline(); sys.exit('illegal instruction, or so')"
    start = subprocess.Popen
    monkeypatch.setattr(subprocess, "Popen", lambda command, **fields: start([sys.executable, "-c", code], **fields))
    with HostProcess(linear("artifact", np.eye(2))) as host, pytest.raises(StepFailed) as caught:
        host.time(1, 0)
    assert "artifact ended with status 1" in caught.value.message
    assert "illegal instruction, or so" in caught.value.message


def test_a_host_that_hangs_is_given_up(linear: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    start = subprocess.Popen
    monkeypatch.setattr(
        subprocess,
        "Popen",
        lambda command, **fields: start([sys.executable, "-c", "import time; time.sleep(60)"], **fields),
    )
    with (
        HostProcess(linear("artifact", np.eye(2)), answer_seconds=0.2) as host,
        pytest.raises(StepFailed, match="no answer to time"),
    ):
        host.time(1, 0)
    assert host._channel._process.returncode == -9


HOLD = (
    "import fcntl, sys, time\n"
    "file = open(sys.argv[1], 'a'); fcntl.flock(file, fcntl.LOCK_EX); print('held', flush=True)\n"
    "time.sleep(float(sys.argv[2]))"
)


def _holder(seconds: float) -> subprocess.Popen[bytes]:
    path = runtime_folder() / "device-local.lock"
    holder = subprocess.Popen([sys.executable, "-c", HOLD, str(path), str(seconds)], stdout=subprocess.PIPE)
    assert holder.stdout is not None
    assert holder.stdout.readline() == b"held\n"
    return holder


def test_two_measurements_never_run_at_once(context: Any) -> None:
    with _holder(0.8):
        start = time.monotonic()
        with lease("local", context.progress):
            assert time.monotonic() - start > 0.4
        assert context.notes == [(0.0, "waiting: another process measures on local")]
    with lease("local", context.progress):
        assert len(context.notes) == 1


def test_the_lease_keeps_others_waiting(context: Any) -> None:
    path = runtime_folder() / "device-local.lock"
    with lease("local", context.progress), subprocess.Popen([sys.executable, "-c", HOLD, str(path), "0"]) as other:
        with pytest.raises(subprocess.TimeoutExpired):
            other.wait(0.5)
        other.kill()


def test_a_killed_holder_frees_the_lease(context: Any) -> None:
    with _holder(60) as holder:
        holder.kill()
        holder.wait()
        with lease("local", context.progress):
            assert context.notes == []


def test_size_counts_external_data_but_not_the_description(linear: Any) -> None:
    artifact = linear("a", np.eye(3))
    text = (artifact / "artifact.json").read_text().replace('"model.onnx"', '"model.onnx", "weights.bin"')
    (artifact / "artifact.json").write_text(text)
    (artifact / "weights.bin").write_bytes(b"x" * 1000)
    assert size_bytes(artifact) == 1000 + (artifact / "model.onnx").stat().st_size


def test_conditions_come_from_the_kernel(tmp_path: Path) -> None:
    assert (governor(tmp_path), temperature(tmp_path)) == (None, None)
    for core, mode in enumerate(["performance", "performance", "powersave"]):
        folder = tmp_path / f"devices/system/cpu/cpu{core}/cpufreq"
        folder.mkdir(parents=True)
        (folder / "scaling_governor").write_text(mode + "\n")
    for zone, reading in enumerate(["41000", "57500", "garbage"]):
        folder = tmp_path / f"class/thermal/thermal_zone{zone}"
        folder.mkdir(parents=True)
        (folder / "temp").write_text(reading)
    assert (governor(tmp_path), temperature(tmp_path)) == ("performance, powersave", 57.5)


def test_profile_reports_operators(linear: Any, give_data: Any, out: Path, context: Any) -> None:
    give_data([np.ones(64, np.float32)] * 3)
    Profile(runs=6).run({"artifact": linear("a", np.eye(64), layers=3, batch=2), "data": Path()}, out, context)
    found = decode_stored(tuple[OperatorTime, ...], (out / "operators.json").read_bytes())  # type: ignore[arg-type]
    assert [time.op for time in found].count("MatMul") == 3
    assert all(time.microseconds >= 0 for time in found)
    assert context.notes[-1] == (1.0, "run 6 of 6")


def test_least_rounds_is_what_the_interval_needs() -> None:
    assert np.isfinite(_rounds.median_interval([1.0] * _rounds.LEAST_ROUNDS)).all()
    assert not np.isfinite(_rounds.median_interval([1.0] * (_rounds.LEAST_ROUNDS - 1))).any()
