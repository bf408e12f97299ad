"""Samples to train on: where they may overlap, and labels that are not there."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest

from edgewright.data import check_data, data_spec, open_spec
from edgewright.data.opened import Data
from edgewright.errors import DataError

JUDGING = {"tune": {"rows": "20:60"}, "test": {"rows": "60:100"}}


@pytest.fixture
def root(tmp_path: Path) -> Path:
    x = np.random.default_rng(0).integers(0, 255, (100, 4, 4), np.uint8)
    np.savez(tmp_path / "a.npz", x=x, y=np.arange(100) % 10)
    np.savez(tmp_path / "b.npz", x=x[30:50], y=np.arange(20) % 10)
    return tmp_path


def opened(root: Path, **splits: dict[str, str]) -> Data:
    return open_spec(data_spec(root, {"reader": "npz", "path": "a.npz", **JUDGING, **splits}))


def test_training_samples_may_calibrate(root: Path) -> None:
    data = opened(root, calibration={"rows": "0:10"}, train={"rows": "0:20"}, unlabelled={"rows": "5:20"})
    assert data.splits == ("calibration", "tune", "test", "train", "unlabelled")
    assert check_data(data) == ()


@pytest.mark.parametrize("name", ["train", "unlabelled"])
@pytest.mark.parametrize("judge", ["tune", "test"])
def test_what_judges_is_not_trained_on(root: Path, name: str, judge: str) -> None:
    rows = {"tune": "10:21", "test": "99:100"}[judge]
    with pytest.raises(DataError, match=f"the splits {judge} and {name} share 1 sample"):
        check_data(opened(root, calibration={"rows": "0:10"}, **{name: {"rows": rows}}))


def test_nor_are_copies_of_it(root: Path) -> None:
    with pytest.raises(DataError, match=r"the splits tune and train share 20 sample\(s\): the same content"):
        check_data(opened(root, calibration={"rows": "0:10"}, train={"path": "b.npz"}))


def test_unlabelled_samples_have_no_labels(root: Path) -> None:
    data = opened(root, train={"rows": "0:10"}, unlabelled={"rows": "10:20"})
    assert data.has_labels("train")
    assert not data.has_labels("unlabelled")
    assert {sample.label for sample in data.dataset("unlabelled")} == {None}
    assert [sample.label for sample in data.dataset("train")] == list(range(10))


def test_their_folders_are_no_classes(tmp_path: Path) -> None:
    for split, names in (("train", ("cat", "dog")), ("unlabelled", ("monday", "tuesday", "friday"))):
        for name in names:
            folder = tmp_path / split / name
            folder.mkdir(parents=True)
            cv2.imwrite(str(folder / "a.png"), np.zeros((4, 4, 3), np.uint8))
    splits = {name: {"path": name} for name in ("train", "unlabelled")}
    assert open_spec(data_spec(tmp_path, {"reader": "images", **splits})).labels == ("cat", "dog")
