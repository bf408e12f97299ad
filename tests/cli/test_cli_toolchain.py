"""`edgewright toolchain` as a user calls it."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from edgewright.cli.main import main

Run = Callable[..., tuple[int, str, str]]
LINE = "edgewright toolchain install tensorflow"


@pytest.fixture
def edgewright(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Callable[..., tuple[int, str, str]]:
    """Runs a command line in this process, with a cache of its own; returns exit code, output, errors."""
    monkeypatch.setenv("EDGEWRIGHT_CACHE", str(tmp_path / "cache"))

    def run(*arguments: str | Path) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["edgewright", *map(str, arguments)])
        with pytest.raises(SystemExit) as ended:
            main()
        said = capsys.readouterr()
        return int(ended.value.code or 0), said.out, said.err

    return run


def test_a_list_says_what_is_missing_and_how_to_get_it(edgewright: Run, tmp_path: Path) -> None:
    code, out, _ = edgewright("toolchain", "list", "--json")
    assert code == 0
    (row,) = (row for row in json.loads(out) if row["toolchain"] == "tensorflow")
    assert (row["state"], row["install"], row["folder"], row["versions"]) == ("absent", LINE, None, {})
    assert LINE in edgewright("toolchain", "list")[1]
    assert not list(tmp_path.iterdir()), "looking makes nothing"


@pytest.mark.parametrize("suffix", ["keras", "h5"])
def test_a_keras_file_without_the_toolchain_costs_nothing(edgewright: Run, tmp_path: Path, suffix: str) -> None:
    model = tmp_path / f"model.{suffix}"
    model.write_bytes(b"anything")
    code, _, errors = edgewright("apply", model, "--pass", "clean-up", "-o", tmp_path / "out")
    assert code == 3
    assert errors.splitlines() == [
        "error: step keras needs the toolchain tensorflow, which is not installed here",
        f"  fix: {LINE}",
    ]
    assert not (tmp_path / "out").exists()


def test_a_saved_model_is_known_by_its_file(edgewright: Run, tmp_path: Path) -> None:
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "saved_model.pb").write_bytes(b"")
    code, out, _ = edgewright("inspect", tmp_path / "model", "--json")
    assert code == 3
    assert json.loads(out)["hint"] == LINE


def test_a_wrong_name_and_nothing_to_remove(edgewright: Run) -> None:
    code, _, errors = edgewright("toolchain", "install", "tensorflw")
    assert code == 2
    assert 'did you mean "tensorflow"?' in errors
    code, out, _ = edgewright("toolchain", "remove", "tensorflow", "--json")
    assert (code, json.loads(out)) == (0, {"toolchain": "tensorflow", "removed": False})
