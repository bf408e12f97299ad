"""`edgewright measure` and `edgewright lab` from the command line, on this machine as the device."""

from __future__ import annotations

import json
import os
import stat
import subprocess
import sys
import zipfile
from importlib.metadata import distribution
from pathlib import Path

import numpy as np
import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from edgewright.core.codec import encode_json
from edgewright.core.target import Artifact
from edgewright.core.tensors import TensorSpec
from edgewright.runtimes.null import MAGIC

FAKE_ADB = """#!/bin/sh
# adb -s SERIAL shell -T SCRIPT, on this machine
[ "$1 $3 $4" = "-s shell -T" ] || exit 64
[ "$2" = "PHONE1" ] || { echo "error: device '$2' not found" >&2; exit 1; }
exec sh -c "$5"
"""


def _edgewright(*arguments: str, **env: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "edgewright.cli", *arguments]
    return subprocess.run(command, capture_output=True, text=True, env={**os.environ, **env}, check=False)


@pytest.fixture
def null(tmp_path: Path) -> Path:
    """An artifact that computes nothing, and takes no time to open."""
    folder = tmp_path / "artifact"
    folder.mkdir()
    (folder / "model.null").write_bytes(MAGIC + b"0" * 64)
    inputs, outputs = (TensorSpec("x", "float32", ("n", 2)),), (TensorSpec("y", "float32", ("n", 3)),)
    made = Artifact("null", "null", "0.1.0", ">=0", ("model.null",), inputs, outputs, "float32")
    (folder / "artifact.json").write_bytes(encode_json(made))
    return folder


@pytest.mark.slow
def test_a_lab_of_two_devices_measures_a_bundle(classifier_bundle: Path, tmp_path: Path) -> None:
    bin_folder = tmp_path / "bin"
    bin_folder.mkdir()
    (bin_folder / "adb").write_text(FAKE_ADB)
    (bin_folder / "adb").chmod(stat.S_IRWXU)
    lab = tmp_path / "lab.toml"
    lab.write_text(
        f'[[devices]]\nname = "here"\naddress = "local"\nroot = "{tmp_path / "here"}"\nlabels = ["all"]\n'
        f'[[devices]]\nname = "phone"\naddress = "adb://PHONE1"\nroot = "{tmp_path / "phone"}"\nlabels = ["all"]\n'
        f'python = "{sys.executable}"\n[[devices]]\nname = "gone"\naddress = "adb://PHONE2"\n'
    )
    env = {"PATH": f"{bin_folder}:{os.environ['PATH']}"}
    page = tmp_path / "page.html"
    options = ("--lab", str(lab), "--label", "all", "--device", "gone", "--html", str(page), "--json")
    done = _edgewright("measure", str(classifier_bundle), *options, **env)
    assert done.returncode == 4, done.stderr
    (failed,) = json.loads(done.stdout)["failed"]
    assert (failed["device"], failed["error"]) == ("gone", "ConnectionLost")  # the others are measured all the same
    found = {each["device"]["name"]: each for each in json.loads(done.stdout)["measured"]}
    assert set(found) == {"here", "phone"}
    for each in found.values():
        assert each["golden"]
        assert all(check["difference"] == 0 for check in each["golden"])
        assert each["timing"]["latency_ms"]["p50"] > 0
        assert each["timing"]["conditions"]["rounds"] == 10
        assert each["timing"]["conditions"]["note"] == "timed alone"
        assert each["samples"] == "golden inputs of the bundle"
    text = page.read_text()
    assert "phone" in text
    assert "golden decisions as recorded" in text
    shown = _edgewright("lab", "show", "--lab", str(lab), "--json", **env)
    answers = {each["name"]: each for each in json.loads(shown.stdout)["devices"]}
    assert [answers[name]["answers"] for name in ("here", "phone", "gone")] == [True, True, False]
    assert "device 'PHONE2' not found" in answers["gone"]["told"] + answers["gone"]["hint"]


@pytest.mark.slow
def test_what_cannot_be_measured_is_said_before_anything_is_sent(null: Path, tmp_path: Path) -> None:
    nothing = tmp_path / "nothing"
    nothing.mkdir()
    root = f"local?root={tmp_path / 'device'}"
    done = _edgewright("measure", str(nothing), "--device", root, "--json")
    assert (done.returncode, json.loads(done.stdout)["failed"][0]["error"]) == (2, "UsageError")
    assert "there is no artifact to measure" in done.stderr
    text = (null / "artifact.json").read_text().replace('">=0"', '">=99"')
    (null / "artifact.json").write_text(text)
    done = _edgewright("measure", str(null), "--device", root)
    assert done.returncode == 3
    assert "is installed on local, the artifact needs >=99" in done.stderr
    assert not (tmp_path / "device" / "store").exists()


@pytest.mark.slow
def test_a_device_without_edgewright_is_told_how_to_get_it(null: Path, tmp_path: Path) -> None:
    python = tmp_path / "python"
    python.write_text(f'#!/bin/sh\nexec {sys.executable} -S -I "$@"\n')
    python.chmod(stat.S_IRWXU)
    done = _edgewright("measure", str(null), "--device", f"local?python={python}")
    assert done.returncode == 3
    assert "has no Edgewright" in done.stderr
    assert "--send" in done.stderr


def _wheel_of(name: str, folder: Path) -> Path:
    """Makes a wheel of what is installed here, so that the test needs no index."""
    found = distribution(name)
    tags = [line[5:] for line in (found.read_text("WHEEL") or "").splitlines() if line.startswith("Tag: ")]
    tag = next(each for each in tags if not each.startswith("py2-"))
    path = folder / f"{found.metadata['Name'].replace('-', '_')}-{found.version}-{tag}.whl"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as archive:
        for file in found.files or ():
            kept = file.parts[0] != ".." and "__pycache__" not in file.parts and file.suffix != ".pyc"
            if kept and "tests" not in file.parts and Path(str(found.locate_file(file))).is_file():
                archive.write(str(found.locate_file(file)), str(file))
    return path


def _needed(name: str) -> set[str]:
    """Returns a distribution and everything it requires here."""
    found, todo = set[str](), [name]
    while todo:
        one = canonicalize_name(todo.pop())
        if one not in found:
            found.add(one)
            asked = [Requirement(text) for text in distribution(one).requires or ()]
            todo += [each.name for each in asked if each.marker is None or each.marker.evaluate({"extra": ""})]
    return found


@pytest.mark.prove
def test_an_environment_is_sent_to_a_device_that_has_python_alone(null: Path, tmp_path: Path) -> None:
    wheels, bare = tmp_path / "wheels", tmp_path / "bare"
    wheels.mkdir()
    for name in {*_needed("edgewright"), "pip"} - {"edgewright"}:
        _wheel_of(name, wheels)
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(bare)], check=True)
    root = tmp_path / "device"
    named = f"local?python={bare / 'bin' / 'python'}&root={root}"
    sent = _edgewright("measure", str(null), "--device", named, "--wheels", str(wheels), "--json")
    assert sent.returncode == 0, sent.stderr
    assert "edgewright 0.1.0" in sent.stderr
    (environment,) = (root / "envs").iterdir()
    assert (root / "env").resolve() == environment.resolve()
    inside = [str(environment / "bin" / "python"), "-c", "import numpy; print(numpy.__version__, numpy.__file__)"]
    version, file = subprocess.run(inside, capture_output=True, text=True, check=True).stdout.split()
    assert version == np.__version__
    assert file.startswith(str(environment))
    assert json.loads(sent.stdout)["measured"][0]["runtime"] == "null 0.1.0"
