from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from dataclasses import replace

import pytest

from edgewright.core.digest import digest_bytes
from edgewright.core.recipe import StepSpec
from edgewright.engine import toolchain
from edgewright.engine.execute import Executor, Input
from edgewright.errors import ConfigError, DataError, OutOfSpace, StepFailed

COPY = StepSpec("copy")


@pytest.fixture
def given(tmp_path):
    path = tmp_path / "given"
    path.write_bytes(b"-given-")
    return {"model": Input(path, digest_bytes(b"-given-"))}


def test_a_step_runs_once(executor, given):
    first = executor.run("passes", COPY, given)
    second = executor.run("passes", COPY, given)
    assert (first.path / "text").read_bytes() == b"hello-given-0"
    assert (first.cached, second.cached, executor.started) == (False, True, 1)
    assert second.record == first.record
    assert first.record.peak_memory_bytes > 1 << 20
    assert first.record.tools == {"numpy": toolchain.version("numpy")}


@pytest.mark.slow
def test_everything_that_decides_the_bytes_is_in_the_key(executor, given, monkeypatch, tmp_path):
    keys = {executor.run("passes", COPY, given).record.key}
    keys.add(executor.run("passes", StepSpec("copy", {"text": "x"}), given).record.key)
    keys.add(executor.run("passes", COPY, {"model": replace(given["model"], digest=digest_bytes(b"y"))}).record.key)
    keys.add(executor.run("passes", COPY, {"other": given["model"]}).record.key)
    keys.add(Executor(executor.cache, tmp_path, executor.device, seed=1).run("passes", COPY, given).record.key)
    monkeypatch.setattr(toolchain, "versions", lambda names: {"numpy": "0.0.1"})
    keys.add(executor.run("passes", COPY, given).record.key)
    assert len(keys) == 6


def test_the_device_is_in_the_key_of_measured_results_only(executor, tmp_path):
    other = Executor(executor.cache, tmp_path, replace(executor.device, processor="another"))
    for group, equal in (("passes", True), ("measure", False), ("targets", False)):
        keys = [e._record(group, _Plain(), StepSpec("x"), {}, e.device).key for e in (executor, other)]
        assert (keys[0] == keys[1]) == equal, group


class _Plain:
    version = 1
    requires = ()
    __dataclass_fields__ = {}  # noqa: RUF012


@pytest.mark.slow
def test_an_error_of_ours_crosses_the_process_border(executor, given):
    with pytest.raises(DataError) as caught:
        executor.run("passes", StepSpec("copy", {"fail": "own"}), given)
    assert (caught.value.message, caught.value.hint) == ("row 3 is wrong", "correct row 3")


def test_a_defect_is_a_failed_step_with_its_traceback(executor, given):
    with pytest.raises(StepFailed, match=r"ZeroDivisionError: oops[\s\S]*thirdparty\.py"):
        executor.run("passes", StepSpec("copy", {"fail": "defect"}), given)


def test_a_full_disk_is_said_so(executor, given):
    with pytest.raises(OutOfSpace, match="no space left"):
        executor.run("passes", StepSpec("copy", {"fail": "full"}), given)


def test_a_killed_worker_gives_its_last_words(executor, given):
    with pytest.raises(StepFailed, match="last words") as caught:
        executor.run("passes", StepSpec("copy", {"fail": "killed"}), given)
    assert "memory" in caught.value.hint


def test_nothing_half_written_stays_after_a_failure_and_scratch_does(executor, given):
    with pytest.raises(StepFailed):
        executor.run("passes", StepSpec("copy", {"fail": "defect"}), given)
    assert list((executor.cache.root / "tmp").iterdir()) == []
    assert not (executor.cache.root / "actions").exists()
    assert [p.read_text() for p in (executor.cache.root / "scratch").glob("*/runs")] == ["x"]


@pytest.mark.parametrize(("name", "config", "hint"), [("coppy", {}, '"copy"'), ("copy", {"txt": "x"}, '"text"')])
def test_unknown_names_suggest_the_near_one(executor, given, name, config, hint):
    with pytest.raises(ConfigError) as caught:
        executor.run("passes", StepSpec(name, config), given)
    assert hint in caught.value.hint


def test_progress_arrives(executor, given, tmp_path):
    seen: list[tuple[float, str]] = []
    watched = Executor(executor.cache, tmp_path, executor.device, progress=lambda f, n: seen.append((f, n)))
    watched.run("passes", COPY, given)
    assert seen == [(0.5, "half way")]


PARENT = """
import sys
from pathlib import Path
from edgewright.core.measurement import Device
from edgewright.core.recipe import StepSpec
from edgewright.engine.execute import Executor
from edgewright.store.cache import Cache
device = Device("local", "x86_64", "test", 2, (), 1, "Linux")
executor = Executor(Cache(Path(sys.argv[1])), Path("."), device, progress=lambda f, n: print(n, flush=True))
executor.run("passes", StepSpec("copy", {"seconds": 60.0}), {})
"""


def _workers_of(cache) -> list[int]:
    found = subprocess.run(["ps", "-eo", "pid,args"], capture_output=True, text=True, check=True).stdout
    return [int(line.split()[0]) for line in found.splitlines() if "edgewright.engine.worker" in line]


@pytest.mark.slow
def test_a_worker_dies_with_its_killed_parent(tmp_path, plugin):
    before = set(_workers_of(tmp_path))
    parent = subprocess.Popen([sys.executable, "-c", PARENT, str(tmp_path / "c")], stdout=subprocess.PIPE, text=True)
    assert parent.stdout is not None
    assert parent.stdout.readline().strip() == "half way"
    worker = next(p for p in set(_workers_of(tmp_path)) - before if _parent_of(p) == parent.pid)
    parent.send_signal(signal.SIGKILL)
    parent.wait()
    parent.stdout.close()
    deadline = time.monotonic() + 5
    while _alive(worker) and time.monotonic() < deadline:
        time.sleep(0.02)
    assert not _alive(worker)


def _alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def _parent_of(pid: int) -> int:
    with open(f"/proc/{pid}/stat") as file:  # noqa: PTH123
        return int(file.read().rsplit(")", 1)[1].split()[1])
