"""Losses between outputs and labels."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from edgewright.errors import DataError
from edgewright.training.examples import NO_LABEL
from edgewright.training.losses import binary_cross_entropy, check_classes, cross_entropy, mean_squared_error


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_samples_without_labels_do_not_count(smoothing: float) -> None:
    logits, labels = torch.randn(6, 4), torch.tensor([0, 1, NO_LABEL, 3, NO_LABEL, 2])
    kept = labels != NO_LABEL
    expected = F.cross_entropy(logits[kept], labels[kept], label_smoothing=smoothing)
    torch.testing.assert_close(cross_entropy(logits, labels, smoothing), expected)
    nothing = cross_entropy(logits.requires_grad_(), torch.full((6,), NO_LABEL), smoothing)
    nothing.backward()
    assert nothing.item() == 0
    assert logits.grad is not None
    assert not logits.grad.any()


def test_positions_have_classes_of_their_own() -> None:
    logits, labels = torch.randn(2, 3, 4, 5), torch.randint(0, 3, (2, 4, 5))
    torch.testing.assert_close(cross_entropy(logits, labels), F.cross_entropy(logits, labels))


def test_half_precision_is_summed_in_full() -> None:
    logits, labels = torch.randn(4, 3, dtype=torch.bfloat16), torch.tensor([0, 1, 2, 0])
    assert cross_entropy(logits, labels).dtype == torch.float32


def test_shapes_agree_but_for_axes_of_one() -> None:
    values = torch.tensor([[0.5], [2.0]])
    assert mean_squared_error(values, torch.tensor([0.0, 2.0])).item() == pytest.approx(0.125)
    expected = F.binary_cross_entropy_with_logits(values[:, 0], torch.tensor([0.0, 1.0]))
    torch.testing.assert_close(binary_cross_entropy(values, torch.tensor([0, 1])), expected)


def test_classes_that_the_model_does_not_have() -> None:
    check_classes(torch.tensor([0, 2, NO_LABEL]), 3)
    with pytest.raises(DataError, match=r"a label is 3 \(plane\), and the model tells 3 classes apart"):
        check_classes(torch.tensor([0, 3]), 3, ["car", "ship", "bus", "plane"])
