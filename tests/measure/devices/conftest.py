"""A real sshd on the loopback, with keys of its own, for as long as a test needs it."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import pytest

from edgewright.core.codec import encode_json
from edgewright.core.target import Artifact
from edgewright.core.tensors import TensorSpec
from edgewright.runtimes.null import MAGIC

SSHD = shutil.which("sshd", path="/usr/sbin:/usr/local/sbin:/usr/bin") or "/usr/sbin/sshd"


@dataclass(slots=True)
class Sshd:
    """A running server, and how its client is set up."""

    process: subprocess.Popen[bytes]
    port: int
    config: Path
    home: Path

    @property
    def address(self) -> str:
        """For `connect`; what is kept on the device stays in the test's own folder."""
        return f"ssh://device?config={self.config}&root={self.home / 'device'}&python={sys.executable}"

    def sessions(self) -> list[int]:
        """The processes that serve a connection each, below the listening one."""
        listed = subprocess.run(
            ["ps", "-o", "pid=", "--ppid", str(self.process.pid)], capture_output=True, text=True, check=False
        )
        return [int(line) for line in listed.stdout.split()]

    def cut(self) -> int:
        """Kills every session, as a broken network does; returns how many there were."""
        found = self.sessions()
        for pid in found:
            for below in _below(pid):
                _kill(below)
            _kill(pid)
        return len(found)


def _below(pid: int) -> list[int]:
    listed = subprocess.run(["ps", "-o", "pid=,comm=", "--ppid", str(pid)], capture_output=True, text=True, check=False)
    rows = [line.split(None, 1) for line in listed.stdout.splitlines()]
    return [int(row[0]) for row in rows if row[1].strip().startswith("sshd")]


def _kill(pid: int) -> None:
    with suppress(ProcessLookupError):
        os.kill(pid, 9)


def _free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


def _key(file: Path) -> Path:
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(file)], check=True)
    return file


@contextmanager
def serving(folder: Path) -> Iterator[Sshd]:
    """Starts a server for the user who runs the tests."""
    folder.mkdir(parents=True)
    folder.chmod(0o700)
    if os.getuid() == 0:
        Path("/run/sshd").mkdir(exist_ok=True)
    port, host_key, user_key = _free_port(), _key(folder / "host"), _key(folder / "user")
    shutil.copyfile(f"{user_key}.pub", folder / "authorized")
    (folder / "sshd_config").write_text(
        f"Port {port}\nListenAddress 127.0.0.1\nHostKey {host_key}\nPidFile none\nUsePAM no\nStrictModes no\n"
        f"AuthorizedKeysFile {folder / 'authorized'}\nPasswordAuthentication no\nKbdInteractiveAuthentication no\n"
        "PermitRootLogin yes\nMaxStartups 100\n"
    )
    public = Path(f"{host_key}.pub").read_text().split()
    (folder / "known").write_text(f"[127.0.0.1]:{port} {public[0]} {public[1]}\n")
    config = folder / "ssh_config"
    config.write_text(
        f"Host device\n  HostName 127.0.0.1\n  Port {port}\n  IdentityFile {user_key}\n  IdentitiesOnly yes\n"
        f"  UserKnownHostsFile {folder / 'known'}\n  StrictHostKeyChecking yes\n"
    )
    with (folder / "log").open("wb") as log:
        command = [SSHD, "-D", "-e", "-f", str(folder / "sshd_config")]
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
    server = Sshd(process, port, config, folder)
    try:
        _await(server, folder / "log")
        yield server
    finally:
        server.cut()
        process.kill()
        process.wait()


def _await(server: Sshd, log: Path) -> None:
    for _ in range(100):
        if server.process.poll() is not None:
            break
        try:
            socket.create_connection(("127.0.0.1", server.port), 1).close()
            return
        except OSError:
            time.sleep(0.05)
    raise RuntimeError(f"sshd does not listen: {log.read_text()}")


@pytest.fixture(autouse=True)
def own_lease(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Locks of this test alone, in a folder with a path short enough for the sockets of ssh."""
    with tempfile.TemporaryDirectory(dir="/tmp") as folder:
        monkeypatch.setattr(tempfile, "tempdir", folder)
        monkeypatch.setenv("TMPDIR", folder)
        yield


@pytest.fixture
def sshd(tmp_path: Path) -> Iterator[Sshd]:
    """A server of this test alone."""
    with serving(tmp_path / "sshd") as server:
        yield server


@pytest.fixture
def null(tmp_path: Path) -> Callable[[str], Path]:
    """Makes artifacts that compute nothing, and take no time to open: x [n, 256] -> y [n, 3]."""

    def make(name: str) -> Path:
        folder = tmp_path / name
        folder.mkdir()
        (folder / "model.null").write_bytes(MAGIC + name[:1].encode() * 64)
        inputs, outputs = (TensorSpec("x", "float32", ("n", 256)),), (TensorSpec("y", "float32", ("n", 3)),)
        made = Artifact("null", "null", "0.1.0", ">=0", ("model.null",), inputs, outputs, "float32")
        (folder / "artifact.json").write_bytes(encode_json(made))
        return folder

    return make
