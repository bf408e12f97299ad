"""kill -9 at every file operation of a commit: what is found afterwards is whole, or is made again."""

from __future__ import annotations

import signal
import subprocess
import sys

import pytest

from edgewright.core.digest import digest_bytes
from edgewright.store.cache import Cache

COMMIT = """
import os, pathlib, shutil, signal, sys
from edgewright.core.digest import Digest, digest_bytes
from edgewright.core.step import StepRecord
from edgewright.store.cache import Cache

root, last = pathlib.Path(sys.argv[1]), int(sys.argv[2])
calls = 0

def counted(function):
    def call(*args, **kwargs):
        global calls
        calls += 1
        if calls == last:
            os.kill(os.getpid(), signal.SIGKILL)
        return function(*args, **kwargs)
    return call

watched = {os: ("fsync", "open", "chmod"), pathlib.Path: ("replace", "mkdir", "unlink", "open"), shutil: ("rmtree",)}
for owner, names in watched.items():
    for name in names:
        setattr(owner, name, counted(getattr(owner, name)))

key = digest_bytes(b"key")
cache = Cache(root)
with cache.writer(key) as out:
    (out / "a").write_bytes(b"a" * 1000)
    (out / "b").write_bytes(b"b")
    cache.commit(StepRecord("step", 1, {}, key, {}, Digest("")), out)
print(calls)
"""


def commit(root, last: int) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", COMMIT, str(root), str(last)], capture_output=True, text=True, check=False
    )


def whole(root) -> bool:
    hit = Cache(root).find(digest_bytes(b"key"))
    if hit is None:
        return False
    assert (hit.path / "a").read_bytes() == b"a" * 1000
    assert (hit.path / "b").read_bytes() == b"b"
    return True


@pytest.mark.slow
def test_every_moment_of_a_commit(tmp_path):
    total = int(commit(tmp_path / "whole", 0).stdout)
    assert total > 10
    found = []
    for last in range(1, total + 1):
        root = tmp_path / str(last)
        assert commit(root, last).returncode == -signal.SIGKILL
        found.append(whole(root))
        assert commit(root, 0).returncode == 0
        assert whole(root)
    assert found[0] is False
    assert True in found, "no kill came after the commit point"
    assert found == sorted(found), "once committed, always found"
