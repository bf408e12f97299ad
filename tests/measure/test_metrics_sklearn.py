"""Metrics against scikit-learn on random data, and their resampling against plain repetition."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn import metrics as sk

from edgewright.core.decision import Classification, Decision, Segmentation, Tensors
from edgewright.errors import ConfigError, DataError, MetricFailed
from edgewright.measure.metrics import METRICS, make_metric, make_metrics
from edgewright.measure.metrics._resampling import PerClass, Resampled
from edgewright.measure.metrics.classification import MacroF1, RocAuc, TopK
from edgewright.measure.metrics.regression import Cosine, MeanAbsoluteError
from edgewright.measure.metrics.segmentation import MeanIoU
from edgewright.measure.metrics.verification import EqualErrorRate, TrueAcceptRate

SEEDS = st.integers(0, 2**32 - 1)


def _classified(scores: np.ndarray) -> Classification:
    order = np.argsort(-scores, kind="stable")
    return Classification(tuple(order.tolist()), tuple(scores[order].tolist()))


def _random_classes(seed: int, n: int = 60, classes: int = 5) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    label = np.concatenate([np.arange(classes), rng.integers(0, classes, n - classes)])
    scores = rng.random((n, classes)).round(1) + 1e-3 * rng.random((n, classes))
    scores[np.arange(n), label] += 0.3
    return label, scores / scores.sum(1, keepdims=True)


def _contributions(metric: Any, decisions: list[Decision], labels: Any) -> list[Any]:
    found = [metric.contribution(d, y) for d, y in zip(decisions, labels, strict=True)]
    return json.loads(json.dumps(found))  # contributions live in a JSON file


@given(SEEDS, st.integers(1, 4))
@settings(max_examples=25, deadline=None)
def test_top_k_equals_scikit_learn(seed: int, k: int) -> None:
    label, scores = _random_classes(seed)
    metric = TopK(k)
    found = metric.reduce(_contributions(metric, [_classified(s) for s in scores], label))
    assert found == pytest.approx(sk.top_k_accuracy_score(label, scores, k=k, labels=range(5)))


@given(SEEDS)
@settings(max_examples=25, deadline=None)
def test_macro_f1_and_per_class_equal_scikit_learn(seed: int) -> None:
    label, scores = _random_classes(seed)
    decided, metric = scores.argmax(1), MacroF1()
    found = _contributions(metric, [_classified(s) for s in scores], label)
    assert metric.reduce(found) == pytest.approx(sk.f1_score(label, decided, average="macro"))
    each = metric.per_class(found, label)
    assert [each[c] for c in range(5)] == pytest.approx(sk.f1_score(label, decided, average=None))


def test_no_decision_is_wrong_but_no_class_of_its_own() -> None:
    metric = MacroF1()
    none = Classification((-1,), (0.1,))
    found = _contributions(metric, [none, _classified(np.array([0.1, 0.9]))], [0, 1])
    assert metric.reduce(found) == pytest.approx(0.5)
    assert TopK(1).contribution(none, 0) == 0


@given(SEEDS)
@settings(max_examples=25, deadline=None)
def test_top_1_per_class_is_recall(seed: int) -> None:
    label, scores = _random_classes(seed)
    metric = TopK(1)
    each = metric.per_class(_contributions(metric, [_classified(s) for s in scores], label), label)
    assert [each[c] for c in range(5)] == pytest.approx(sk.recall_score(label, scores.argmax(1), average=None))


@given(SEEDS)
@settings(max_examples=25, deadline=None)
def test_binary_roc_auc_with_ties_equals_scikit_learn(seed: int) -> None:
    rng = np.random.default_rng(seed)
    label = np.concatenate([[0, 1], rng.integers(0, 2, 40)])
    score = (rng.random(42) + 0.4 * label).round(1)
    expected, metric = sk.roc_auc_score(label, score), RocAuc()
    classified = [_classified(np.array([1 - s, s])) for s in score]
    single: list[Decision] = [Tensors({"anomaly": np.array([s])}) for s in score]
    assert metric.reduce(_contributions(metric, single, label)) == pytest.approx(expected)
    assert metric.reduce(_contributions(metric, list(classified), label)) == pytest.approx(expected)


@pytest.mark.slow
@given(SEEDS)
@settings(max_examples=15, deadline=None)
def test_multi_class_roc_auc_is_one_against_the_rest(seed: int) -> None:
    label, scores = _random_classes(seed)
    metric = RocAuc()
    found = metric.reduce(_contributions(metric, [_classified(s) for s in scores], label))
    assert found == pytest.approx(sk.roc_auc_score(label, scores, multi_class="ovr", average="macro"))


def _sk_eer(same: np.ndarray, score: np.ndarray) -> float:
    false, true, _ = sk.roc_curve(same, score, drop_intermediate=False)
    grid = np.linspace(0, 1, 200_001)
    return float(grid[np.argmin(np.abs(1 - grid - np.interp(grid, false, true)))])


@given(SEEDS)
@settings(max_examples=15, deadline=None)
def test_eer_and_tar_on_scored_pairs(seed: int) -> None:
    rng = np.random.default_rng(seed)
    same = np.concatenate([[0, 1], rng.integers(0, 2, 200)])
    score = rng.normal(same * 1.5, 1.0).round(6)
    decisions: list[Decision] = [Tensors({"score": np.array([s])}) for s in score]
    eer = EqualErrorRate()
    false, true, _ = sk.roc_curve(same, score, drop_intermediate=False)
    # Where the ROC curve is vertical at the crossing the grid has one point there as well.
    assert eer.reduce(_contributions(eer, decisions, same)) == pytest.approx(_sk_eer(same, score), abs=2e-3)
    tar = TrueAcceptRate(0.1)
    assert tar.reduce(_contributions(tar, decisions, same)) == pytest.approx(true[false <= 0.1].max())


def _embeddings(seed: int, people: int = 8, each: int = 4) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    identity = np.repeat(np.arange(people), each)
    centres = rng.normal(size=(people, 16))
    return identity, centres[identity] + 0.8 * rng.normal(size=(identity.size, 16))


@pytest.mark.parametrize("name", ["eer", "tar@far=0.05"])
def test_embeddings_form_all_pairs(name: str, tmp_path: Path) -> None:
    identity, vectors = _embeddings(3)
    metric = make_metric(name, tmp_path)
    decisions: list[Decision] = [Tensors({"embedding": v}) for v in vectors]
    found = metric.reduce(_contributions(metric, decisions, [f"person {i}" for i in identity]))
    unit = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    first, second = np.triu_indices(identity.size, 1)
    score, same = (unit @ unit.T)[first, second], identity[first] == identity[second]
    pairs: list[Decision] = [Tensors({"score": np.array([s])}) for s in score]
    assert found == pytest.approx(metric.reduce(_contributions(metric, pairs, same.astype(int))))


def test_many_embeddings_sample_impostors_but_keep_every_genuine_pair(monkeypatch: pytest.MonkeyPatch) -> None:
    from edgewright.measure.metrics import verification

    identity, vectors = _embeddings(5, people=40, each=5)
    metric = EqualErrorRate()
    found = _contributions(metric, [Tensors({"embedding": v}) for v in vectors], identity)
    exact = metric.reduce(found)
    monkeypatch.setattr(verification, "MOST_PAIRS", 10_000)
    sampled = verification._pairs(found, "eer")
    assert int(sampled.genuine.sum()) == 40 * 10
    assert metric.reduce(found) == pytest.approx(exact, abs=0.02)


@given(SEEDS)
@settings(max_examples=20, deadline=None)
def test_miou_equals_scikit_learn_jaccard(seed: int) -> None:
    rng = np.random.default_rng(seed)
    truth, found = rng.integers(0, 4, (5, 6, 7)), rng.integers(0, 4, (5, 6, 7))
    truth[0, 0, :3] = 255
    metric = MeanIoU()
    contributions = _contributions(metric, [Segmentation(m) for m in found], truth)
    judged = truth != 255
    expected = sk.jaccard_score(truth[judged], found[judged], average=None)
    assert metric.reduce(contributions) == pytest.approx(expected.mean())
    assert list(metric.per_class(contributions, truth).values()) == pytest.approx(expected)


def test_mae_and_cosine() -> None:
    rng = np.random.default_rng(0)
    found, wanted = rng.normal(size=(20, 3)), rng.normal(size=(20, 3))
    decisions: list[Decision] = [Tensors({"y": y}) for y in found]
    mae, cos = MeanAbsoluteError(), Cosine()
    assert mae.reduce(_contributions(mae, decisions, wanted)) == pytest.approx(sk.mean_absolute_error(wanted, found))
    expected = np.diag(sk.pairwise.cosine_similarity(found, wanted)).mean()
    assert cos.reduce(_contributions(cos, decisions, [{"y": w} for w in wanted])) == pytest.approx(expected)


def _example(name: str) -> tuple[list[Decision], Any]:
    rng = np.random.default_rng(7)
    label, scores = _random_classes(7)
    if name in ("eer", "tar@far"):
        same = (label > 2).astype(int)
        return [Tensors({"s": np.array([v])}) for v in rng.normal(same)], same
    if name == "miou":
        masks = rng.integers(0, 3, (60, 4, 4))
        return [Segmentation(m) for m in rng.integers(0, 3, (60, 4, 4))], masks
    if name in ("mae", "cosine"):
        return [Tensors({"y": v}) for v in rng.normal(size=(60, 3))], rng.normal(size=(60, 3))
    return [_classified(s) for s in scores], label


@pytest.mark.parametrize("name", ["top-1", "top-5", "f1", "roc-auc", "eer", "tar@far", "miou", "mae", "cosine"])
def test_weights_equal_repetition(name: str) -> None:
    """A sample drawn three times counts as three samples: what makes the bootstrap right."""
    decisions, labels = _example(name)
    metric: Any = METRICS[name]()
    found = _contributions(metric, decisions, labels)
    weights = np.random.default_rng(1).integers(0, 4, (3, len(found))).astype(float)
    assert isinstance(metric, Resampled)
    repeated = [metric.reduce([c for c, w in zip(found, row, strict=True) for _ in range(int(w))]) for row in weights]
    assert metric.resample(found, weights) == pytest.approx(repeated, abs=1e-12)


@pytest.mark.parametrize("name", ["top-1", "f1", "roc-auc", "miou"])
def test_per_class_metrics_say_so(name: str) -> None:
    assert isinstance(METRICS[name](), PerClass)


def test_lower_is_better_for_errors() -> None:
    lower = {name for name, make in METRICS.items() if not make().higher_is_better}
    assert lower == {"eer", "mae"}


BAD: list[tuple[str, Decision, Any, str]] = [
    ("top-1", Tensors({"y": np.zeros(3)}), 0, "expects a classification, got tensors"),
    ("top-1", Classification((0,), (1.0,)), "cat", "expects a class index as label, got 'cat'"),
    ("top-1", Classification((0,), (1.0,)), None, "expects a class index as label, got None"),
    ("roc-auc", Classification((1,), (1.0,)), 1, "needs the score of every class"),
    ("eer", Classification((0,), (1.0,)), 1, "needs the score of class 1"),
    ("mae", Tensors({"y": np.zeros(3)}), np.zeros(2), "hold 3 values, the label 2"),
    ("mae", Tensors({"y": np.zeros(3)}), {"z": np.zeros(3)}, "names outputs ['z']"),
    ("miou", Segmentation(np.zeros((2, 2))), np.zeros((2, 3)), "the mask is (2, 2), the label (2, 3)"),
    ("map50", Classification((0,), (1.0,)), {}, "expects detections"),
]


@pytest.mark.parametrize(("name", "decision", "label", "message"), BAD)
def test_a_label_or_decision_that_does_not_fit_is_refused(
    name: str, decision: Decision, label: Any, message: str
) -> None:
    with pytest.raises(DataError) as caught:
        METRICS[name]().contribution(decision, label)
    assert message in caught.value.message
    assert caught.value.hint


def test_pairs_of_one_kind_are_refused() -> None:
    with pytest.raises(DataError, match="hold no genuine one"):
        EqualErrorRate().reduce([{"same": 0, "score": 0.5}, {"same": 0, "score": 0.1}])


def _write(folder: Path, name: str, text: str) -> None:
    (folder / f"{name}.py").write_text(text)


def test_own_metric_is_found_beside_the_project(tmp_path: Path) -> None:
    _write(tmp_path, "own_metric_a", "def half(decision, label):\n    return 0.5\nhalf.higher_is_better = False\n")
    metric = make_metric("own_metric_a:half", tmp_path)
    assert metric.contribution(Classification((0,), (1.0,)), 0) == 0.5
    assert metric.name == "own_metric_a:half"
    assert not metric.higher_is_better


@pytest.mark.parametrize(
    ("body", "message"),
    [("return 1 / 0", "raised ZeroDivisionError: division by zero"), ("return float('nan')", "returned nan")],
)
def test_own_metric_that_fails(tmp_path: Path, body: str, message: str) -> None:
    name = f"own_metric_{'z' if '/' in body else 'n'}"
    _write(tmp_path, name, f"def score(decision, label):\n    {body}\n")
    metric = make_metric(f"{name}:score", tmp_path)
    with pytest.raises(MetricFailed, match=message):
        metric.contribution(Classification((0,), (1.0,)), 0)


@pytest.mark.parametrize(
    ("name", "hint"),
    [
        ("top1", 'did you mean "top-1"?'),
        ("zzzz", "metrics: top-1"),
        ("tar@far=2", "tar@far=0.001"),
        ("no_such_module:f", "beside the project file"),
        ("math:pi", "it has"),
    ],
)
def test_unknown_metrics_suggest(name: str, hint: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as caught:
        make_metric(name, tmp_path)
    assert hint in caught.value.hint


def test_parametrised_names(tmp_path: Path) -> None:
    found = make_metrics(["top-3", "tar@far=0.01"], tmp_path)
    assert [m.name for m in found] == ["top-3", "tar@far=0.01"]
    with pytest.raises(ConfigError):
        make_metrics([], tmp_path)
