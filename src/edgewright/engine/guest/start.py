"""Runs a module of Edgewright in another interpreter: `python -I …/guest/start.py edgewright.engine.worker 1234`.

Only the package `edgewright` becomes importable there, from where it lies; nothing that is installed beside it does.
Runs before anything else is known, so it imports the standard library alone.
"""

from __future__ import annotations

import importlib.util
import runpy
import sys
from pathlib import Path

PATH = Path(__file__).resolve()
"""This file: what to start the other interpreter with."""
PACKAGE = PATH.parents[2]


def main() -> None:
    """Makes the package importable and runs the module named first."""
    init = PACKAGE / "__init__.py"
    spec = importlib.util.spec_from_file_location("edgewright", init, submodule_search_locations=[str(PACKAGE)])
    assert spec is not None
    assert spec.loader is not None
    package = importlib.util.module_from_spec(spec)
    sys.modules["edgewright"] = package
    spec.loader.exec_module(package)
    module = sys.argv[1]
    sys.argv[:] = [module, *sys.argv[2:]]
    runpy.run_module(module, run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    main()
