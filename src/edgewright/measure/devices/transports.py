"""How a command is started on a device: the system's ssh and adb, which honour the user's own configuration."""

from __future__ import annotations

import shlex
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from edgewright.device.remote.agent import ROOT
from edgewright.errors import ConnectionLost, ToolchainMissing
from edgewright.measure.devices.address import ADB, LOCAL, SSH, Address
from edgewright.runtimes._lease import runtime_folder
from edgewright.runtimes._remote import Start

ENVIRONMENT = "env"
"""The environment that was sent, below the root of the device."""
LOST = 255
"""What ssh ends with when the connection breaks."""
_ALIVE = ("ServerAliveInterval=5", "ServerAliveCountMax=3", "ConnectTimeout=15", "BatchMode=yes")
_SHARED = ("ControlMaster=auto", "ControlPersist=30")
_LONGEST_SOCKET_FOLDER = 48
"""ssh adds a digest of 40 characters and, for a moment, 17 more; 108 are what the kernel takes."""
_SECONDS = 600.0


def start_module(address: Address, module: str, *arguments: str) -> Start:
    """Returns how to start `python -m module arguments...` on a device."""
    return start_script(address, f"exec {_python(address)} -u -m {shlex.join([module, *arguments])}")


def start_script(address: Address, script: str) -> Start:
    """Returns how to start a POSIX shell script on a device.

    Raises:
        ToolchainMissing: The program that reaches it is not installed.
    """
    return Start((*_prefix(address), *_wrapped(address, script)), place=f"on {address.title}")


def run_script(address: Address, script: str, feed: Path | None = None, seconds: float = _SECONDS) -> str:
    """Runs a POSIX shell script on a device and returns its output.

    Args:
        address: The device.
        script: What to run.
        feed: File for its standard input.
        seconds: How long it may take.

    Raises:
        ConnectionLost: It failed; the message ends with what it printed to standard error.
    """
    command = start_script(address, script).command
    try:
        with feed.open("rb") if feed else open("/dev/null", "rb") as given:  # noqa: PTH123 - one type for both
            done = subprocess.run(command, stdin=given, capture_output=True, timeout=seconds, check=False)
    except subprocess.TimeoutExpired as error:
        raise ConnectionLost(f"{address.title}: no end within {seconds:g} s", hint="look at the device") from error
    if done.returncode != 0:
        said = done.stderr.decode("utf-8", "replace").strip()[-2000:]
        raise ConnectionLost(f"{address.title}: ended with status {done.returncode}: {said}", hint=how_to_try(address))
    return done.stdout.decode("utf-8", "replace")


def root_of(address: Address) -> str:
    """Returns the folder for files and jobs, as a word of a shell script."""
    if not address.root:
        return f'"$HOME"/{ROOT}'
    home, _, rest = address.root.partition("/")
    return f'"$HOME"/{shlex.quote(rest)}' if home == "~" else shlex.quote(address.root)


def how_to_try(address: Address) -> str:
    """Says how a reader finds out by hand what is wrong with a connection."""
    if address.scheme == SSH:
        place = f"{address.user}@{address.host}" if address.user else address.host
        port = f"-p {address.port} " if address.port else ""
        return f"try `ssh -o BatchMode=yes {port}{place} true`: it must work without a question"
    return f"try `adb -s {address.host} shell true`" if address.scheme == ADB else "see its log above"


def bare_python(address: Address) -> str:
    """Returns the interpreter of the device, whatever was sent; a word of a shell script."""
    if address.python:
        home, _, rest = address.python.partition("/")
        return f'"$HOME"/{shlex.quote(rest)}' if home == "~" else shlex.quote(address.python)
    return shlex.quote(sys.executable) if address.scheme == LOCAL else "python3"


def _python(address: Address) -> str:
    """The environment that was sent, where there is one; an interpreter that was named comes before it."""
    if address.python or address.scheme == LOCAL:
        return bare_python(address)
    sent = f"{root_of(address)}/{ENVIRONMENT}/bin/python"
    return f'"$(p={sent}; [ -x "$p" ] && echo "$p" || echo python3)"'


def _wrapped(address: Address, script: str) -> Sequence[str]:
    """A login shell may be any; the script is for a POSIX shell."""
    if address.scheme == LOCAL:
        return ("sh", "-c", script)
    return (f"exec sh -c {shlex.quote(script)}",)


def _prefix(address: Address) -> Sequence[str]:
    if address.scheme == LOCAL:
        return ()
    program = shutil.which(address.scheme)
    if program is None:
        package = "openssh-client" if address.scheme == SSH else "adb"
        raise ToolchainMissing(f"{address.scheme} is not installed", hint=f"apt-get install {package}")
    if address.scheme == ADB:
        return (program, "-s", address.host, "shell", "-T")
    return (program, *_ssh_options(address), "--", address.host)


def _ssh_options(address: Address) -> list[str]:
    """Host keys, keys and agents are the business of the user's own configuration."""
    options = ["-F", str(Path(address.config).expanduser())] if address.config else []
    options += [f"-o{option}" for option in (*_ALIVE, *_sharing())]
    if address.port:
        options += ["-p", str(address.port)]
    if address.user:
        options += ["-l", address.user]
    return ["-T", *options]


def _sharing() -> Sequence[str]:
    """One connection serves everything that is started within a short time, where the path of a socket fits."""
    sockets = runtime_folder() / "ssh"
    if len(str(sockets)) > _LONGEST_SOCKET_FOLDER:
        return ()
    sockets.mkdir(mode=0o700, exist_ok=True)
    return (*_SHARED, f"ControlPath={sockets}/%C")
