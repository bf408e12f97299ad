"""A device behind a real sshd on the loopback: the same figures and decisions, whatever happens to the connection."""

from __future__ import annotations

import itertools
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgewright.core.codec import decode_stored
from edgewright.core.measurement import Timing
from edgewright.core.target import RunOptions
from edgewright.device.timing.timed import Question
from edgewright.errors import ConnectionLost, DataError
from edgewright.measure._outcomes import read_outcomes
from edgewright.measure.devices import connect
from edgewright.measure.evaluate import Evaluate
from edgewright.measure.profile import Profile
from edgewright.measure.time import Time
from edgewright.runtimes import open_runner
from edgewright.runtimes._machine import local_device

pytestmark = pytest.mark.slow


def _samples(folder: Path, count: int = 3, width: int = 256) -> list[Path]:
    folder.mkdir(exist_ok=True)
    rng = np.random.default_rng(0)
    paths = [folder / f"{index}.npz" for index in range(count)]
    for path in paths:
        np.savez(path, x=rng.normal(size=(1, width)).astype(np.float32))
    return paths


def _linear(linear: Any, name: str = "model", layers: int = 12) -> Path:
    weight = np.random.default_rng(1).normal(size=(256, 256)) / 16
    return Path(linear(name, weight, layers=layers))


def test_the_device_describes_itself_and_computes_the_same_bits(sshd: Any, linear: Any, tmp_path: Path) -> None:
    artifact = _linear(linear)
    inputs = {"x": np.random.default_rng(2).normal(size=(5, 256)).astype(np.float32)}
    with connect(sshd.address) as device:
        found, here = device.describe(), local_device()
        assert (found.name, found.processor, found.isa) == ("ssh://device", here.processor, here.isa)
        assert device.versions(["numpy", "no-such"]) == {"numpy": np.__version__, "no-such": None}
        with open_runner(artifact) as expected, device.open_runner(artifact, RunOptions(threads=2)) as runner:
            assert runner.run(inputs)["y"].tobytes() == expected.run(inputs)["y"].tobytes()
            assert sshd.cut() >= 1
            assert runner.run(inputs)["y"].tobytes() == expected.run(inputs)["y"].tobytes()
            with pytest.raises(DataError, match="expected shape"):
                runner.run({"x": np.zeros((5, 7), np.float32)})
        assert set(device.conditions()) >= {"governor", "load"}


def test_evaluate_and_time_run_there(sshd: Any, linear: Any, give_data: Any, out: Path, context: Any) -> None:
    artifact = _linear(linear)
    give_data([np.random.default_rng(i).normal(size=256).astype(np.float32) for i in range(40)], labels=[3] * 40)
    there = out / "there"
    there.mkdir()
    Evaluate().run({"artifact": artifact, "data": Path()}, out, context)
    Evaluate(device=sshd.address).run({"artifact": artifact, "data": Path()}, there, context)
    assert read_outcomes(there) == read_outcomes(out)
    Time(device=sshd.address, max_seconds=1).run({"artifact": artifact, "data": Path()}, out, context)
    assert decode_stored(Timing, (out / "timing.json").read_bytes()).peak_memory_bytes > 10 * 2**20
    Profile(device=sshd.address, runs=3).run({"artifact": artifact, "data": Path()}, out, context)
    assert (out / "operators.json").read_text().count('"MatMul"') == 12


def test_a_cut_connection_loses_nothing(sshd: Any, null: Any, tmp_path: Path) -> None:
    artifact, reference = null("a"), null("b")
    samples, question = _samples(tmp_path / "samples"), Question(max_seconds=4.0, target_width=1e-9)
    cuts, notes = [], list[str]()
    with connect(sshd.address, progress=lambda fraction, note: notes.append(note)) as device:

        def cut_now_and_then() -> None:
            for _ in range(2):
                time.sleep(1.5)
                cuts.append(sshd.cut())

        thread = threading.Thread(target=cut_now_and_then)
        thread.start()
        timing, rounds = device.time_rounds(artifact, reference, samples, question)
        thread.join()
    assert len(cuts) == 2
    assert sum(cuts) >= 2
    assert any("trying again" in note for note in notes)
    assert timing.conditions.rounds == len(rounds) >= 6
    assert timing.latency_ms.count == sum(len(each.candidate.ms) for each in rounds)
    ends = [each.candidate.span for each in rounds]
    assert all(a is not None and b is not None and a[1] <= b[0] for a, b in itertools.pairwise(ends))
    assert not list((sshd.home / "device" / "jobs").iterdir())


CLIENT = """
import json, sys
from pathlib import Path
from edgewright.device.timing.timed import Question
from edgewright.measure.devices import connect
address, artifact, reference, samples = sys.argv[1:]
with connect(address, progress=lambda fraction, note: print(note, flush=True)) as device:
    paths = sorted(Path(samples).iterdir())
    timing, rounds = device.time_rounds(Path(artifact), Path(reference), paths, Question(1, 1, 6.0, 1e-9))
spans = [each.candidate.span[0] for each in rounds]
count = sum(len(each.candidate.ms) for each in rounds)
print("ROUNDS", len(rounds), timing.conditions.rounds, count, timing.latency_ms.count, min(spans), max(spans))
"""


def test_after_a_kill_the_same_command_goes_on(sshd: Any, null: Any, tmp_path: Path) -> None:
    artifact, reference = null("a"), null("b")
    _samples(tmp_path / "samples")
    command = [sys.executable, "-c", CLIENT, sshd.address, str(artifact), str(reference), str(tmp_path / "samples")]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as first:
        assert first.stdout is not None
        for line in first.stdout:
            if "rounds" in line:
                break
        os.kill(first.pid, signal.SIGKILL)
    killed = time.monotonic()
    (job,) = (sshd.home / "device" / "jobs").iterdir()
    listed = subprocess.run(["pgrep", "-f", f"remote.job {job}"], capture_output=True, text=True, check=True)
    os.kill(int(listed.stdout.split()[0]), signal.SIGKILL)  # and the power goes over there
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    _, rounds, told, runs, counted, began, ended = done.stdout.splitlines()[-1].split()
    assert (rounds, runs) == (told, counted)
    assert float(began) < killed < float(ended)  # the rounds from before are among them


@pytest.mark.prove
def test_over_ssh_equals_local_within_noise(sshd: Any, linear: Any, tmp_path: Path) -> None:
    artifact, reference = _linear(linear, "a"), _linear(linear, "b", layers=36)
    samples, question = _samples(tmp_path / "samples"), Question(max_seconds=10.0, target_width=0.05)
    ratios = []
    with connect(sshd.address) as there, connect(f"local?root={tmp_path / 'here'}") as here:
        for _ in range(5):
            one = there.time(artifact, reference, samples, question)
            two = here.time(artifact, reference, samples, question)
            ratios.append(one.speedup.value / two.speedup.value)
    print("speed-up over ssh / local:", [f"{ratio:.3f}" for ratio in ratios])
    assert 0.95 < float(np.median(ratios)) < 1.05


def test_what_cannot_be_reached_is_an_error_at_once(sshd: Any, tmp_path: Path) -> None:
    closed = sshd.address.replace("ssh://device", "ssh://127.0.0.1:9")
    began = time.monotonic()
    with pytest.raises(ConnectionLost, match="cannot be reached") as caught, connect(closed):
        pass
    assert "ssh -o BatchMode=yes -p 9 127.0.0.1" in caught.value.hint
    assert time.monotonic() - began < 20


def test_measurements_on_one_device_wait_for_each_other(null: Any, tmp_path: Path) -> None:
    artifact, samples, spans = null("a"), _samples(tmp_path / "samples"), []

    def one(batch: int) -> None:
        with connect(f"local?root={tmp_path / 'device'}") as device:
            _, rounds = device.time_rounds(artifact, None, samples, Question(target_width=batch))
            blocks = [each.candidate.span for each in rounds]
            spans.append((min(span[0] for span in blocks if span), max(span[1] for span in blocks if span)))

    threads = [threading.Thread(target=one, args=(batch,)) for batch in (1, 2, 3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(spans) == 3
    assert all(a[1] <= b[0] for a, b in itertools.pairwise(sorted(spans)))
