from __future__ import annotations

import errno
import os

import pytest

from edgewright.core.digest import Digest, digest_bytes
from edgewright.core.step import StepRecord
from edgewright.errors import OutOfSpace, UsageError
from edgewright.store import files
from edgewright.store.cache import Cache
from edgewright.store.files import write_atomic
from edgewright.store.gc import collect


def record(key: Digest) -> StepRecord:
    return StepRecord("step", 1, {}, key, {}, Digest(""))


def keep(cache: Cache, name: str, content: bytes = b"content"):
    key = digest_bytes(name.encode())
    with cache.writer(key) as out:
        (out / "sub").mkdir()
        (out / "sub" / "file").write_bytes(content)
        return cache.commit(record(key), out)


@pytest.fixture
def cache(tmp_path):
    return Cache(tmp_path / "cache")


def test_what_was_committed_is_found(cache):
    made = keep(cache, "a")
    hit = cache.find(made.record.key)
    assert hit is not None
    assert hit.record == made.record
    assert (hit.path / "sub" / "file").read_bytes() == b"content"
    assert list((cache.root / "tmp").iterdir()) == []


def test_equal_outputs_are_stored_once(cache):
    assert keep(cache, "a").path == keep(cache, "b").path
    assert keep(cache, "c", b"other").path != keep(cache, "a").path


def test_nothing_is_kept_of_a_failed_write(cache):
    key = digest_bytes(b"x")
    with pytest.raises(RuntimeError), cache.writer(key) as out:  # noqa: PT012 - the failure is inside
        (out / "half").write_bytes(b"1")
        raise RuntimeError
    assert cache.find(key) is None
    assert list((cache.root / "tmp").iterdir()) == []


@pytest.mark.parametrize("damage", ["flip", "truncate", "remove", "add", "action"])
def test_damage_is_a_miss_and_can_be_made_again(cache, damage):
    made = keep(cache, "a")
    file = made.path / "sub" / "file"
    action = next((cache.root / "actions").glob("*/*.json"))
    if damage == "flip":
        file.write_bytes(b"Content")
    elif damage == "truncate":
        file.write_bytes(b"")
    elif damage == "remove":
        file.unlink()
    elif damage == "add":
        (made.path / "more").write_bytes(b"")
    else:
        action.write_bytes(action.read_bytes()[:20])
    assert cache.find(made.record.key) is None
    again = keep(cache, "a")
    assert cache.find(again.record.key) is not None


def test_commit_repairs_a_damaged_output_of_another_key(cache):
    made = keep(cache, "a")
    (made.path / "sub" / "file").write_bytes(b"damaged")
    keep(cache, "b")
    assert (made.path / "sub" / "file").read_bytes() == b"content"


def test_collection_removes_the_least_recently_used_first(cache):
    old, new = keep(cache, "old", b"o" * 1000), keep(cache, "new", b"n" * 1000)
    for index, made in enumerate((new, old)):
        name = made.record.key.removeprefix("sha256:")
        os.utime(cache.root / "actions" / name[:2] / f"{name}.json", (index + 1, index + 1))
    found = collect(cache, 1500)
    assert (found.kept_actions, found.removed_actions) == (1, 1)
    assert found.freed_bytes >= 1000
    assert cache.find(old.record.key) is not None
    assert cache.find(new.record.key) is None
    assert not new.path.exists()


def test_collection_removes_outputs_nobody_names_and_abandoned_work(cache):
    made = keep(cache, "a")
    stray = cache.root / "outputs" / "ff" / ("f" * 64)
    stray.mkdir(parents=True)
    abandoned, fresh = cache.root / "tmp" / "old", cache.root / "tmp" / "fresh"
    abandoned.mkdir()
    fresh.mkdir()
    os.utime(abandoned, (1, 1))
    collect(cache, 1 << 30)
    assert not stray.exists()
    assert not abandoned.exists()
    assert fresh.exists()
    assert cache.find(made.record.key) is not None


def test_collection_is_refused_while_in_use(cache):
    keep(cache, "a")
    with cache.shared(), pytest.raises(UsageError, match="in use"):
        collect(cache, 0)
    assert collect(cache, 0).kept_actions == 0


def test_a_full_disk_is_explained_and_leaves_the_old_file(tmp_path, monkeypatch):
    path = tmp_path / "file"
    write_atomic(path, b"old")

    def full(handle):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(files.os, "fsync", full)
    with pytest.raises(OutOfSpace) as caught:
        write_atomic(path, b"new")
    assert "cache gc" in caught.value.hint
    assert path.read_bytes() == b"old"
    assert [p.name for p in tmp_path.iterdir()] == ["file"]
