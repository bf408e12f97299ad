"""Files by digest: resumed, checked, confined; jobs found again by their question."""

from __future__ import annotations

import fcntl
import json
import os
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any
from unittest import mock

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgewright.core.digest import canonical_json, digest_bytes
from edgewright.device.remote.agent import Agent
from edgewright.device.remote.job import Journal
from edgewright.device.remote.jobs import DONE, FAILED, RUNNING, STOPPED, UNKNOWN, Jobs
from edgewright.device.remote.store import Store
from edgewright.device.timing.hosts import Block
from edgewright.device.timing.timed import Round
from edgewright.errors import ConnectionLost, Corrupt, UsageError
from edgewright.measure.devices.sending import send_folder
from edgewright.store.files import digest_files, digest_of_tree


def _quiet(fraction: float, note: str) -> None:
    pass


def _folder(root: Path, files: dict[str, bytes]) -> Path:
    for name, data in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(data)
    return root


class Flaky:
    """Asks an agent, and breaks the connection where it is told to: before or after the request was carried out."""

    def __init__(self, root: Path, breaks: set[int]) -> None:
        self.agent, self.breaks, self.asked, self.put = Agent(root), breaks, 0, 0

    def __call__(self, request: Any, tensors: Any) -> dict[str, Any]:
        self.asked += 1
        if self.asked in self.breaks and self.asked % 2:
            raise ConnectionLost("before", hint="")
        answer, _ = self.agent.answer(json.loads(json.dumps(request)), tensors or {})
        self.put += len(tensors["data"]) if tensors else 0
        if self.asked in self.breaks:
            raise ConnectionLost("after", hint="")
        return answer


@settings(max_examples=15, deadline=None)
@given(st.lists(st.integers(1, 12), max_size=6))
def test_a_folder_arrives_whole_wherever_the_connection_breaks(
    tmp_path_factory: pytest.TempPathFactory, breaks: list[int]
) -> None:
    root = tmp_path_factory.mktemp("device")
    content = {"model.onnx": os.urandom(4000), "deep/er/empty": b"", "artifact.json": b"{}"}
    folder, ask = _folder(root / "here", content), Flaky(root / "there", set(breaks))
    with mock.patch("edgewright.measure.devices.sending.PIECE_BYTES", 1000):
        for _ in range(len(breaks) + 1):
            try:
                digest, path = send_folder(ask, folder, _quiet)
                break
            except ConnectionLost:
                continue
    assert digest_files(Path(path)) == digest_files(folder)
    assert ask.put <= 4002 + 1000 * len(breaks)  # nothing is sent twice but a piece that broke
    before = ask.put
    assert send_folder(lambda request, tensors: ask.agent.answer(request, tensors or {})[0], folder, _quiet)[1] == path
    assert ask.put == before
    assert not list((root / "there" / "incoming").glob("*"))
    assert digest == digest_of_tree(digest_files(folder))


def test_what_arrived_damaged_is_sent_again(tmp_path: Path) -> None:
    folder, store = _folder(tmp_path / "here", {"a": b"x" * 100, "b": b"y"}), Store(tmp_path / "there")
    digest = digest_of_tree(digest_files(folder))
    store.put(digest, "a", 0, b"z" * 100)
    assert store.arrived(digest, {"a": 100, "b": 1}) == {"a": 100, "b": 0}
    store.put(digest, "b", 0, b"y")
    with pytest.raises(Corrupt, match="a did not arrive"):
        store.commit(digest, digest_files(folder))
    assert store.arrived(digest, {"a": 100, "b": 1}) == {"a": 0, "b": 1}
    store.put(digest, "a", 0, b"x" * 100)
    place = store.commit(digest, digest_files(folder))
    assert store.has(digest)
    (place / "a").write_bytes(b"rotten")
    assert not store.has(digest)
    assert not place.exists()


@pytest.mark.parametrize("name", ["../outside", "/etc/passwd", "a/../../b", "", "a\0b"])
def test_no_path_leaves_its_folder(tmp_path: Path, name: str) -> None:
    with pytest.raises(UsageError, match="leaves its folder"):
        Store(tmp_path).put("sha256:" + "0" * 64, name, 0, b"x")


@pytest.mark.parametrize("digest", ["", "sha256:../..", "sha256:" + "0" * 63, "sha256:" + "g" * 64, None])
def test_only_digests_name_folders(tmp_path: Path, digest: Any) -> None:
    with pytest.raises(UsageError, match="is no digest"):
        Store(tmp_path).folder(digest)


def test_a_piece_with_a_gap_before_it_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="a piece at 5, and 0 bytes are here"):
        Store(tmp_path).put("sha256:" + "0" * 64, "a", 5, b"x")


def test_what_was_not_used_for_longest_makes_room(tmp_path: Path) -> None:
    store, places = Store(tmp_path), []
    for index in range(3):
        folder = _folder(tmp_path / f"here{index}", {"a": bytes([index]) * 1000})
        digests = digest_files(folder)
        store.put(digest_of_tree(digests), "a", 0, (folder / "a").read_bytes())
        places.append(store.commit(digest_of_tree(digests), digests))
        os.utime(places[-1], (index, index))
    young = time.time()
    os.utime(places[2], (young, young))
    store.prune(1500)
    assert [place.exists() for place in places] == [False, False, True]
    store.prune(0)
    assert places[2].exists()  # too young


@pytest.fixture
def jobs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Jobs:
    """Nothing is started: what a job does is played by the test."""
    monkeypatch.setattr("edgewright.device.remote.jobs._detach", lambda folder, lock: None)
    return Jobs(Store(tmp_path))


def test_a_job_through_its_life(jobs: Jobs) -> None:
    job = {"kind": "time", "artifact": "x"}
    key = digest_bytes(canonical_json(job))
    assert jobs.state(key) == UNKNOWN
    assert jobs.start(job) == (key, RUNNING)
    folder = jobs.folder(key)
    with (folder / "lock").open("a") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        assert jobs.start(dict(reversed(job.items()))) == (key, RUNNING)  # the same question, found again
        (folder / "journal.jsonl").write_bytes(b"one\ntwo\nthr")
        found = jobs.poll(key, 0)
        assert (found["state"], found["lines"], found["offset"]) == (RUNNING, ["one", "two"], 8)
        assert jobs.poll(key, 8)["lines"] == []
        with pytest.raises(UsageError, match="still runs"):
            jobs.drop(key)
    (folder / "log").write_text("out of memory")
    assert jobs.poll(key, 8)["state"] == STOPPED
    assert jobs.poll(key, 8)["log"] == "out of memory"
    (folder / "error.json").write_text('{"error": "Corrupt", "message": "m", "hint": "h"}')
    assert jobs.poll(key, 8)["state"] == FAILED
    assert jobs.start(job) == (key, RUNNING)  # a failed one is tried again, with the rounds it has
    assert not (folder / "error.json").exists()
    (folder / "result.json").write_text("{}")
    assert jobs.start(job) == (key, DONE)
    assert jobs.poll(key, 4)["lines"] == ["two"]
    jobs.drop(key)
    assert not folder.exists()


def test_a_line_torn_by_a_power_cut_is_measured_again(tmp_path: Path) -> None:
    file, found = tmp_path / "journal.jsonl", Round(Block((1.0, 2.0), None, (3.0, 4.0)), Block((5.0,), 6, (7.0, 8.0)))
    journal = Journal(file)
    journal.add(found)
    journal.add(found)
    file.write_bytes(file.read_bytes()[:-5])
    again = Journal(file)
    assert len(again.earlier) == 1
    again.add(found)
    assert len(file.read_text().splitlines()) == 2
    assert again.earlier[0].candidate.ms == (1.0, 2.0)
    assert again.earlier[0].candidate.span is None  # its clock is that of an earlier process
    assert (again.earlier[0].reference or found.candidate).microjoules == 6


def test_an_unknown_request_is_an_error_and_no_end(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="unknown request"):
        Agent(tmp_path).answer({"do": "dance"}, {})
    assert Agent(tmp_path).answer({"do": "about"}, {})[0]["sources"].startswith("sha256:")


def test_several_senders_of_the_same_files_at_once(tmp_path: Path) -> None:
    for round_ in range(8):
        content = {f"{index}.bin": os.urandom(20_000) for index in range(4)}
        folder = _folder(tmp_path / f"here-{round_}", content)

        def send(_: int, folder: Path = folder) -> str:
            agent = Agent(tmp_path / "there")
            return send_folder(lambda request, tensors: agent.answer(request, tensors or {})[0], folder, _quiet)[1]

        with (
            mock.patch("edgewright.measure.devices.sending.PIECE_BYTES", 3000),
            ThreadPoolExecutor(4) as senders,
        ):
            places = set(senders.map(send, range(4)))
        assert len(places) == 1
        assert digest_files(Path(places.pop())) == digest_files(folder)
