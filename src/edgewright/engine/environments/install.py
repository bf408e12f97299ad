"""Makes and removes environments. Killed at any moment, the next installation repairs what is left."""

from __future__ import annotations

import contextlib
import fcntl
import os
import re
import secrets
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from edgewright.core.codec import encode_json
from edgewright.engine.environments import environment as environments
from edgewright.engine.environments import lock as locks
from edgewright.engine.environments.environment import STATE_FILE, Environment, Marker
from edgewright.engine.guest.start import PATH as GUEST
from edgewright.errors import StepFailed, ToolchainMissing, UsageError
from edgewright.store.files import full_disk, full_disk_explained, write_atomic

_LOG_TAIL_LINES = 20
_POLL_S = 0.5
_PIP = (
    *("install", "--disable-pip-version-check", "--no-input", "--progress-bar=off", "--no-compile"),
    *("--require-hashes", "--no-deps", "--only-binary=:all:", "--no-warn-script-location", "-r"),
)
"""No dependency is resolved and no build runs: exactly the files of the lock, or nothing."""

_WAITING = "another installation is running: waiting for it"
_TAKEN = re.compile(r"^(?:Collecting|Processing) ", re.M)
"""How pip begins with a package, from an index or from a folder."""
_SHARE_COLLECTED, _SHARE_INSTALLED = 0.45, 0.45
"""Shares of the time: fetching the files of the lock, and unpacking them."""

Progress = Callable[[float, str], None]


def install(name: str, progress: Progress, *, python: str = "", again: bool = False) -> Environment:
    """Makes an environment from its lock, or finds it ready.

    Args:
        name: Of the toolchain.
        progress: Told how far it is, 0 to 1, and what it does.
        python: Interpreter to make it with; empty for this one, or another on the path that the lock takes.
        again: Make it anew even where it is ready.

    Raises:
        ConfigError: There is no such toolchain.
        ToolchainMissing: It does not install on this platform, or no fitting Python was found.
        OutOfSpace: The disk cannot hold it.
        StepFailed: pip failed, or what it installed does not work; the end of its log is in the message.
    """
    lock = locks.read(name)
    folder = environments.place(name)
    with full_disk_explained(folder.parent), _alone(folder, lambda: progress(0.0, _WAITING)):
        found = environments.find(name)
        _remove_left_over(folder, keep=found.folder if found else None)
        if found is not None and not again:
            return found
        _check_platform(lock)
        interpreter = _interpreter(lock, python)
        _check_space(folder, lock)
        made = folder / secrets.token_hex(8)
        try:
            return _made(lock, interpreter, made, progress)
        except BaseException:
            shutil.rmtree(made, ignore_errors=True)
            raise


def remove(name: str) -> bool:
    """Removes a toolchain from this machine; what was made with it stays in the cache.

    Returns:
        Whether anything of it was there.

    Raises:
        ConfigError: There is no such toolchain.
        UsageError: A step is running in it.
    """
    locks.read(name)
    folder = environments.place(name)
    if not folder.is_dir():
        return False
    with _alone(folder, lambda: None):
        there = _folders(folder)
        for one in there:
            with _unused(one) as unused:
                if not unused:
                    raise UsageError(f"a step is running in the toolchain {name}", hint="wait until it has finished")
                (folder / STATE_FILE).unlink(missing_ok=True)
                shutil.rmtree(one)
    shutil.rmtree(folder, ignore_errors=True)
    return bool(there)


def _made(lock: locks.Lock, interpreter: str, made: Path, progress: Progress) -> Environment:
    progress(0.0, "new environment")
    scratch = made / "tmp"
    scratch.mkdir(parents=True)
    log = _Log(lock, scratch)
    log.run([interpreter, "-Im", "venv", "--without-pip", str(made)], lambda: None)
    guest, parent = [str(made / "bin" / "python"), "-Iu", str(GUEST)], str(os.getpid())
    pip = [*guest, "edgewright.engine.guest.run_pip", parent, *_PIP, str(lock.path)]
    log.run(pip, lambda: progress(*_how_far(lock, made, log.text())))
    _check_versions(lock, made)
    progress(0.92, "checking that it works")
    log.run([*guest, "edgewright.engine.guest.try_imports", parent, *lock.imports], lambda: None)
    shutil.rmtree(scratch)
    progress(0.98, "writing to disk")
    return _recorded(lock, made)


@dataclass(frozen=True, slots=True)
class _Log:
    """Runs programs of one installation, what they print in one file."""

    lock: locks.Lock
    scratch: Path

    def run(self, command: list[str], meanwhile: Callable[[], None]) -> None:
        """Runs `command` to its end; downloads go where a killed installation is looked for."""
        environment = {**os.environ, "TMPDIR": str(self.scratch)}
        with (self.scratch / "log").open("a") as log:
            process = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT, env=environment
            )
        try:
            while process.poll() is None:
                meanwhile()
                time.sleep(_POLL_S)
        finally:
            if process.poll() is None:
                process.kill()
                process.wait()
        if process.returncode:
            raise self._failed(process.returncode)

    def text(self) -> str:
        """Returns what was printed so far."""
        return (self.scratch / "log").read_text(encoding="utf-8", errors="replace")

    def _failed(self, status: int) -> Exception:
        text = self.text()
        if "No space left on device" in text:
            return full_disk(self.scratch)
        tail = "\n".join(text.splitlines()[-_LOG_TAIL_LINES:])
        return StepFailed(
            f"installing the toolchain {self.lock.name} failed (exit status {status}):\n{tail}",
            hint="correct what its log names (network, index, Python), then run the same command again",
        )


def _how_far(lock: locks.Lock, made: Path, log: str) -> tuple[float, str]:
    collected = len(_TAKEN.findall(log))
    fetched = min(1.0, collected / max(1, len(lock.pins)))
    if "Installing collected packages" not in log:
        return _SHARE_COLLECTED * fetched, f"fetching package {collected} of {len(lock.pins)}"
    unpacked = min(1.0, _megabytes(made / "lib") / max(1, lock.megabytes))
    return _SHARE_COLLECTED + _SHARE_INSTALLED * unpacked, f"unpacking {len(lock.pins)} packages"


def _check_versions(lock: locks.Lock, made: Path) -> None:
    found = environments.installed_in(made)
    wrong = [f"{name} {found.get(name, 'absent')}" for name, pin in lock.pins.items() if found.get(name) != pin]
    if wrong:
        raise StepFailed(
            f"the toolchain {lock.name} was not installed as locked: {', '.join(wrong)}",
            hint="a setting of pip sends packages elsewhere (PIP_TARGET, PIP_PREFIX, PIP_USER): unset it",
        )


def _recorded(lock: locks.Lock, made: Path) -> Environment:
    """Writes the marker, when all else is on the disk; then others are of no use."""
    os.sync()
    version = next(path.name.removeprefix("python") for path in made.glob("lib/python3*"))
    marker = Marker(lock.digest, made.name, version, _megabytes(made))
    write_atomic(made.parent / STATE_FILE, encode_json(marker))
    _remove_left_over(made.parent, keep=made)
    return Environment(lock.name, made, marker.lock, marker.python, marker.megabytes)


def _check_platform(lock: locks.Lock) -> None:
    if not lock.fits_platform:
        raise ToolchainMissing(
            f"the toolchain {lock.name} is locked for {lock.platform}, this is {locks.here()}",
            hint=f"convert the model on a {lock.platform} machine, and bring its ONNX file here",
        )


def _check_space(folder: Path, lock: locks.Lock) -> None:
    free = shutil.disk_usage(folder).free >> 20
    if free < lock.megabytes * 3 // 2:
        raise full_disk(folder)


def _interpreter(lock: locks.Lock, wanted: str) -> str:
    """Returns a Python that the lock takes: the one wanted, else this one, else one on the path."""
    names = [wanted] if wanted else [sys.executable, *(f"python3.{minor}" for minor in range(14, 9, -1))]
    tried = ""
    for name in names:
        version = _version_of(name)
        if version and lock.takes_python(version):
            return name
        tried = tried or version
    what = f"{wanted} is {tried or 'no Python'}" if wanted else f"this is {tried}"
    raise ToolchainMissing(
        f"the toolchain {lock.name} needs Python {lock.python}, {what}",
        hint=f"install such a Python, then: {environments.install_line(lock.name)} --python PATH",
    )


def _version_of(interpreter: str) -> str:
    code = "import platform; print(platform.python_version())"
    try:
        found = subprocess.run([interpreter, "-Ic", code], capture_output=True, text=True, check=False, timeout=60)
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return found.stdout.strip() if found.returncode == 0 else ""


@contextlib.contextmanager
def _alone(folder: Path, waiting: Callable[[], None]) -> Iterator[None]:
    """Holds the toolchain's lock; where another has it, says so and waits."""
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "lock").open("a") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            waiting()
            fcntl.flock(file, fcntl.LOCK_EX)
        yield


@contextlib.contextmanager
def _unused(environment: Path) -> Iterator[bool]:
    """Tells whether no step is running in it, and keeps steps from starting meanwhile."""
    path = environment.with_name(f"{environment.name}.in-use")
    with path.open("a") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            yield False
            return
        yield True
        path.unlink(missing_ok=True)


def _remove_left_over(folder: Path, keep: Path | None) -> None:
    """Removes what killed installations left; an old environment that a step still runs in is left for later."""
    for one in _folders(folder):
        if one != keep:
            with _unused(one) as unused:
                if unused:
                    shutil.rmtree(one, ignore_errors=True)


def _folders(folder: Path) -> list[Path]:
    return [path for path in folder.iterdir() if path.is_dir()]


def _megabytes(folder: Path) -> int:
    total = 0
    for root, _, files in os.walk(folder):
        for name in files:
            with contextlib.suppress(OSError):
                total += Path(root, name).lstat().st_size
    return total >> 20
