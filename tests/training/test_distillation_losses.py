"""What a student is compared by: nothing is lost where it gives what the teacher gives, and what counts does count."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from edgewright.errors import ConfigError
from edgewright.training.distillation.inside import Projection, attention_map, attention_probabilities, features
from edgewright.training.distillation.outputs import (
    Binary,
    Classes,
    Decoupled,
    DenseDetector,
    OutputLoss,
    Values,
    choose,
    detector,
    kind_of,
)
from edgewright.training.distillation.settings import Comparison, Detector, pair
from edgewright.training.relative import relative_steps

LOSSES = (Classes(4.0, 1), Classes(1.0, 1), Decoupled(4.0, 1), Binary(2.0), Values(0.5), Values(2.0, absolute=True))
seeds = st.integers(0, 2**31)


def _drawn(seed: int, *shape: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed)) * 3


@pytest.mark.parametrize("loss", LOSSES, ids=str)
@settings(max_examples=20, deadline=None)
@given(seed=seeds)
def test_a_loss_is_zero_for_the_same_answer_and_positive_for_another(loss: OutputLoss, seed: int) -> None:
    teacher, other = _drawn(seed, 5, 7), _drawn(seed + 1, 5, 7)
    assert float(loss(teacher, teacher)) == pytest.approx(0.0, abs=1e-4)
    assert float(loss(other, teacher)) > 1e-3


@settings(max_examples=20, deadline=None)
@given(seed=seeds)
def test_class_scores_only_count_up_to_a_constant(seed: int) -> None:
    teacher, student = _drawn(seed, 4, 6), _drawn(seed + 1, 4, 6)
    loss = Classes(3.0, 1)
    assert float(loss(student + 5, teacher)) == pytest.approx(float(loss(student, teacher)), abs=1e-3)


def test_soft_targets_have_the_gradient_of_hinton() -> None:
    """At a high temperature the gradient is that of centred logits: (z - v) / N (Hinton et al. 2015, section 2.1)."""
    teacher, student = _drawn(0, 1, 8), _drawn(1, 1, 8).requires_grad_()
    Classes(1000.0, 1)(student, teacher).backward()  # type: ignore[no-untyped-call]
    centred = [x - x.mean() for x in (student.detach(), teacher)]
    assert student.grad is not None
    torch.testing.assert_close(student.grad, (centred[0] - centred[1]) / 8, rtol=0.02, atol=1e-3)


def _teacher_of_boxes(seed: int, *, objectness: bool) -> Tensor:
    """[8, 400, 4 + objectness + 5]: something at 5 positions of each sample; class scores elsewhere as they come."""
    generator = torch.Generator().manual_seed(seed)
    boxes = torch.randn(8, 400, 4, generator=generator) * 2
    there = torch.full((8, 400, 1), 0.01)
    there[:, :5] = 0.9
    classes = torch.rand(8, 400, 5, generator=generator)
    return torch.cat([boxes, there, classes] if objectness else [boxes, classes * there], 2)


@pytest.mark.parametrize("turned", [False, True])
def test_columns_of_a_detector_are_found(turned: bool) -> None:
    teacher = _teacher_of_boxes(0, objectness=True)
    given = teacher.transpose(1, 2).contiguous() if turned else teacher
    assert kind_of("", given, 0) == "detector"
    found = detector(given, Detector())
    assert found.boxes.tolist() == [0, 1, 2, 3]
    assert found.objectness == 4
    assert found.classes.tolist() == [5, 6, 7, 8, 9]
    assert found.columns == (1 if turned else 2)
    assert float(found(given, given)) == 0


def test_a_detector_without_objectness_goes_by_its_classes() -> None:
    teacher = _teacher_of_boxes(0, objectness=False)
    found = detector(teacher, Detector())
    assert found.objectness is None
    assert found.classes.tolist() == [4, 5, 6, 7, 8]
    assert detector(teacher, Detector(objectness=4, boxes=(0, 4))).objectness == 4


def test_a_detectors_positions_count_as_much_as_something_is_there() -> None:
    teacher = _teacher_of_boxes(1, objectness=True)
    loss: DenseDetector = detector(teacher, Detector())
    wrong = []
    for position in (0, 200):
        student = teacher.clone()
        student[:, position, :4] += 1
        wrong.append(float(loss(student, teacher)))
    assert wrong[0] > 50 * wrong[1] > 0


@pytest.mark.parametrize("turned", [False, True])
def test_the_sensitivity_of_a_detector_is_the_root_of_its_curvature(turned: bool) -> None:
    teacher = _teacher_of_boxes(2, objectness=True).double()
    given = teacher.transpose(1, 2).contiguous() if turned else teacher
    loss = detector(given, Detector())
    there = loss.sensitivity(given).transpose(1, 2) if turned else loss.sensitivity(given)
    total, step = float(teacher[..., 4].sum()), 1e-2
    for column in (4, 7):
        student = teacher.clone()
        student[0, 0, column] += step if column != 4 else -step
        value = float(loss(student.transpose(1, 2) if turned else student, given)) * total
        assert value == pytest.approx(0.5 * float(there[0, 0, column]) ** 2 * step**2, rel=0.1)


class _Folded(nn.Module):
    """A dense detector without batch norm, its channels of different sizes, as folding leaves them."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        layers = nn.Conv2d(3, 16, 3, 2, 1), nn.Conv2d(16, 16, 3, 1, 1, groups=16), nn.Conv2d(16, 16, 1)
        with torch.no_grad():
            for layer in layers:
                layer.weight *= 3 * torch.logspace(-0.5, 0.5, 16)[torch.randperm(16), None, None, None]
        self.body = nn.Sequential(*(each for layer in layers for each in (layer, nn.SiLU())))
        self.end = nn.Conv2d(16, 9, 1)

    def forward(self, x: Tensor) -> Tensor:
        rows = self.end(self.body(x)).flatten(2).transpose(1, 2)
        return torch.cat([rows[..., :4], rows[..., 4:].sigmoid()], 2)


@pytest.mark.parametrize("disturbed", [0.0, 0.05])
def test_a_detector_that_learns_from_itself_stays_or_comes_back(disturbed: float) -> None:
    teacher, student = _Folded().requires_grad_(False), _Folded()
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in student.parameters():
            parameter.mul_(1 + disturbed * torch.randn(parameter.shape, generator=generator))
    x = torch.randn(32, 3, 16, 16, generator=generator)
    loss = detector(teacher(x), Detector(objectness=4, boxes=(0, 4)))
    before = float(loss(student(x), teacher(x)).detach())
    with relative_steps(student):
        optimiser = torch.optim.AdamW(student.parameters(), 1e-3, weight_decay=0.0)
        for rows in torch.randint(32, (150, 4), generator=generator):
            optimiser.zero_grad()
            torch.autograd.backward(loss(student(x[rows]), teacher(x[rows])))
            optimiser.step()
    after = float(loss(student(x), teacher(x)).detach())
    assert after < max(before / 4, 1e-2)


def test_what_an_output_is_follows_from_what_ends_it_and_what_it_holds() -> None:
    scores = _drawn(0, 6, 10)
    assert kind_of("Softmax", scores, 0) == "classes"
    assert kind_of("Sigmoid", scores, 0) == "binary"
    assert kind_of("", scores, 10) == "classes"
    assert kind_of("", scores, 0) == "mse"
    assert isinstance(choose(Comparison(loss="l1"), "", scores, 10), Values)
    maps = choose(Comparison(), "", _drawn(0, 2, 10, 4, 4), 10)
    assert isinstance(maps, Classes)
    assert maps.axis == 1


def test_a_projection_starts_where_least_squares_put_it() -> None:
    student = _drawn(0, 6, 5, 8, 8)
    mixing = _drawn(1, 9, 5)
    teacher = torch.einsum("oc,nchw->nohw", mixing, student) + 2
    projection = Projection((5, 9), 1)
    with torch.no_grad():
        assert float(features(projection(student), teacher)) > 0.5
        projection.start(student, teacher)
        assert float(features(projection(student), teacher)) < 1e-4


def test_attention_maps_do_not_depend_on_channels_or_scale() -> None:
    teacher = _drawn(0, 3, 8, 5, 5)
    assert float(attention_map(teacher[:, [1, 0, *range(2, 8)]] * 7, teacher)) == pytest.approx(0.0, abs=1e-6)
    assert float(attention_map(_drawn(1, 3, 4, 5, 5), teacher)) > 1e-3


def test_attention_of_another_number_of_heads_is_compared_by_their_mean() -> None:
    teacher = torch.softmax(_drawn(0, 2, 4, 6, 6), -1)
    assert float(attention_probabilities(teacher, teacher)) == pytest.approx(0.0, abs=1e-6)
    assert float(attention_probabilities(teacher.mean(1, keepdim=True), teacher)) == pytest.approx(0.0, abs=1e-6)
    assert float(attention_probabilities(teacher.flip(-1), teacher)) > 1e-2


def test_pairs_are_written_with_an_arrow() -> None:
    assert pair("a") == ("a", "a")
    assert pair("a:0 -> b;c") == ("a:0", "b;c")


@pytest.mark.parametrize("field", [{"loss": "soft"}, {"temperature": 0}, {"labels": -1}, {"logits": 0}])
def test_what_cannot_be_meant_is_refused(field: dict[str, object]) -> None:
    with pytest.raises(ConfigError) as caught:
        Comparison(**field)  # type: ignore[arg-type]
    assert caught.value.hint
