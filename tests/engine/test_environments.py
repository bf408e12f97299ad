"""Toolchains in environments of their own: states, locks, kill -9, steps that run in them."""

from __future__ import annotations

import importlib
import json
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from edgewright.core.measurement import Device
from edgewright.core.recipe import StepSpec
from edgewright.engine import environments, registry
from edgewright.engine.environments import install as installation
from edgewright.engine.environments import lock as locks
from edgewright.engine.environments.environment import STATE_FILE, Environment, place
from edgewright.engine.execute import Executor
from edgewright.errors import ConfigError, DataError, StepFailed, ToolchainMissing, UsageError
from edgewright.store.cache import Cache
from edgewright.store.gc import collect

from ._tiny_toolchain import STEP, write_lock

LINE = "edgewright toolchain install tiny"
DEVICE = Device("local", "x86_64", "test", 2, ("avx2",), 1 << 30, "Linux")
PROGRAM = """
import sys
from pathlib import Path
from edgewright.engine.environments import install, lock
lock.FOLDER = Path(sys.argv[1])
install.install("tiny", lambda fraction, note: print(note, flush=True))
print("finished", flush=True)
"""


@pytest.fixture
def locked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A lock named `tiny`; nothing is installed yet."""
    monkeypatch.setenv("EDGEWRIGHT_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(locks, "FOLDER", tmp_path / "locks")
    return write_lock(tmp_path / "locks", tmp_path / "wheels")


@pytest.fixture
def pretended(locked: Path) -> Environment:
    """What an installation leaves, without an installation."""
    folder = place("tiny") / "abcd"
    (folder / "bin").mkdir(parents=True)
    (folder / "bin" / "python").symlink_to(sys.executable)
    for name, version in (("Tiny_Tool", "2.5"), ("other", "1")):
        info = folder / "lib" / "python3.11" / "site-packages" / f"{name}-{version}.dist-info"
        info.mkdir(parents=True)
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")
    marker = {"lock": locks.read("tiny").digest, "folder": "abcd", "python": "3.11", "megabytes": 1}
    (place("tiny") / STATE_FILE).write_text(json.dumps(marker))
    found = environments.find("tiny")
    assert found is not None
    return found


def start(locked: Path) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", PROGRAM, str(locked.parent)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def folders() -> list[Path]:
    return [path for path in place("tiny").iterdir() if path.is_dir()]


# ---- what is known without starting anything


def test_nothing_installed_is_said_with_the_line_that_installs_it(locked: Path) -> None:
    assert environments.names() == ("tiny",)
    assert environments.find("tiny") is None
    assert environments.status("tiny").state == "absent"
    with pytest.raises(ToolchainMissing) as caught:
        environments.require("tiny", "step where")
    assert caught.value.message == "step where needs the toolchain tiny, which is not installed here"
    assert caught.value.hint == LINE


def test_a_near_name_is_suggested(locked: Path) -> None:
    with pytest.raises(ConfigError) as caught:
        environments.find("tinny")
    assert caught.value.hint == 'did you mean "tiny"?'


def test_versions_come_from_metadata_under_any_spelling(pretended: Environment) -> None:
    assert pretended.versions() == {"tiny-tool": "2.5", "other": "1"}
    assert pretended.versions(["tiny.tool", "nobody"]) == {"nobody": "absent", "tiny.tool": "2.5"}
    assert pretended.interpreter.exists()


def test_another_lock_makes_it_stale(pretended: Environment, locked: Path) -> None:
    locked.write_text(locked.read_text() + "# newer\n")
    found = environments.status("tiny")
    assert (found.state, found.install, found.environment) == ("stale", LINE, pretended)
    assert environments.find("tiny") is None
    with pytest.raises(ToolchainMissing, match="another release"):
        environments.require("tiny", "step where")


def test_a_lost_interpreter_makes_it_broken(pretended: Environment) -> None:
    pretended.interpreter.unlink()
    assert environments.status("tiny").state == "broken"
    with pytest.raises(ToolchainMissing, match="its Python does not exist any more"):
        environments.require("tiny", "step where")


@pytest.mark.parametrize("content", ["", "{", "[]", '{"lock": "x"}'])
def test_a_torn_marker_counts_as_nothing(pretended: Environment, content: str) -> None:
    (place("tiny") / STATE_FILE).write_text(content)
    assert environments.status("tiny").state == "absent"


def test_another_platform_is_refused_before_anything_is_made(locked: Path) -> None:
    locked.write_text("# platform: plan9-mips\n" + locked.read_text())
    with pytest.raises(ToolchainMissing, match="locked for plan9-mips"):
        installation.install("tiny", lambda fraction, note: None)
    assert not folders()


def test_a_python_that_does_not_fit_is_refused(locked: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    locked.write_text(locked.read_text().replace(">=3.10", "<3"))
    with pytest.raises(ToolchainMissing, match="needs Python <3") as caught:
        installation.install("tiny", lambda fraction, note: None)
    assert "--python PATH" in caught.value.hint
    with pytest.raises(ToolchainMissing, match="nowhere is no Python"):
        installation.install("tiny", lambda fraction, note: None, python="nowhere")


def test_a_full_disk_is_told_before_anything_is_made(locked: Path) -> None:
    locked.write_text(locked.read_text().replace("megabytes: 12", "megabytes: 999999999"))
    with pytest.raises(StepFailed, match="no space left"):
        installation.install("tiny", lambda fraction, note: None)
    assert not folders()


def test_not_while_a_step_runs_in_it(pretended: Environment) -> None:
    with pretended.in_use(), pytest.raises(UsageError, match="a step is running"):
        installation.remove("tiny")
    assert environments.find("tiny") == pretended
    assert installation.remove("tiny")
    assert not place("tiny").exists()
    assert not installation.remove("tiny")


def test_collecting_garbage_leaves_toolchains_alone(pretended: Environment) -> None:
    collected = collect(Cache.default(), 0)
    assert environments.find("tiny") == pretended
    assert collected.kept_bytes == 0


def test_the_shipped_locks_are_whole() -> None:
    for name in environments.names():
        lock = environments.read(name)
        text = lock.path.read_text()
        assert lock.purpose
        assert lock.imports
        assert lock.megabytes
        assert lock.takes_python("3.11.7")
        assert text.count("==") >= len(lock.pins) > len(lock.imports)
        entries = [part for part in text.replace("\\\n", " ").splitlines() if "==" in part]
        assert all("--hash=sha256:" in entry for entry in entries)
        assert "http" not in text


# ---- installed for real


@pytest.mark.slow
def test_killed_at_any_moment_the_next_installation_repairs(locked: Path) -> None:
    for moment in ("new environment", "fetching", "unpacking|checking", "writing to disk"):
        process = start(locked)
        assert process.stdout is not None
        for line in process.stdout:
            if any(word in line for word in moment.split("|")):
                break
        process.kill()
        process.communicate()
        assert environments.find("tiny") is None, moment
    assert len(folders()) >= 1, "a killed installation leaves something"
    notes: list[str] = []
    made = installation.install("tiny", lambda fraction, note: notes.append(note))
    assert environments.find("tiny") == made
    assert folders() == [made.folder]
    assert made.versions(["tinytool", "msgspec"])["tinytool"] == "1.0"
    assert "writing to disk" in notes
    notes.clear()
    assert installation.install("tiny", lambda fraction, note: notes.append(note)) == made
    assert not notes, "ready is ready"


@pytest.mark.slow
def test_two_at_once_make_one(locked: Path) -> None:
    first, second = start(locked), start(locked)
    said = [process.communicate(timeout=120)[0] for process in (first, second)]
    assert [process.returncode for process in (first, second)] == [0, 0]
    assert sorted("fetching" in text for text in said) == [False, True]
    assert sum("waiting for it" in text for text in said) == 1
    assert len(folders()) == 1


@pytest.fixture
def step(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The step is known here too: its class tells the name of its toolchain."""
    folder = tmp_path / "site"
    (folder / "tinytool-1.0.dist-info").mkdir(parents=True)
    (folder / "tinytool.py").write_text(STEP)
    (folder / "tinytool-1.0.dist-info" / "METADATA").write_text("Metadata-Version: 2.1\nName: tinytool\nVersion: 9\n")
    (folder / "tinytool-1.0.dist-info" / "entry_points.txt").write_text("[edgewright.passes]\nwhere = tinytool:Where\n")
    monkeypatch.syspath_prepend(str(folder))
    importlib.invalidate_caches()
    registry.names.cache_clear()
    registry._entry_points.cache_clear()
    yield
    sys.modules.pop("tinytool", None)
    registry.names.cache_clear()
    registry._entry_points.cache_clear()


@pytest.mark.usefixtures("step")
def test_a_step_without_its_toolchain_fails_before_it_starts(locked: Path, tmp_path: Path) -> None:
    executor = Executor(Cache(tmp_path / "results"), tmp_path, DEVICE)
    with pytest.raises(ToolchainMissing) as caught:
        executor.run("passes", StepSpec("where"), {})
    assert caught.value.hint == LINE
    assert executor.started == 0


@pytest.mark.slow
@pytest.mark.usefixtures("step")
def test_a_step_runs_in_its_environment_and_in_no_other(locked: Path, tmp_path: Path) -> None:
    made = installation.install("tiny", lambda fraction, note: None)
    notes: list[tuple[float, str]] = []
    executor = Executor(
        Cache(tmp_path / "results"), tmp_path, DEVICE, progress=lambda fraction, note: notes.append((fraction, note))
    )
    result = executor.run("passes", StepSpec("where"), {})
    prefix, beside = (result.path / "where").read_text().split("|")
    assert Path(prefix) == made.folder
    assert beside == "[]", "nothing installed here can be imported there"
    assert dict(result.record.tools) == {"tinytool": "1.0", "typer": "absent"}, "versions of there, not of here"
    assert notes == [(0.5, "half way")]
    assert executor.run("passes", StepSpec("where"), {}).cached
    with pytest.raises(DataError, match="row 3 is wrong"):
        executor.run("passes", StepSpec("where", {"fail": True}), {})

    write_lock(locked.parent, tmp_path / "wheels", version="1.1")
    assert environments.status("tiny").state == "stale"
    with made.in_use():
        newer = installation.install("tiny", lambda fraction, note: None)
        assert made.interpreter.exists(), "a step still runs in the old one"
    assert newer.versions(["tinytool"]) == {"tinytool": "1.1"}
    again = executor.run("passes", StepSpec("where"), {})
    assert not again.cached, "another version there is another key"
    installation.install("tiny", lambda fraction, note: None)
    assert folders() == [newer.folder]


@pytest.mark.slow
def test_what_pip_says_is_told(locked: Path) -> None:
    """A file that is not what was locked is never installed."""
    wrong = locked.read_text().replace("sha256:", "sha256:0000", 1)
    locked.write_text(wrong[: wrong.index("sha256:0000") + 71] + wrong[wrong.index("sha256:0000") + 75 :])
    started = time.monotonic()
    with pytest.raises(StepFailed, match="DO NOT MATCH THE HASHES"):
        installation.install("tiny", lambda fraction, note: None)
    assert time.monotonic() - started < 60
    assert not folders()
    assert environments.find("tiny") is None
