"""The catalogue of students: names, shapes, sizes, and what fits between which tensors."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from edgewright.core.tensors import TensorSpec
from edgewright.errors import ConfigError
from edgewright.report.distilled import catalogue_markdown
from edgewright.training.students import interface as seams
from edgewright.training.students.catalogue import FAMILIES, build, find, fitting, listed
from edgewright.training.students.figures import figures, figures_of
from edgewright.training.students.interface import Interface
from edgewright.training.students.layers import halvings


def between(taken: tuple[int | str, ...], *given: int | str, ending: str = "", vocabulary: int = 0) -> Interface:
    dtype = "int64" if vocabulary else "float32"
    output = TensorSpec("y", "float32", (taken[0], *given))
    return Interface((TensorSpec("x", dtype, taken),), (output,), ending, vocabulary, 0 if vocabulary else None)


def parameters_of(name: str) -> int:
    student = find(name)
    with torch.device("meta"):
        return sum(parameter.numel() for parameter in build(student, student.family.example).parameters())


def shape_of(name: str, interface: Interface, batch: int = 2) -> tuple[int, ...]:
    network = build(find(name), interface)
    spec = interface.inputs[0]
    x = torch.ones((batch, *(int(size) for size in spec.shape[1:])), dtype=getattr(torch, spec.dtype))
    with torch.no_grad():
        return tuple(network(x).shape)


@pytest.mark.parametrize("family", ["mobilenetv3", "efficientnet-lite", "resnet8", "resnet18", "ds-cnn"])
@pytest.mark.parametrize("taken", [("n", 1, 28, 28), ("n", 32, 40, 3), (1, 3, 9, 64)], ids=str)
def test_classifiers_take_images_in_either_layout(family: str, taken: tuple[int | str, ...]) -> None:
    assert shape_of(f"{family}-0.1", between(taken, 7)) == (2, 7)


@pytest.mark.parametrize("family", ["tcn", "crnn"])
@pytest.mark.parametrize(
    "taken", [("n", 49, 10, 1), ("n", 1, 10, 49), ("n", 10, 40), ("n", 60, 8), ("n", 800), ("n", 1, 900)], ids=str
)
def test_series_in_every_layout(family: str, taken: tuple[int | str, ...]) -> None:
    assert shape_of(f"{family}-0.25", between(taken, 5)) == (2, 5)


@pytest.mark.parametrize("family", ["tcn", "crnn"])
def test_one_decision_per_time_step(family: str) -> None:
    assert shape_of(f"{family}-0.25", between(("n", 40, 8), 20, 5)) == (2, 20, 5)
    first = Interface((TensorSpec("x", "float32", ("n", 40, 8)),), (TensorSpec("y", "float32", (40, "n", 5)),))
    assert shape_of(f"{family}-0.25", first) == (40, 2, 5)


def test_transformer_of_tokens() -> None:
    texts = between(("n", 12), 4, vocabulary=50)
    assert shape_of("tiny-transformer-0.25", texts) == (2, 4)
    assert shape_of("tiny-transformer-0.25", between(("n", 12), 12, 4, vocabulary=50)) == (2, 12, 4)


def test_padding_says_nothing_to_a_transformer() -> None:
    network = build(find("tiny-transformer-0.25"), between(("n", 12), 4, vocabulary=50))
    ids = torch.tensor([[3, 7, 9, *[0] * 9]])
    with torch.no_grad():
        before = network(ids)
        network.get_parameter("table.weight")[0] += 5.0
        assert torch.allclose(network(ids), before, atol=1e-5)
        assert not torch.allclose(network(ids.roll(1, 1)), before, atol=1e-5)


def test_a_mask_among_the_inputs_is_used() -> None:
    texts = between(("n", 6), 4, vocabulary=50)
    masked = replace(texts, inputs=(*texts.inputs, TensorSpec("mask", "int64", ("n", 6))), padding=None)
    network = build(find("tiny-transformer-0.25"), masked)
    ids, mask = torch.tensor([[3, 7, 9, 1, 1, 1]]), torch.tensor([[1, 1, 1, 0, 0, 0]])
    other = torch.tensor([[3, 7, 9, 4, 5, 6]])
    with torch.no_grad():
        assert torch.allclose(network(ids, mask), network(other, mask), atol=1e-5)
        assert not torch.allclose(network(ids, mask), network(other, torch.ones_like(mask)), atol=1e-5)


def test_detector_gives_points_of_three_maps() -> None:
    side, points = 64, 64 + 16 + 4
    detector = between((1, 3, side, side), points, 5 + 3, ending="Sigmoid")
    assert shape_of("yolox-0.25", detector) == (2, points, 8)
    with torch.no_grad():
        found = build(find("yolox-0.25"), detector)(torch.rand(1, 3, side, side))
    assert float(found[..., 4].max()) < 0.05, "a fresh detector sees background"
    assert shape_of("yolox-0.25", replace(detector, inputs=(TensorSpec("x", "float32", (1, side, side, 3)),)))


@pytest.mark.parametrize(
    ("taken", "gives"),
    [((1, 3, 64, 48), (5, 64, 48)), ((1, 64, 48, 3), (64, 48, 5)), ((1, 3, 64, 64), (5, 16, 16))],
    ids=str,
)
def test_segmenter_gives_the_teachers_map(taken: tuple[int, ...], gives: tuple[int, ...]) -> None:
    assert shape_of("deeplab-0.25", between(taken, *gives, ending="Softmax")) == (2, *gives)


@pytest.mark.parametrize("ending", ["Softmax", "Sigmoid", "LogSoftmax"])
def test_ends_as_the_teacher_ends(ending: str) -> None:
    network = build(find("resnet8-0.25"), between(("n", 1, 12, 12), 5, ending=ending))
    with torch.no_grad():
        found = network(torch.rand(3, 1, 12, 12))
    sums = {"Softmax": found, "LogSoftmax": found.exp()}
    if ending in sums:
        assert torch.allclose(sums[ending].sum(1), torch.ones(3))
    else:
        assert ((found > 0) & (found < 1)).all()


@pytest.mark.parametrize(
    ("name", "parameters"), [("mobilenetv3", 2_542_856), ("mobilenetv3-large", 5_483_032), ("resnet18", 11_689_512)]
)
def test_sizes_are_those_of_the_published_networks(name: str, parameters: int) -> None:
    assert parameters_of(name) == parameters


@pytest.mark.sample(6)
@pytest.mark.parametrize("family", [family.name for family in FAMILIES])
def test_narrower_is_smaller(family: str) -> None:
    assert parameters_of(f"{family}-0.25") < parameters_of(f"{family}-0.5") < parameters_of(family)


def test_multiply_accumulates_of_a_published_network() -> None:
    """ResNet-8 by hand: three stages of two convolutions of 3 x 3, on maps of 16, 8 and 4."""
    stem, head = 256 * 27 * 16, 64 * 10
    first = 2 * 256 * 9 * 16 * 16
    second = 64 * (9 * 16 * 32 + 9 * 32 * 32 + 16 * 32)
    third = 16 * (9 * 32 * 64 + 9 * 64 * 64 + 32 * 64)
    assert figures_of(find("resnet8")).macs == stem + first + second + third + head


def test_the_same_seed_gives_the_same_weights() -> None:
    image = between(("n", 1, 12, 12), 5)
    one, same, other = (build(find("resnet8-0.25"), image, seed) for seed in (1, 1, 2))
    assert all(torch.equal(a, b) for a, b in zip(one.parameters(), same.parameters(), strict=True))
    assert any(not torch.equal(a, b) for a, b in zip(one.parameters(), other.parameters(), strict=True))


@pytest.mark.parametrize(
    ("name", "hint"),
    [
        ("mobilnetv3-0.5", '"mobilenetv3-0.5"'),
        ("resnet-8", '"resnet8-8"'),
        ("vit", "resnet8"),
        ("resnet8-0", "width from"),
        ("resnet8-900", "width from"),
    ],
)
def test_unknown_students_are_told_the_near_one(name: str, hint: str) -> None:
    with pytest.raises(ConfigError) as error:
        find(name)
    assert hint in error.value.hint


def test_names() -> None:
    assert find("mobilenetv3-large-0.5").name == "mobilenetv3-large-0.5"
    assert find("ds-cnn").width == 1.0
    assert listed("mobilenetv3-0.5")
    assert not any(map(listed, ("net:make", "small.onnx", "folder/model", "every-second-layer", "layers")))


def test_what_does_not_fit_names_what_does() -> None:
    with pytest.raises(ConfigError, match="takes tokens") as error:
        build(find("tiny-transformer"), between(("n", 3, 32, 32), 10))
    assert "mobilenetv3" in error.value.hint
    assert "yolox" not in error.value.hint
    two = replace(between(("n", 3, 32, 32), 10), outputs=(TensorSpec("a", "float32", ("n", 2)),) * 2)
    with pytest.raises(ConfigError, match="gives classes") as error:
        build(find("resnet8"), two)
    assert "module:factory" in error.value.hint


def test_detectors_and_segmenters_are_told_apart_from_classifiers() -> None:
    names = {f.name for f in fitting(between((1, 3, 64, 64), 84, 8))}
    assert names == {"yolox"}
    assert {f.name for f in fitting(between((1, 3, 64, 64), 4, 64, 64))} == {"deeplab"}
    assert {f.name for f in fitting(between(("n", 49, 10, 1), 12))} >= {"ds-cnn", "tcn", "crnn"}


@pytest.mark.parametrize(
    ("shape", "picture"),
    [
        (("n", 3, 224, 200), seams.Picture(3, 224, 200)),
        (("n", 224, 200, 3), seams.Picture(3, 224, 200, last=True)),
        (("n", 49, 10, 1), seams.Picture(1, 49, 10, last=True)),
        (("n", 1, 28, 28), seams.Picture(1, 28, 28)),
        (("n", 49, 10), seams.Picture(1, 49, 10)),
    ],
    ids=str,
)
def test_layout_of_images(shape: tuple[int | str, ...], picture: seams.Picture) -> None:
    assert seams.picture(between(shape, 5)) == picture


def test_images_of_open_size_are_no_pictures() -> None:
    assert seams.picture(between(("n", 3, "h", "w"), 5)) is None


@given(st.integers(1, 2000), st.integers(1, 7))
def test_no_map_is_halved_below_three(side: int, places: int) -> None:
    strides = halvings(side, places)
    assert len(strides) == places
    left = side
    for stride in strides:
        left = -(-left // stride)
    assert left >= min(side, 3)
    assert sum(stride == 2 for stride in strides) == places or -(-left // 2) < 3
    assert strides[0] == 2 or strides == (1,) * places


@pytest.mark.slow
def test_the_documented_catalogue_is_this_one() -> None:
    page = (Path(__file__).parents[2] / "docs" / "how-to" / "students.md").read_text()
    assert catalogue_markdown(figures()) in page, "write the table of docs/how-to/students.md anew"
    assert all(f"| `{family.name}` | {family.takes} |" in page for family in FAMILIES)
