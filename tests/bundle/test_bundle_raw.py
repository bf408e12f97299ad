from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgewright.bundle.raw import read_raw, suffix_of, write_raw
from edgewright.errors import DataError


@pytest.mark.parametrize(
    ("value", "name"),
    [
        (b"\xff\xd8\xff rest", "s.jpg"),
        (b"\x89PNG rest", "s.png"),
        (b"RIFF\0\0\0\0WAVE", "s.wav"),
        (b"unknown", "s.bin"),
        ("größe", "s.txt"),
        (np.arange(6, dtype=np.int16).reshape(2, 3), "s.npy"),
        (np.float32(1.5), "s.npy"),
        ({"a": "text", "b": np.array([1, 2], np.int8)}, "s.json"),
    ],
)
def test_values_come_back(tmp_path: Path, value: Any, name: str) -> None:
    assert write_raw(value, tmp_path, "s") == name
    found = read_raw(tmp_path / name)
    if isinstance(value, dict):
        assert found["a"] == value["a"]
        found, value = found["b"], value["b"]
    assert np.array_equal(found, value)
    assert getattr(found, "dtype", None) == getattr(value, "dtype", None)


def test_a_pair_of_pictures_comes_back(tmp_path: Path) -> None:
    pair = {"a": b"\xff\xd8\xff one", "b": b"\x89PNG two"}
    assert read_raw(tmp_path / write_raw(pair, tmp_path, "s")) == pair


def test_a_path_is_read_as_bytes(tmp_path: Path) -> None:
    (tmp_path / "in.png").write_bytes(b"\x89PNG")
    assert write_raw(tmp_path / "in.png", tmp_path, "s") == "s.png"


def test_objects_are_refused_both_ways(tmp_path: Path) -> None:
    for value in (object(), {"a": object()}, {"a": np.array([{}], dtype=object)}):
        with pytest.raises(DataError, match="cannot be stored"):
            write_raw(value, tmp_path, "s")
    np.save(tmp_path / "evil.npy", np.array([{}], dtype=object), allow_pickle=True)
    with pytest.raises(DataError, match=r"evil\.npy"):
        read_raw(tmp_path / "evil.npy")


@pytest.mark.parametrize("name", ["missing.npy", "missing.png", "list.json", "half.json", "latin.txt"])
def test_unreadable_files_are_named(tmp_path: Path, name: str) -> None:
    (tmp_path / "list.json").write_text("[1]")
    (tmp_path / "half.json").write_text('{"a": {"base64": "!"}}')
    (tmp_path / "latin.txt").write_bytes(b"\xff\xfe\xfa")
    with pytest.raises(DataError, match=name):
        read_raw(tmp_path / name)


def test_webp_is_not_taken_for_sound() -> None:
    assert suffix_of(b"RIFF\0\0\0\0WEBPVP8 ") == ".webp"
