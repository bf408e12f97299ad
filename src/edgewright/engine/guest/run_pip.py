"""pip in an environment that is being made: `guest/start.py edgewright.engine.guest.run_pip PARENT install …`.

It is the wheel that every Python brings along for new environments, run from where it lies: nothing else can be
imported yet, and the environment stays exactly what its lock says.
"""

from __future__ import annotations

import ensurepip
import runpy
import sys
import sysconfig
from pathlib import Path

from edgewright.engine.worker import die_with


def bundled_pip() -> Path:
    """Returns the wheel of pip that came with this Python.

    Raises:
        FileNotFoundError: Its distributor left it out.
    """
    folders = [Path(ensurepip.__file__).parent / "_bundled", Path(sysconfig.get_config_var("WHEEL_PKG_DIR") or ".")]
    found = [wheel for folder in folders for wheel in sorted(folder.glob("pip-*.whl"))]
    if not found:
        raise FileNotFoundError("this Python came without pip; on Debian and Ubuntu: apt install python3-venv")
    return found[-1]


if __name__ == "__main__":
    die_with(int(sys.argv[1]))
    sys.path.insert(0, str(bundled_pip()))
    sys.argv[:] = ["pip", *sys.argv[2:]]
    runpy.run_module("pip", run_name="__main__", alter_sys=True)
