"""Workers on a real PostgreSQL: one is killed, and nothing of the others is lost. No password is ever written."""

from __future__ import annotations

import contextlib
import os
import pwd
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from edgewright.core.codec import decode_stored
from edgewright.search.tuning import storage as storages
from edgewright.search.tuning.results import Tuning, finished
from edgewright.search.tuning.study import Plan, open_study, tried

pytest.importorskip("optuna")
psycopg = pytest.importorskip("psycopg")
PASSWORD = "correct horse battery"
RECIPE = """
[[recipes]]
title = "int8"
[[recipes.passes]]
name = "clean-up"
[[recipes.passes]]
name = "static-int8"
scheme = "onnxruntime-u8s7"
ranges = "percentile"
percent = {low = 98.0, high = 99.99}
"""
STUDY = "shared"
TRIALS = 4


def programs() -> Path | None:
    """Returns where the server's programs are; Debian keeps them off the PATH."""
    found = shutil.which("initdb")
    places = [Path(found).parent] if found else sorted(Path("/usr/lib/postgresql").glob("*/bin"))
    return places[-1] if places else None


BIN = programs()
pytestmark = pytest.mark.skipif(BIN is None, reason="needs PostgreSQL: apt-get install postgresql")
WORKER = """
import sys, time
from pathlib import Path
from edgewright.search.tuning import storage as storages
from edgewright.search.tuning.ranges import Parameter, Span
from edgewright.search.tuning.results import Outcome
from edgewright.search.tuning.study import Plan, open_study, work

def attempt(number, values):
    time.sleep(0.5)
    return Outcome((), "met", values[("x",)], 1.0, 1.0, 1.0)

plan = Plan(sys.argv[1], (Parameter("x", ("x",), Span(0.0, 1.0)),), heartbeat=1)
with storages.open_storage(storages.chosen("", Path()), 1) as storage:
    work(open_study(plan, storage, int(sys.argv[3])), plan, int(sys.argv[2]), attempt)
"""


def user() -> list[str]:
    """PostgreSQL refuses to run as root: then its own user runs it."""
    if os.getuid():
        return []
    entry = pwd.getpwnam("postgres")
    return ["setpriv", f"--reuid={entry.pw_uid}", f"--regid={entry.pw_gid}", "--clear-groups"]


@pytest.fixture
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A cluster of its own on a socket of its own, with a password; gives the URL without it."""
    assert BIN is not None
    folder = Path(os.path.realpath(f"/tmp/edgewright-postgresql-{os.getpid()}"))  # short: a socket lies in it
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(mode=0o700)
    (folder / "password").write_text(PASSWORD)
    if not os.getuid():
        entry = pwd.getpwnam("postgres")
        for path in (folder, folder / "password"):
            os.chown(path, entry.pw_uid, entry.pw_gid)
    data = folder / "data"
    files = [f"--pwfile={folder / 'password'}", "--auth=scram-sha-256", "--username=tuner", "--no-sync"]
    run = [*user(), str(BIN / "initdb"), f"--pgdata={data}", *files]
    subprocess.run(run, check=True, stdout=subprocess.DEVNULL, cwd="/")
    options = ["-k", str(folder), "-c", "listen_addresses=", "-c", "fsync=off"]
    process = subprocess.Popen(
        [*user(), str(BIN / "postgres"), "-D", str(data), *options], stderr=subprocess.DEVNULL, cwd="/"
    )
    try:
        wait_for(folder)
        yield f"postgresql://tuner@/postgres?host={folder}"
    finally:
        process.send_signal(signal.SIGINT)
        process.wait(30)
        shutil.rmtree(folder, ignore_errors=True)


def wait_for(folder: Path) -> None:
    end = time.monotonic() + 60
    while True:
        try:
            psycopg.connect(f"host={folder} user=tuner dbname=postgres", password=PASSWORD).close()
        except psycopg.OperationalError:
            assert time.monotonic() < end, "the server does not start"
            time.sleep(0.1)
        else:
            return


def command(toml: Path, *more: str) -> list[str]:
    fixed = ["--trials", str(TRIALS), "--study", STUDY, "--heartbeat", "1", "--objective", "quality"]
    return [sys.executable, "-m", "edgewright.cli", "tune", str(toml), *fixed, *more]


@pytest.mark.slow
def test_a_killed_worker_loses_no_trial(server: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(storages.STORAGE_VARIABLE, server)
    monkeypatch.setenv(storages.PASSWORD_VARIABLE, PASSWORD)
    script = [sys.executable, "-c", WORKER, STUDY, "8"]
    workers = [subprocess.Popen([*script, str(index)]) for index in range(3)]
    killed = kill_one_at_work(server, workers[2])
    assert [worker.wait(120) for worker in workers[:2]] == [0, 0]
    check_that_nothing_is_lost(server, killed, 8)


@pytest.mark.prove
def test_three_workers_share_a_study_and_one_may_be_killed(
    tiny: Path, server: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tiny.write_text(tiny.read_text() + RECIPE)
    monkeypatch.setenv(storages.STORAGE_VARIABLE, server)
    monkeypatch.setenv(storages.PASSWORD_VARIABLE, PASSWORD)
    logs = [(tmp_path / f"worker-{index}.log").open("wb") for index in range(3)]
    with contextlib.ExitStack() as stack:
        for log in logs:
            stack.enter_context(log)
        workers = [
            subprocess.Popen(command(tiny, "--worker", str(index)), stdout=log, stderr=log)
            for index, log in enumerate(logs)
        ]
        killed = kill_one_at_work(server, workers[2])
        assert [worker.wait(300) for worker in workers[:2]] == [0, 0], Path(logs[0].name).read_text()
    check_that_nothing_is_lost(server, killed, TRIALS)
    out = tiny.parent / "edgewright-out" / "tune"
    found = decode_stored(Tuning, (out / "tuning.json").read_bytes())
    assert found.best is not None
    assert found.trial(found.best).outcome.inside  # type: ignore[union-attr]
    refuse_password(tiny.parent, tmp_path)


def check_that_nothing_is_lost(url: str, killed: int, asked: int) -> None:
    """The trial of the killed worker came to something by another one, with its values."""
    with storages.open_storage(url, 1) as storage:
        trials = tried(open_study(Plan(STUDY, ()), storage))
    assert finished(trials) >= asked
    assert not [trial for trial in trials if trial.state in ("running", "waiting")]
    lost = next(trial for trial in trials if trial.number == killed)
    again = next(trial for trial in trials if trial.retry_of == killed)
    assert (lost.state, lost.outcome) == ("failed", None)
    assert again.state == "complete"
    assert again.values == lost.values


def kill_one_at_work(url: str, worker: subprocess.Popen[bytes]) -> int:
    """Kills `worker` in the middle of a trial and returns the number of that."""
    end = time.monotonic() + 240
    with storages.open_storage(url, 1) as storage:
        while time.monotonic() < end:
            time.sleep(0.1)
            assert worker.poll() is None, "it ended before it could be killed"
            with contextlib.suppress(KeyError):
                study = storage.get_study_id_from_name(STUDY)
                mine = [trial.number for trial in storage.get_all_trials(study) if ours(trial, worker.pid)]
                if mine:
                    worker.kill()
                    worker.wait()
                    return mine[0]
    raise AssertionError("it never began a trial")


def ours(trial: Any, pid: int) -> bool:
    begun = trial.state.name == "RUNNING" and trial.params
    return bool(begun) and trial.user_attrs.get("worker", "").endswith(f":{pid}")


def refuse_password(*folders: Path) -> None:
    read = 0
    for folder in folders:
        for path in folder.rglob("*"):
            if path.is_file():
                read += 1
                assert PASSWORD.encode() not in path.read_bytes(), path
    assert read > 20


@pytest.mark.slow
def test_a_wrong_password_is_told_without_it(tiny: Path, server: str) -> None:
    wrong = server.replace("tuner@", "tuner:wrong-secret@")
    done = subprocess.run(command(tiny, "--storage", wrong), capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert "storage postgresql://tuner:***@/postgres" in done.stderr
    assert "password authentication failed" in done.stderr
    assert "wrong-secret" not in done.stdout + done.stderr
