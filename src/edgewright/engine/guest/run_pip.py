"""pip in the environment that is being made: `guest/start.py edgewright.engine.guest.run_pip PARENT install …`."""

from __future__ import annotations

import runpy
import sys

from edgewright.engine.worker import die_with

if __name__ == "__main__":
    die_with(int(sys.argv[1]))
    sys.argv[:] = ["pip", *sys.argv[2:]]
    runpy.run_module("pip", run_name="__main__", alter_sys=True)
