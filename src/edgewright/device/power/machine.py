"""Programs and files of this device, or of one that a test made up."""

from __future__ import annotations

import os
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

from edgewright.errors import StepFailed

_COMMAND_SECONDS = 60.0


@dataclass(frozen=True, slots=True)
class Machine:
    """Where programs and files of a device are.

    Attributes:
        root: What absolute paths are looked up below.
        path: Where programs are looked for; None for the environment's PATH.
    """

    root: Path = Path("/")
    path: str | None = None

    def file(self, path: str) -> Path:
        """Returns where the file with this absolute path is."""
        return self.root / path.lstrip("/")

    def which(self, program: str) -> str | None:
        """Returns the path of a program; None where there is none."""
        return shutil.which(program, path=self.path)

    def run(self, program: str, *arguments: str, root: bool = False) -> str:
        """Runs a program and returns all it printed; it is given no answer to any question but `no`.

        Args:
            program: Its name.
            arguments: Of it.
            root: It needs to be root: `sudo` without a password is tried where this process is not.

        Raises:
            StepFailed: There is none, or it failed.
        """
        found = self.which(program)
        if found is None:
            raise StepFailed(f"{program} is not installed here", hint=f"add the folder of {program} to PATH")
        sudo = ("sudo", "-n") if root and os.geteuid() != 0 else ()
        command = [*sudo, found, *arguments]
        try:
            done = subprocess.run(
                command,
                input="no\n",
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
                errors="replace",
                timeout=_COMMAND_SECONDS,
                check=False,
            )
        except (OSError, subprocess.TimeoutExpired) as error:
            raise StepFailed(f"{' '.join(command)}: {error}", hint=_ROOT if sudo else "run it by hand") from error
        if done.returncode:
            hint = _ROOT if sudo else "run it by hand on the device to see why"
            raise StepFailed(f"{' '.join(command)} gave {done.returncode}: {done.stdout.strip()[-500:]}", hint=hint)
        return done.stdout


_ROOT = "only root may change the power mode: allow it to this user without a password (sudo visudo), or run as root"
