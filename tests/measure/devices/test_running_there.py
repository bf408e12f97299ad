"""Runners on a device: what is asked again, what is not, and what is kept."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from edgewright.core.target import OperatorTime, RunOptions
from edgewright.core.tensors import TensorSpec
from edgewright.errors import ConnectionLost
from edgewright.measure.devices import running
from edgewright.measure.devices.running import Remembering, SteadyRunner, connection_broke

SPECS = (TensorSpec("x", "float32", ("n", 2)),), (TensorSpec("y", "float32", ("n", 2)),)


class FakeChannel:
    """Computes y = 2 x, and breaks before the requests it is told to, with a status."""

    log: list[str]

    def __init__(self, log: list[str], breaks: dict[int, int | None]) -> None:
        self.log, self.breaks, self.status = log, breaks, None
        log.append("start")

    def ask(self, request: Mapping[str, Any], tensors: Any = None) -> tuple[dict[str, Any], dict[str, NDArray[Any]]]:
        self.log.append(request["do"])
        if len(self.log) in self.breaks:
            self.status = self.breaks[len(self.log)]
            raise ConnectionLost("gone", hint="")
        if request["do"] == "run":
            return {"ms": 1.0}, {"y": 2 * tensors["x"]}
        return {"load_ms": 1.0, "held": self.log.count("lease") > 1, "operators": []}, {}

    def close(self) -> None:
        self.log.append("close")


def _runner(breaks: dict[int, int | None], **fields: Any) -> tuple[Callable[[], SteadyRunner], list[str]]:
    log: list[str] = []

    def make() -> SteadyRunner:
        options = RunOptions(profile=fields.get("profile", False))
        start: Any = lambda: FakeChannel(log, breaks)  # noqa: E731
        return SteadyRunner(start, "/there", SPECS, options, fields.get("exclusive", False))

    return make, log


@pytest.fixture(autouse=True)
def no_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(running.time, "sleep", lambda seconds: None)


X = {"x": np.ones((1, 2), np.float32)}


def test_a_batch_whose_connection_broke_is_run_again() -> None:
    make, log = _runner({4: 255, 9: None})
    runner = make()
    assert [float(runner.run(X)["y"][0, 0]) for _ in range(2)] == [2.0, 2.0]
    assert log == ["start", "open", "run", "run", "close", "start", "open", "run"]


def test_a_connection_that_breaks_while_opening_is_made_again() -> None:
    make, log = _runner({2: -9, 5: 255})
    assert make().run(X)["y"].shape == (1, 2)
    assert log.count("open") == 3


@pytest.mark.parametrize("status", [1, 132, 137, 139])
def test_a_runtime_that_crashes_is_not_tried_again(status: int) -> None:
    make, log = _runner({3: status})
    runner = make()
    with pytest.raises(ConnectionLost):
        runner.run(X)
    assert log.count("start") == 1


def test_a_connection_that_stays_broken_is_given_up() -> None:
    make, log = _runner(dict.fromkeys(range(100), 255))
    with pytest.raises(ConnectionLost):
        make()
    assert log.count("start") == 6


def test_a_profile_is_not_pieced_together() -> None:
    make, log = _runner({3: 255}, profile=True)
    runner = make()
    with pytest.raises(ConnectionLost):
        runner.run(X)
    assert log.count("start") == 1


def test_the_lease_is_waited_for_before_anything_is_opened() -> None:
    make, log = _runner({}, exclusive=True)
    make()
    assert log == ["start", "lease", "lease", "open"]


def test_which_ends_are_those_of_a_connection() -> None:
    assert [connection_broke(status) for status in (None, 255, -9, 1, 0, 137)] == [
        True,
        True,
        True,
        False,
        False,
        False,
    ]


class Counting:
    """Counts its runs."""

    inputs, outputs = SPECS
    runs = 0

    def run(self, inputs: Mapping[str, NDArray[Any]]) -> Mapping[str, NDArray[Any]]:
        self.runs += 1
        return {"y": inputs["x"] * 3}

    def operator_times(self) -> tuple[OperatorTime, ...]:
        return ()


def test_what_was_computed_is_kept_by_what_went_in(tmp_path: Path) -> None:
    counting = Counting()
    batches = [{"x": np.full((n, 2), value, np.float32)} for n in (1, 2) for value in (0.0, -0.0, 1.0)]
    first = [Remembering(counting, tmp_path).run(batch)["y"] for batch in batches]
    assert counting.runs == 6
    again = [Remembering(counting, tmp_path).run(batch)["y"] for batch in batches]
    assert counting.runs == 6
    assert [a.tobytes() for a in again] == [a.tobytes() for a in first]
    assert [a.dtype for a in again] == [a.dtype for a in first]
