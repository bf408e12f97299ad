"""The evaluate step on a real runtime."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgewright.core.codec import decode_stored
from edgewright.core.measurement import Quality
from edgewright.errors import Corrupt, DataError, MetricFailed
from edgewright.measure._intervals import tango, wilson
from edgewright.measure._outcomes import read_outcomes
from edgewright.measure.evaluate import Evaluate

EYE = np.eye(3)


def _samples(n: int = 30) -> tuple[list[np.ndarray], list[int]]:
    """One-hot inputs: the identity model is right except on the last sample of every ten."""
    kinds = [i % 3 for i in range(n)]
    labels = [(k + 1) % 3 if i % 10 == 9 else k for i, k in enumerate(kinds)]
    return [np.eye(3, dtype=np.float32)[k] for k in kinds], labels


def _quality(folder: Path) -> Quality:
    return decode_stored(Quality, (folder / "quality.json").read_bytes())


@pytest.mark.parametrize(("batch", "fixed"), [(1, "batch"), (4, "batch"), (4, 1), (1, 7)])
def test_quality_of_labelled_data(
    batch: int, fixed: int | str, linear: Any, give_data: Any, out: Path, context: Any
) -> None:
    values, labels = _samples()
    data = give_data(values, labels, ("a", "b", "c"))
    step = Evaluate(metrics=("top-1", "f1"), batch=batch)
    step.run({"artifact": linear("a", EYE, batch=fixed), "data": Path()}, out, context)
    found = _quality(out)
    assert found.figures[0].value == pytest.approx(0.9)
    assert (found.figures[0].low, found.figures[0].high) == wilson(27, 30)
    assert (found.figures[0].samples, found.figures[0].split) == (30, "tune")
    assert [f.metric for f in found.figures] == ["top-1", "f1"]
    # The wrong ones are samples 9, 19 and 29, of one class each.
    assert found.per_class == pytest.approx({"a": 0.9, "b": 0.9, "c": 0.9})
    assert found.difference == ()
    assert (found.changed_share, found.agreement, found.warnings) == (0.0, False, ())
    assert data.resets == 30
    assert context.notes[-1][1] == "16 of 30 samples"


def test_paired_with_the_reference(linear: Any, give_data: Any, tmp_path: Path, out: Path, context: Any) -> None:
    values, labels = _samples()
    give_data(values, labels)
    base = tmp_path / "base"
    base.mkdir()
    Evaluate().run({"artifact": linear("a", EYE), "data": Path()}, base, context)
    swapped = np.array([[1, 0, 0], [0, 1, 0], [2.0, 0, 1]])  # calls class 2 class 0
    Evaluate(split="test").run({"artifact": linear("b", swapped), "data": Path(), "reference": base}, out, context)
    found = _quality(out)
    hits = [o.contributions["top-1"] for o in read_outcomes(out)]
    before = [o.contributions["top-1"] for o in read_outcomes(base)]
    gained = sum(h > b for h, b in zip(hits, before, strict=True))
    lost = sum(h < b for h, b in zip(hits, before, strict=True))
    assert lost == 9
    assert found.difference[0].value == pytest.approx((gained - lost) / 30)
    assert (found.difference[0].low, found.difference[0].high) == tango(gained, lost, 30)
    assert found.changed_share == pytest.approx(1 / 3)
    assert [o.changed for o in read_outcomes(out)] == [i % 3 == 2 for i in range(30)]


def test_outcomes_hold_the_evidence(linear: Any, give_data: Any, out: Path, context: Any) -> None:
    values, labels = _samples(3)
    give_data(values, [np.int64(label) for label in labels])
    Evaluate().run({"artifact": linear("a", EYE), "data": Path()}, out, context)
    assert json.loads((out / "outcomes.json").read_text())[1] == {
        "id": "s1",
        "label": 1,
        "decision": {"kind": "classification", "indices": [1, 0, 2], "scores": [1.0, 0.0, 0.0]},
        "contributions": {"top-1": 1},
        "changed": False,
    }


def test_without_labels_quality_is_agreement(
    linear: Any, give_data: Any, tmp_path: Path, out: Path, context: Any
) -> None:
    give_data(_samples()[0], labels=None)
    base = tmp_path / "base"
    base.mkdir()
    Evaluate().run({"artifact": linear("a", EYE), "data": Path()}, base, context)
    assert (_quality(base).figures[0].value, _quality(base).agreement) == (1.0, True)
    swapped = np.array([[1, 0, 0], [0, 1, 0], [2.0, 0, 1]])
    Evaluate().run({"artifact": linear("b", swapped), "data": Path(), "reference": base}, out, context)
    found = _quality(out)
    assert found.agreement
    assert (found.figures[0].metric, found.figures[0].value) == ("agreement", pytest.approx(2 / 3))
    assert found.per_class == {"0": 1.0, "1": 1.0, "2": 0.0}
    assert found.difference[0].value == pytest.approx(-1 / 3)
    assert found.difference[0].high < 0


def test_nan_outputs_are_a_warning(linear: Any, give_data: Any, out: Path, context: Any) -> None:
    values, labels = _samples(10)
    values[4] = np.array([np.nan, 0, 0], np.float32)
    values[7] = np.array([np.inf, 0, 0], np.float32)
    give_data(values, labels)
    Evaluate().run({"artifact": linear("a", EYE), "data": Path()}, out, context)
    assert _quality(out).warnings == ("outputs held NaN or infinities for 2 of 10 samples (first: s4, s7)",)


def test_limit(linear: Any, give_data: Any, out: Path, context: Any) -> None:
    give_data(*_samples())
    Evaluate(limit=7, batch=4).run({"artifact": linear("a", EYE), "data": Path()}, out, context)
    assert _quality(out).figures[0].samples == 7


def test_a_metric_that_raises_names_the_sample(
    linear: Any, give_data: Callable[..., Any], tmp_path: Path, out: Path, context: Any
) -> None:
    (tmp_path / "own_metric_raises.py").write_text("def score(decision, label):\n    return [1, 2][label]\n")
    give_data(*_samples())
    with pytest.raises(MetricFailed, match=r'sample "s2": metric own_metric_raises:score raised IndexError'):
        Evaluate(metrics=("own_metric_raises:score",)).run({"artifact": linear("a", EYE), "data": Path()}, out, context)
    assert not list(out.iterdir())


def test_a_label_that_does_not_fit_names_the_sample(linear: Any, give_data: Any, out: Path, context: Any) -> None:
    values, labels = _samples(5)
    give_data(values, [*labels[:3], "dog", 1])
    with pytest.raises(DataError, match='sample "s3": top-1 expects a class index'):
        Evaluate().run({"artifact": linear("a", EYE), "data": Path()}, out, context)


def test_a_reference_of_other_samples_is_refused(
    linear: Any, give_data: Any, tmp_path: Path, out: Path, context: Any
) -> None:
    artifact = linear("a", EYE)
    base = tmp_path / "base"
    base.mkdir()
    give_data(*_samples(3))
    Evaluate().run({"artifact": artifact, "data": Path()}, base, context)
    give_data(*_samples(4))
    with pytest.raises(DataError, match='sample 3 is "s3", the reference judged "nothing" there'):
        Evaluate().run({"artifact": artifact, "data": Path(), "reference": base}, out, context)
    (base / "outcomes.json").write_text("[{]")
    with pytest.raises(Corrupt, match=r"outcomes.json"):
        Evaluate().run({"artifact": artifact, "data": Path(), "reference": base}, out, context)


def test_an_empty_split_is_refused(linear: Any, give_data: Any, out: Path, context: Any) -> None:
    give_data([], [])
    with pytest.raises(DataError, match="split tune holds no sample"):
        Evaluate().run({"artifact": linear("a", EYE), "data": Path()}, out, context)
