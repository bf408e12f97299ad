"""A third-party plugin, installed the way one is: a distribution with entry points on the path of both processes."""

from __future__ import annotations

import importlib
import os
import sys

import pytest

from edgewright.core.measurement import Device
from edgewright.engine import registry
from edgewright.engine.execute import Executor
from edgewright.store.cache import Cache

PLUGIN = """
import os, signal, sys, time
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar
from edgewright.errors import DataError

@dataclass(frozen=True)
class Copy:
    name: ClassVar[str] = "copy"
    version: ClassVar[int] = 1
    requires: ClassVar[tuple[str, ...]] = ("numpy",)
    text: str = "hello"
    fail: str = ""
    seconds: float = 0.0

    def run(self, inputs, out, context):
        print("a step may print")
        (context.scratch / "runs").open("a").write("x")
        context.progress(0.5, "half way")
        time.sleep(self.seconds)
        if self.fail == "own":
            raise DataError("row 3 is wrong", hint="correct row 3")
        if self.fail == "defect":
            raise ZeroDivisionError("oops")
        if self.fail == "full":
            raise OSError(28, "No space left on device")
        if self.fail == "killed":
            print("last words", file=sys.stderr, flush=True)
            os.kill(os.getpid(), signal.SIGKILL)
        given = b"".join(path.read_bytes() for path in inputs.values())
        (out / "text").write_bytes(self.text.encode() + given + str(context.seed).encode())
"""


@pytest.fixture
def plugin(tmp_path, monkeypatch):
    folder = tmp_path / "site"
    metadata = folder / "thirdparty-1.0.dist-info"
    metadata.mkdir(parents=True)
    (folder / "thirdparty.py").write_text(PLUGIN)
    (metadata / "METADATA").write_text("Metadata-Version: 2.1\nName: thirdparty\nVersion: 1.0\n")
    (metadata / "entry_points.txt").write_text("[edgewright.passes]\ncopy = thirdparty:Copy\n")
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(folder), os.environ.get("PYTHONPATH", "")]))
    monkeypatch.syspath_prepend(str(folder))
    importlib.invalidate_caches()
    _forget()
    yield folder
    sys.modules.pop("thirdparty", None)
    _forget()


def _forget():
    registry.names.cache_clear()
    registry._entry_points.cache_clear()


DEVICE = Device("local", "x86_64", "test", 2, ("avx2",), 1 << 30, "Linux")


@pytest.fixture
def executor(tmp_path, plugin):
    return Executor(Cache(tmp_path / "cache"), tmp_path, DEVICE)
