"""Samples for training: prepared once, from any split, in memory-mapped files."""

from __future__ import annotations

import errno
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from edgewright.core.tensors import TensorSpec
from edgewright.data import data_spec, save_spec
from edgewright.errors import ConfigError, DataError, OutOfSpace
from edgewright.training.examples import NO_LABEL, load_examples, split_of

IMAGE = TensorSpec("image", "float32", (1, 4, 4))
SCALED = ({"op": "normalise", "scale": 0.5},)


def data_file(folder: Path, labels: Any, inputs: tuple[TensorSpec, ...] = (IMAGE,), **splits: dict[str, Any]) -> Path:
    images = np.random.default_rng(0).normal(size=(40, 4, 4)).astype(np.float32)
    np.savez(folder / "a.npz", image=images, ids=np.arange(40), y=labels)
    rows = {"calibration": "0:10", "tune": "10:20", "test": "20:30", "train": "30:40"}
    given = splits or {name: {"rows": rows[name]} for name in rows}
    value = "image" if len(inputs) == 1 else [t.name for t in inputs]
    table = {"reader": "npz", "path": "a.npz", "value": value, **given}
    save_spec(data_spec(folder, table, SCALED if len(inputs) == 1 else (), inputs=inputs), folder / "data.json")
    return folder / "data.json"


def test_samples_are_prepared_in_order(tmp_path: Path) -> None:
    data = data_file(tmp_path, np.arange(40) % 7)
    examples = load_examples(data, (IMAGE,), ["train", "calibration"], None, tmp_path / "kept")
    images = np.load(tmp_path / "a.npz")["image"]
    np.testing.assert_allclose(examples.inputs[0].numpy(), np.concatenate([images[30:], images[:10]]) * 0.5)
    assert examples.labels is not None
    assert examples.labels.tolist() == [*(np.arange(30, 40) % 7), *(np.arange(10) % 7)]
    assert examples.raw_labels == examples.labels.tolist()
    assert (len(examples), examples.labelled, examples.root) == (20, True, tmp_path)
    assert (tmp_path / "kept" / "input-0.npy").stat().st_size > 20 * 64
    part = examples.subset(torch.tensor([3, 0]))
    assert torch.equal(part.inputs[0], examples.inputs[0][[3, 0]])
    assert part.raw_labels == [33 % 7, 30 % 7]


def test_a_limit_is_spread_over_the_split_without_reading_the_rest(tmp_path: Path, monkeypatch: Any) -> None:
    from edgewright.data.npz import _NpzSource

    read: list[int] = []
    value = _NpzSource._value
    monkeypatch.setattr(_NpzSource, "_value", lambda self, row: read.append(row) or value(self, row))
    data = data_file(tmp_path, np.arange(40), train={"rows": ":"})
    examples = load_examples(data, (IMAGE,), ["train"], 4, tmp_path / "kept")
    assert examples.raw_labels == [0, 10, 20, 30]
    assert read == [0, 10, 20, 30]


@pytest.mark.parametrize(
    ("labels", "expected"),
    [
        (np.arange(40) * 0.5, torch.float32),
        (np.zeros((40, 3), np.float32), torch.float32),
        (np.zeros((40, 2, 2), np.int32), torch.int64),
    ],
)
def test_labels_that_are_no_classes(tmp_path: Path, labels: Any, expected: torch.dtype) -> None:
    examples = load_examples(data_file(tmp_path, labels), (IMAGE,), ["train"], None, tmp_path)
    assert examples.labels is not None
    assert examples.labels.dtype == expected
    assert examples.labels.shape == (10, *labels.shape[1:])


def test_unlabelled_samples_beside_labelled_ones(tmp_path: Path) -> None:
    splits = {"train": {"rows": "0:3"}, "unlabelled": {"rows": "3:5"}}
    examples = load_examples(
        data_file(tmp_path, np.arange(40), **splits), (IMAGE,), ["train", "unlabelled"], None, tmp_path
    )
    assert examples.labels is not None
    assert examples.labels.tolist() == [0, 1, 2, NO_LABEL, NO_LABEL]
    assert examples.raw_labels == [0, 1, 2, None, None]


def test_several_inputs_in_the_order_of_the_model(tmp_path: Path) -> None:
    inputs = (TensorSpec("ids", "int64", ("batch",)), TensorSpec("image", "float32", ("batch", 4, 4)))
    examples = load_examples(data_file(tmp_path, np.arange(40), inputs), inputs, ["train"], None, tmp_path)
    assert [(t.dtype, tuple(t.shape)) for t in examples.inputs] == [
        (torch.int64, (10,)),
        (torch.float32, (10, 4, 4)),
    ]


def test_which_split_is_learnt_from(tmp_path: Path) -> None:
    data = data_file(tmp_path, np.arange(40))
    assert split_of(data, "") == "train"
    assert split_of(data, "calibration") == "calibration"
    with pytest.raises(ConfigError, match=r'split = "test": its samples judge the result'):
        split_of(data, "test")
    with pytest.raises(ConfigError, match='there is no split "unlabelled"'):
        split_of(data, "unlabelled")
    assert split_of(data_file(tmp_path, np.arange(40), calibration={"rows": "0:9"}), "") == "calibration"


def test_samples_of_different_sizes_are_refused(tmp_path: Path) -> None:
    module = tmp_path / "sizes.py"
    module.write_text(
        "import numpy as np\ndef samples():\n    return [(np.zeros((4, n), np.float32), 0) for n in (4, 4, 5, 5)]\n"
    )
    split = {"reader": "function", "function": "sizes:samples"}
    wide = TensorSpec("image", "float32", ("batch", 4, "width"))
    save_spec(data_spec(tmp_path, {"train": split}, inputs=(wide,)), tmp_path / "data.json")
    with pytest.raises(DataError, match=r"sample 2: image is \[4, 5\], the samples before it \[4, 4\]"):
        load_examples(tmp_path / "data.json", (wide,), ["train"], None, tmp_path)


def test_a_full_disk_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[int] = []

    def full(descriptor: int, start: int, size: int) -> None:
        asked.append(size)
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "posix_fallocate", full)
    with pytest.raises(OutOfSpace):
        load_examples(data_file(tmp_path, np.arange(40)), (IMAGE,), ["train"], None, tmp_path / "kept")
    assert asked[0] >= 10 * 16 * 4
