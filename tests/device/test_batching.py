"""Micro-batching: order, equality with one at a time, waiting, and samples that are wrong."""

from __future__ import annotations

import io
import json
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgewright.bundle.batches import Joining
from edgewright.bundle.decide import Decider
from edgewright.core.data import Prepared
from edgewright.core.decision import Classification
from edgewright.core.tensors import TensorSpec
from edgewright.device.batching import Arrivals, Batching, results_together
from edgewright.device.loop import Failure, Meter, Result, Tally
from edgewright.device.session import RunConfig, run_bundle
from edgewright.device.sources import Frame
from edgewright.errors import DataError, UsageError
from edgewright.pipeline import Postprocess, Preprocess

RNG = np.random.default_rng(3)
TABLE, HEAD = RNG.normal(size=(50, 8)).astype(np.float32), RNG.normal(size=(8, 5)).astype(np.float32)
IDS, MASK = TensorSpec("ids", "int64", ("batch", "tokens")), TensorSpec("mask", "int64", ("batch", "tokens"))


class Texts:
    """A text classifier that averages over the tokens which the mask shows; counts its runs."""

    inputs = (IDS, MASK)
    outputs = (TensorSpec("y", "float32", ("batch", 5)), TensorSpec("each", "float32", ("batch", "tokens", 8)))

    def __init__(self) -> None:
        self.runs: list[tuple[int, ...]] = []

    def run(self, inputs: Any) -> dict[str, Any]:
        self.runs.append(inputs["ids"].shape)
        mask = inputs["mask"][..., None]
        each = TABLE[inputs["ids"]] * mask
        return {"y": each.sum(1) / mask.sum(1) @ HEAD, "each": each}

    def operator_times(self) -> tuple[()]:
        return ()


def tokens(lengths: list[int]) -> list[dict[str, Any]]:
    return [{"ids": RNG.integers(1, 50, n), "mask": np.ones(n, np.int64)} for n in lengths]


def decider(runner: Any, padding: dict[str, float], postprocess: str = "softmax") -> Decider:
    preprocess = Preprocess.from_spec([{"op": "cast", "dtype": "int64"}], Path(), runner.inputs)
    made = Decider(preprocess, runner, Postprocess.from_spec([{"op": postprocess, "output": "y"}], Path()))
    made._joining = Joining(runner.inputs, runner.outputs, padding)
    return made


LENGTHS = [7, 3, 9, 3, 1, 8, 2, 2, 9]
FILLED = {"ids": 0.0, "mask": 0.0}


def scores(decision: Any) -> Any:
    assert isinstance(decision, Classification)
    return [dict(zip(decision.indices, decision.scores, strict=True))[i] for i in range(5)]


def test_texts_of_different_lengths_give_the_same_together_as_alone() -> None:
    values, together, alone = tokens(LENGTHS), Texts(), Texts()
    many = decider(together, FILLED).many(values, 4)
    ones = [decider(alone, FILLED)(value) for value in values]
    np.testing.assert_allclose([scores(d) for d in many], [scores(d) for d in ones], rtol=1e-5)
    assert together.runs == [(4, 3), (4, 9), (1, 9)], "sorted by length, so that little is filled up"


def test_without_a_mask_only_equal_lengths_share_a_run() -> None:
    values, runner = tokens(LENGTHS), Texts()
    many = decider(runner, {}).many(values, 4)
    assert runner.runs == [(1, 1), (2, 2), (2, 3), (1, 7), (1, 8), (2, 9)]
    ones = [decider(Texts(), {})(value) for value in values]
    np.testing.assert_allclose([scores(d) for d in many], [scores(d) for d in ones], rtol=1e-5)


def test_filling_is_cut_from_what_the_model_gives_per_token() -> None:
    joining = Joining(Texts.inputs, Texts.outputs, FILLED)
    samples = [Prepared(value, {}) for value in tokens([2, 5])]
    found = Texts().run(joining.stack(samples, 0))
    rows = [joining.row(found, i, sample) for i, sample in enumerate(samples)]
    assert [row["each"].shape for row in rows] == [(2, 8), (5, 8)]
    np.testing.assert_array_equal(rows[0]["each"], TABLE[samples[0].tensors["ids"]])


def test_outputs_of_unknown_length_forbid_filling() -> None:
    unknown = (TensorSpec("y", "float32", ("batch", "found", 4)),)
    assert Joining(Texts.inputs, Texts.outputs, FILLED).fills
    assert not Joining(Texts.inputs, unknown, FILLED).fills
    assert not Joining(Texts.inputs, Texts.outputs, {"ids": 0.0}).fills


@settings(max_examples=60, deadline=None)
@given(st.lists(st.integers(1, 6), max_size=20), st.integers(1, 5), st.booleans())
def test_every_sample_is_in_one_group(lengths: list[int], size: int, fills: bool) -> None:
    samples = [Prepared(value, {}) for value in tokens(lengths)]
    groups = Joining(Texts.inputs, Texts.outputs, FILLED if fills else {}).groups(samples, size)
    assert sorted(i for group in groups for i in group) == list(range(len(lengths)))
    assert all(0 < len(group) <= size for group in groups)
    if fills:
        assert len(groups) == -(-len(lengths) // size)
    else:
        assert all(len({lengths[i] for i in group}) == 1 for group in groups)


def frames(values: list[Any], pause: float = 0.0) -> Iterator[Frame]:
    for index, value in enumerate(values):
        time.sleep(pause)
        yield Frame(str(index), index, value, False)


def test_one_wrong_sample_does_not_lose_the_others() -> None:
    values = [*tokens([3, 4]), {"ids": np.ones((2, 2))}, "no numbers", *tokens([5])]
    meter = Meter()
    found = list(results_together(decider(Texts(), FILLED), frames(values), meter, Tally(), Batching(4)))
    assert [type(each) for each in found] == [Result, Result, Failure, Failure, Result]
    assert [each.frame.index for each in found] == list(range(5))
    assert (meter.frames, meter.failed) == (5, 2)


def test_a_run_that_fails_is_done_again_one_by_one() -> None:
    class Picky(Texts):
        def run(self, inputs: Any) -> dict[str, Any]:
            if (inputs["ids"] == 49).any():
                raise DataError("49 is no token", hint="use another")
            return super().run(inputs)

    values = tokens([4, 4, 4])
    for value in values:
        value["ids"][:] = 7
    values[1]["ids"][2] = 49
    found = decider(Picky(), FILLED).many(values, 4)
    assert [type(each) for each in found] == [Classification, DataError, Classification]


def test_a_batch_closes_when_its_first_sample_has_waited_long_enough() -> None:
    waiting = list(Arrivals(frames(tokens([2] * 6), 0.02), Batching(64, delay_ms=70.0)))
    assert 1 < len(waiting) < 6, "samples every 20 ms, batches of 70 ms"
    assert sum(map(len, waiting)) == 6
    at_once = [len(batch) for batch in Arrivals(frames(tokens([2] * 6), 0.02), Batching(64))]
    assert len(at_once) >= 4, "without a delay nobody waits; a busy machine may let two arrive together"


def test_waiting_samples_are_looked_over_ahead() -> None:
    arrivals = Arrivals(frames(tokens([1] * 30)), Batching(4, delay_ms=1000.0, ahead=4))
    time.sleep(0.1)
    sizes = [len(batch) for batch in arrivals]
    assert sum(sizes) == 30
    assert max(sizes) == 16


def test_waiting_counts_in_the_latency() -> None:
    meter = Meter()
    list(results_together(decider(Texts(), FILLED), frames(tokens([3] * 8), 0.01), meter, Tally(), Batching(64, 1e3)))
    assert meter.percentile(99) > 50, "the first of eight samples waits for the last one"


def test_the_source_that_fails_fails_the_run() -> None:
    def broken() -> Iterator[Frame]:
        yield from frames(tokens([2, 2]))
        raise OSError("the cable is out")

    seen = []
    with pytest.raises(OSError, match="cable"):
        seen.extend(
            each for each in results_together(decider(Texts(), FILLED), broken(), Meter(), Tally(), Batching(8))
        )


@pytest.mark.parametrize(("size", "delay"), [(0, 0.0), (4, -1.0)])
def test_batches_that_make_no_sense(size: int, delay: float) -> None:
    with pytest.raises(UsageError, match="expected at least"):
        Batching(size, delay)


def folder(path: Path, count: int) -> Path:
    path.mkdir()
    for i, value in enumerate(np.random.default_rng(1).normal(size=(count, 4))):
        np.save(path / f"{i:03d}.npy", value)
    return path


def lines(config: RunConfig) -> tuple[list[dict[str, Any]], Any]:
    stdout = io.StringIO()
    summary = run_bundle(config, stdout=stdout)
    return [json.loads(line) for line in stdout.getvalue().splitlines()], summary


def test_a_bundle_decides_the_same_in_batches(classifier_bundle: Path, tmp_path: Path) -> None:
    source = folder(tmp_path / "in", 21)
    np.save(source / "005.npy", np.zeros((2, 4)))
    config = RunConfig(classifier_bundle, str(source), "-", cache=tmp_path / "cache", max_batch=8, max_delay_ms=20.0)
    together, summary = lines(config)
    (source / "005.npy").unlink()
    alone, _ = lines(replace(config, max_batch=1))
    assert [line["frame"] for line in together] == [f"{i:03d}.npy" for i in range(21)]
    assert "error" in together[5]
    assert together[5]["hint"]
    good = [line for line in together if "error" not in line]
    assert len(good) == 20
    for one, other in zip(good, alone, strict=True):
        assert one["indices"] == other["indices"]
        np.testing.assert_allclose(one["scores"], other["scores"], rtol=1e-5)
    assert (summary.frames, summary.failed, summary.max_batch) == (21, 1, 8)
    assert 0 < summary.p50_ms <= summary.p95_ms <= summary.p99_ms


def test_a_model_with_a_fixed_batch_refuses(detector_bundle: Path, tmp_path: Path, bright_square: Any) -> None:
    (tmp_path / "in").mkdir()
    np.save(tmp_path / "in" / "a.npy", bright_square(8))
    config = RunConfig(detector_bundle, str(tmp_path / "in"), cache=tmp_path / "cache", max_batch=4)
    with pytest.raises(UsageError, match="compiled for batches of 1") as caught:
        run_bundle(config)
    assert "free first axis" in caught.value.hint
