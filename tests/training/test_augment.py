"""Augmentation of batches."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Generator, Tensor

from edgewright.errors import ConfigError, StepFailed
from edgewright.training.augment import (
    OPERATIONS,
    augmentations,
    crop,
    cutout,
    flip,
    mask_tokens,
    mixup,
    noise,
    shift,
)
from edgewright.training.settings import AUGMENTATIONS, Fit


def drawn(seed: int = 0) -> Generator:
    return Generator().manual_seed(seed)


@pytest.fixture
def images() -> Tensor:
    return torch.arange(64 * 3 * 5 * 7, dtype=torch.float32).view(64, 3, 5, 7) + 1


def test_flip_mirrors_some_samples_along_the_width(images: Tensor) -> None:
    changed = flip(images, drawn())
    mirrored = torch.tensor([torch.equal(a, b.flip(-1)) for a, b in zip(changed, images, strict=True)])
    kept = torch.tensor([torch.equal(a, b) for a, b in zip(changed, images, strict=True)])
    assert (mirrored ^ kept).all()
    assert 10 < int(mirrored.sum()) < 54
    assert torch.equal(flip(images, drawn(), axis=2, share=1.0), images.flip(2))


def test_the_width_of_channels_last_images(images: Tensor) -> None:
    last = images.permute(0, 2, 3, 1)
    assert torch.equal(flip(last, drawn(), share=1.0), last.flip(2))
    assert torch.equal(crop(last, drawn()).permute(0, 3, 1, 2), crop(images, drawn()))


def test_crop_moves_each_image_by_whole_pixels(images: Tensor) -> None:
    changed = crop(images, drawn(), pixels=2)
    seen = set()
    padded = torch.nn.functional.pad(images, (2, 2, 2, 2))
    for index in range(len(images)):
        moves = [
            (y, x)
            for y in range(5)
            for x in range(5)
            if torch.equal(changed[index], padded[index, :, y : y + 5, x : x + 7])
        ]
        assert len(moves) == 1
        seen.update(moves)
    assert len(seen) > 15


def test_shift_moves_along_one_axis() -> None:
    x = torch.arange(1.0, 7.0).repeat(50, 1)
    rows = {tuple(row.tolist()) for row in shift(x, drawn(), steps=1)}
    assert rows == {(1, 2, 3, 4, 5, 6), (0, 1, 2, 3, 4, 5), (2, 3, 4, 5, 6, 0)}


def test_noise_is_as_strong_as_asked() -> None:
    x = torch.randn(64, 100, generator=drawn(3)) * 7
    assert (noise(x, drawn(), scale=0.1) - x).std().item() == pytest.approx(0.7, rel=0.05)


def test_cutout_clears_one_square(images: Tensor) -> None:
    cleared = (cutout(images, drawn(), pixels=3) == 0).all(1)
    counts = cleared.sum((1, 2))
    assert counts.max() == 9
    assert counts.min() >= 4
    assert torch.equal(cutout(images, drawn(), pixels=3)[:, :, ~cleared[0]][0], images[:, :, ~cleared[0]][0])


def test_masked_tokens_keep_padding() -> None:
    ids = torch.tensor([[5, 6, 7, 0, 0, 0]]).repeat(200, 1)
    changed = mask_tokens(ids, drawn(), share=0.5, token=1)
    assert (changed[:, 3:] == 0).all()
    assert changed.dtype == ids.dtype
    assert 0.4 < (changed[:, :3] == 1).float().mean().item() < 0.6
    assert ((changed == ids) | (changed == 1)).all()


def test_every_operation_can_be_asked_for() -> None:
    assert tuple(OPERATIONS) == AUGMENTATIONS
    Fit(augment=({"op": "mine:function"},))
    with pytest.raises(ConfigError, match='augment op = "flop" is not known'):
        Fit(augment=({"op": "flop"},))


def test_tables_are_applied_in_order(blobs: Callable[..., Any]) -> None:
    examples = blobs()
    augment = augmentations(({"op": "flip", "share": 1.0}, {"op": "flip", "share": 1.0, "axis": 2}), examples)
    assert augment is not None
    (changed,) = augment(examples.inputs, drawn())
    assert torch.equal(changed, examples.inputs[0].flip(2, 3))
    assert augmentations((), examples) is None


@pytest.mark.parametrize(
    ("table", "message"),
    [
        ({"op": "flip", "probability": 1}, 'augment "flip" has no probability'),
        ({"op": "flip", "input": 1}, r'augment "flip": input = 1, the model has 1'),
        ({"op": "mask-tokens"}, 'augment "mask-tokens" is for integer token ids'),
        ({"op": "nowhere:function"}, "there is no module 'nowhere'"),
    ],
)
def test_tables_that_do_not_fit(blobs: Callable[..., Any], table: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        augmentations((table,), blobs())


def test_boxes_are_not_moved_away_from_their_image(blobs: Callable[..., Any]) -> None:
    boxes = replace(blobs(4), labels=None, raw_labels=[{"boxes": [[0, 0, 1, 1]], "classes": [0]}] * 4)
    with pytest.raises(ConfigError, match='augment "flip" moves the input, and the labels are more than a class'):
        augmentations(({"op": "flip"},), boxes)
    assert augmentations(({"op": "noise"},), boxes) is not None
    assert augmentations(({"op": "flip"},), replace(boxes, raw_labels=[None] * 4)) is not None


OWN = "def brighter(x, generator, *, by=1.0):\n    return x + by\ndef shorter(x, generator):\n    return x[..., :2]\n"


def test_an_operation_of_ones_own(blobs: Callable[..., Any], tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text(OWN)
    examples = replace(blobs(), root=tmp_path)
    augment = augmentations(({"op": "mine:brighter", "by": 2.0},), examples)
    assert augment is not None
    assert torch.equal(augment(examples.inputs, drawn())[0], examples.inputs[0] + 2)
    wrong = augmentations(({"op": "mine:shorter"},), examples)
    assert wrong is not None
    with pytest.raises(StepFailed, match=r"mine:shorter did not return a tensor \[96, 2, 6, 6\]"):
        wrong(examples.inputs, drawn())


def test_mixup_blends_with_another_sample() -> None:
    x = torch.eye(8).reshape(8, 1, 8)
    mixed = mixup(x, drawn(), share=1.0)
    assert torch.allclose(mixed.sum(-1), torch.ones(8, 1))
    assert (mixed.count_nonzero(dim=-1) <= 2).all()
    assert not torch.equal(mixed, x)
    assert torch.equal(mixup(x, drawn(), share=0.0), x)


def test_a_label_says_nothing_of_a_blend(blobs: Callable[..., Any]) -> None:
    with pytest.raises(ConfigError, match='augment "mixup" blends samples'):
        augmentations(({"op": "mixup"},), blobs())
    unlabelled = replace(blobs(), raw_labels=[None] * len(blobs()), labels=None)
    assert augmentations(({"op": "mixup"},), unlabelled) is not None
