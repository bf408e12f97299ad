"""Two releases judged: what is certain fails, what may be chance does not, what cannot be known is said."""

from __future__ import annotations

import gzip
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgewright.core.data import QualityFigure, Sample
from edgewright.core.decision import Classification, decision_to_json
from edgewright.core.digest import Digest
from edgewright.core.measurement import Conditions, Device, Quality, Ratio, Summary, Timing
from edgewright.core.target import NodePlacement
from edgewright.errors import Corrupt, UsageError
from edgewright.measure._intervals import figure, wilson
from edgewright.measure._outcomes import Outcome
from edgewright.measure.metrics import make_metric
from edgewright.search.release import (
    Release,
    SampleRecords,
    Shipped,
    Timed,
    Tolerance,
    compare,
    gather,
    read_records,
    read_release,
    records_file,
    write_records,
)
from edgewright.search.release.placement import moved
from edgewright.search.release.quality import judged, pair, quality_finding
from edgewright.search.release.records import sample_digest
from edgewright.search.release.values import ALLOWED, BETTER, NOISE, SAME, UNKNOWN, WORSE

DEVICE = Device("local", "x86_64", "a processor", 2, ("avx2",), 8_000_000_000, "Linux")
ORIGIN = {"model": Digest("sha256:" + "1" * 64)}


def recorded(hits: list[int], *, split: str = "test", values: list[Any] | None = None, label: Any = 1) -> SampleRecords:
    """Outcomes of a classifier of two classes, right where `hits` is 1."""
    outcomes = [
        Outcome(f"s{i}", label, decision_to_json(Classification((label if hit else 0, 2), (0.9, 0.1))), {"top-1": hit})
        for i, hit in enumerate(hits)
    ]
    found = figure(make_metric("top-1", Path()), hits, split, 0)
    samples = [Sample(f"s{i}", value, label) for i, value in enumerate(values or range(len(hits)))]
    return gather("runtime", "runtime/int8", (found,), ("a", "b", "c"), outcomes, samples)


def timing(speed: float = 2.0, size: int = 1000, memory: int = 50_000_000, **more: Any) -> Timing:
    summary = Summary(1.0, 1.0, 1.0, 1.0, 1.0, 100)
    ratio = Ratio(speed, speed * 0.99, speed * 1.01)
    state = Conditions(1, 1, None, None, 0.1, 10, 20)
    return Timing(summary, summary, ratio, 1000.0, 1.0, size, memory, None, "", state, **more)


def shipped(hits: list[int], clock: Timing | None = None, **more: Any) -> Shipped:
    clock = clock or timing()
    quality = Quality((figure(make_metric("top-1", Path()), hits, "test", 0),))
    made = Shipped(
        target="runtime",
        title="int8",
        quality=quality,
        timing=clock,
        device=DEVICE,
        threads=1,
        batch=1,
        size_bytes=clock.size_bytes,
        origin=ORIGIN,
        placement=(),
        records=recorded(hits),
        bundle=None,
        labels=("a", "b", "c"),
    )
    return replace(made, **more)


def release(one: Shipped | None, name: str = "old") -> Release:
    return Release(Path(name), "project", {} if one is None else {one.target: one})


def verdicts(old: Shipped, new: Shipped, timed: Timed | str | None = None) -> dict[str, str]:
    found = compare(release(old), release(new, "new"), Tolerance(), {} if timed is None else {"runtime": timed})
    return {finding.kind: finding.verdict for finding in found.targets[0].findings}


GOOD = [1] * 180 + [0] * 20


def test_the_same_release_is_the_same() -> None:
    assert set(verdicts(shipped(GOOD), shipped(GOOD)).values()) == {SAME}


def test_a_certain_loss_fails_and_a_possible_one_does_not() -> None:
    assert verdicts(shipped(GOOD), shipped([1] * 160 + [0] * 40))["quality"] == WORSE
    chance = [0, 0, 0, 0, 1, 1, *GOOD[6:]]
    chance[-2:] = [1, 1]
    found = compare(release(shipped(GOOD)), release(shipped(chance), "new"), Tolerance())
    assert found.targets[0].findings[0].verdict == NOISE
    assert "may be chance" in found.targets[0].findings[0].sentence
    assert not found.worse
    assert verdicts(shipped([1] * 160 + [0] * 40), shipped(GOOD))["quality"] == BETTER


def test_the_paired_interval_is_that_of_the_same_samples() -> None:
    old, new = shipped(GOOD), shipped([0] * 8 + GOOD[8:])
    paired = quality_finding(old, new, pair(old.records, new.records), 0.005)
    apart = quality_finding(old, new, pair(None, new.records), 0.005)
    assert paired.change == apart.change == pytest.approx(-0.04)
    assert paired.low is not None
    assert paired.high is not None
    assert apart.low is not None
    assert apart.high is not None
    assert paired.high - paired.low < 0.6 * (apart.high - apart.low)
    assert (paired.verdict, apart.verdict) == (WORSE, NOISE)
    assert "paired on 200 samples" in paired.basis


def test_unpaired_proportions_equal_a_published_example() -> None:
    # Newcombe 1998, "Interval estimation for the difference between independent proportions", table II, method 10,
    # 56/70 against 48/80: 0.0524 to 0.3339.
    def scored(hits: int, samples: int) -> Shipped:
        low, high = wilson(hits, samples)
        return replace(
            shipped(GOOD), quality=Quality((QualityFigure("top-1", hits / samples, low, high, samples, "test"),))
        )

    found = quality_finding(scored(48, 80), scored(56, 70), pair(None, None), 0.005)
    assert (found.change, found.low, found.high) == pytest.approx((0.2, 0.0524, 0.3339), abs=5e-5)


@given(st.floats(-1, 1), st.floats(0, 0.5), st.floats(0, 0.5), st.floats(0, 0.3))
def test_a_verdict_of_worse_means_beyond_the_limit_and_certain(
    loss: float, below: float, above: float, allowed: float
) -> None:
    least, most = loss - below, loss + above
    verdict = judged(loss, least, most, allowed)
    assert (verdict == WORSE) == (loss > allowed + 1e-12 and least > 0)
    assert (verdict == BETTER) == (most < 0)
    if verdict in (NOISE, SAME):
        assert least <= 0 <= most + allowed


def test_where_lower_is_better_a_rise_is_the_loss() -> None:
    def errors(value: float) -> Shipped:
        figures = (QualityFigure("mae", value, value - 0.01, value + 0.01, 200, "test", higher_is_better=False),)
        return replace(shipped(GOOD), quality=Quality(figures), records=None)

    nothing = pair(None, None)
    assert quality_finding(errors(1.0), errors(1.5), nothing, 0.1).verdict == WORSE
    assert quality_finding(errors(1.5), errors(1.0), nothing, 0.1).verdict == BETTER


def test_samples_pair_by_id_and_by_what_they_are() -> None:
    values: list[Any] = list(range(200))
    changed = [*values[:190], *(value + 0.5 for value in values[190:])]
    found = pair(recorded(GOOD, values=values), recorded([*GOOD, 1], values=[*changed, 7]))
    assert len(found.pairs) == 190
    assert found.notes == ("the samples differ: 190 are in both, 10 are not what they were, 1 are new",)
    assert pair(recorded(GOOD), recorded(GOOD, split="tune")).pairs == ()
    assert "neither" not in str(pair(None, recorded(GOOD)).notes)
    assert pair(None, recorded(GOOD)).notes == ("no outcomes of single samples came with the old release",)


def test_a_sample_is_told_from_every_other() -> None:
    array = np.arange(4, dtype=np.float32)
    values: list[Any] = [
        *(b"abc", "abc", 1, 1.0, None, [1, 2], [[1], 2], {"a": 1}, {"a": [1]}, {"b": 1}),
        *(array, array.reshape(2, 2), array.astype(np.float64), array + 1, (array, array)),
    ]
    digests = {sample_digest(Sample("s", value)) for value in values}
    assert len(digests) == len(values)
    assert sample_digest(Sample("s", array, 1)) != sample_digest(Sample("s", array, 2))
    assert sample_digest(Sample("s", {"a": 1, "b": 2})) == sample_digest(Sample("t", {"b": 2, "a": 1}))


def test_recorded_speeds_compare_over_the_same_original_only() -> None:
    slower = shipped(GOOD, timing(1.0))
    found = compare(release(shipped(GOOD)), release(slower, "new"), Tolerance())
    assert [reason.partition(" times")[0] for reason in found.reasons()] == ["runtime: a sample takes 2.00"]
    other = replace(slower, origin={"model": Digest("sha256:" + "2" * 64)})
    assert verdicts(shipped(GOOD), other)["speed"] == UNKNOWN
    assert verdicts(shipped(GOOD), replace(slower, batch=4))["speed"] == UNKNOWN
    assert verdicts(shipped(GOOD), shipped(GOOD, timing(1.0, basis="predicted")))["speed"] == UNKNOWN
    assert verdicts(shipped(GOOD), replace(slower, timing=None))["speed"] == UNKNOWN


def test_what_was_timed_here_counts_more_than_what_was_recorded() -> None:
    here = Timed(Ratio(0.5, 0.48, 0.52), 1.0, 2.0, 50_000_000, 80_000_000)
    found = verdicts(shipped(GOOD), shipped(GOOD), here)
    assert (found["speed"], found["memory"]) == (WORSE, WORSE)
    wide = Timed(Ratio(0.8, 0.5, 1.1), 1.0, 1.2, 50_000_000, 50_000_000)
    assert verdicts(shipped(GOOD), shipped(GOOD), wide)["speed"] == NOISE
    refused = compare(release(shipped(GOOD)), release(shipped(GOOD), "new"), Tolerance(), {"runtime": "no runtime"})
    assert "no runtime" in refused.targets[0].notes


def test_size_is_exact_and_memory_belongs_to_a_machine() -> None:
    grown = shipped(GOOD, timing(size=1120, memory=60_000_000))
    assert verdicts(shipped(GOOD), grown)["size"] == WORSE
    assert verdicts(shipped(GOOD), grown)["memory"] == WORSE
    assert verdicts(shipped(GOOD), replace(grown, size_bytes=1080))["size"] == ALLOWED
    elsewhere = replace(grown, device=replace(DEVICE, processor="another"))
    assert verdicts(shipped(GOOD), elsewhere)["memory"] == UNKNOWN


def test_a_target_that_is_gone_fails_and_a_new_one_does_not() -> None:
    gone = compare(release(shipped(GOOD)), release(None, "new"), Tolerance())
    assert gone.worse
    assert list(gone.reasons()) == ["runtime: the old release has an artifact for it, the new one has none"]
    added = compare(release(None), release(shipped(GOOD), "new"), Tolerance())
    assert not added.worse
    assert added.added == ("runtime",)


def test_nodes_that_left_integers_come_first() -> None:
    old = (NodePlacement("k", "QConv", "CPU", "int8", ("conv",)), NodePlacement("n", "Add", "CPU", "float32"))
    new = (
        NodePlacement("k2", "Conv", "CPU", "float32", ("conv",), note="no kernel"),
        NodePlacement("n", "Add", "CPU", "float16"),
        NodePlacement("only here", "Mul", "CPU", "float32"),
    )
    found = moved(old, new)
    assert [(each.node, each.left, each.why) for each in found] == [("conv", True, "no kernel"), ("n", False, "")]
    assert moved(old, old) == ()
    accelerated = (NodePlacement("n", "Add", "XNNPACK", "float32"),)
    assert moved(accelerated, new)[0].left


def test_outcomes_travel_in_a_file_beside_the_bundle(tmp_path: Path) -> None:
    file = records_file(tmp_path / "project-runtime.ewb")
    assert file.name == "project-runtime.outcomes.json.gz"
    assert read_records(file) is None
    write_records(recorded(GOOD), file)
    first = file.read_bytes()
    write_records(recorded(GOOD), file)
    assert file.read_bytes() == first
    assert read_records(file) == recorded(GOOD)
    document = json.loads(gzip.decompress(first))
    assert set(document["samples"][0]) == {"digest", "outcome"}
    for damage in (first[:40], b"no gzip", gzip.compress(b"{}")):
        file.write_bytes(damage)
        with pytest.raises(Corrupt, match="not the outcomes"):
            read_records(file)


def test_what_is_no_release_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no such release"):
        read_release(tmp_path / "nothing")
    with pytest.raises(UsageError, match="neither"):
        read_release(tmp_path)
    (tmp_path / "study.json").write_text('{"schema": "one"}')
    with pytest.raises(Corrupt, match="not a study"):
        read_release(tmp_path)
