"""ExecuTorch's traces, its shared threads, and batches in blocks."""

from __future__ import annotations

import struct
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from edgewright.core.codec import encode_json
from edgewright.core.target import RunOptions
from edgewright.core.tensors import TensorSpec
from edgewright.errors import Corrupt, DataError
from edgewright.runtimes import load_artifact, open_runner
from edgewright.runtimes._blocks import Blocks
from edgewright.runtimes._etdump import Event, read_events, summed
from edgewright.testing import targets


def doubling(size: int, outputs: tuple[TensorSpec, ...] = (TensorSpec("y", "float32", ("n", 2)),)) -> Blocks:
    def compute(arrays: object) -> list[np.ndarray]:
        (x,) = arrays  # type: ignore[misc]
        assert x.shape == (size, 2)
        return [x * 2]

    return Blocks((TensorSpec("x", "float32", ("n", 2)),), outputs, size, compute)


@pytest.mark.parametrize("count", [1, 3, 4, 7, 8])
def test_any_batch_runs_in_blocks_of_the_files(count: int) -> None:
    x = np.arange(count * 2, dtype=np.float32).reshape(count, 2)
    np.testing.assert_array_equal(doubling(4).run({"x": x})["y"], x * 2)


def test_an_output_without_batch_cannot_be_put_together() -> None:
    fixed = (TensorSpec("y", "float32", (4, 2)),)
    with pytest.raises(DataError, match="compile with batch = 3"):
        doubling(4, fixed).run({"x": np.zeros((3, 2), np.float32)})


def test_times_of_a_kernel_are_the_median_over_runs() -> None:
    runs = [[Event(0, "Add #1", True, micros), Event(1, "native_call_x.out", False, 1.0)] for micros in (9.0, 1.0, 2.0)]
    found = {time.node: time.microseconds for time in summed(runs)}
    assert found == {"0/Add #1": 2.0, "1/native_call_x.out": 1.0}


@pytest.mark.parametrize(
    "content", [b"", b"12345678", struct.pack("<I4s", 2**31, b"ED00"), b"\x08\0\0\0ED00" + b"\xff" * 8]
)
def test_what_is_no_trace_is_called_corrupt(content: bytes) -> None:
    with pytest.raises(Corrupt, match="trace of ExecuTorch"):
        read_events(content)


@pytest.mark.slow
def test_runners_of_other_threads_live_side_by_side_and_wrong_descriptions_are_corrupt(tmp_path: Path) -> None:
    proto = next(case for case in targets.CASES if case.name == "depthwise").build()
    path = targets.compiled("executorch", proto, tmp_path)
    feed = targets.feed_for(proto, batch=3)
    with open_runner(path, RunOptions(threads=1)) as one, open_runner(path, RunOptions(threads=2)) as two:
        answers = [runner.run(feed)["y"] for runner in (one, two, one, two, one)]
    for answer in answers[1:]:
        np.testing.assert_allclose(answer, answers[0], atol=1e-6)
    with open_runner(path, RunOptions(profile=True)) as runner:
        for _ in range(70):
            runner.run(feed)
        assert {time.node for time in runner.operator_times()} == {n.node for n in load_artifact(path).placement}
    artifact = load_artifact(path)
    (path / "artifact.json").write_bytes(encode_json(replace(artifact, inputs=(*artifact.inputs, *artifact.outputs))))
    with pytest.raises(Corrupt, match="other inputs or outputs"), open_runner(path):
        pass
