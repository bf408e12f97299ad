"""The last check of a new environment: `guest/start.py edgewright.engine.guest.try_imports PARENT MODULE…`."""

from __future__ import annotations

import importlib
import sys

from edgewright.engine.worker import die_with

if __name__ == "__main__":
    die_with(int(sys.argv[1]))
    for name in sys.argv[2:]:
        importlib.import_module(name)
