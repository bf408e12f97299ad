import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from edgewright.core.codec import encode_json
from edgewright.core.digest import Digest
from edgewright.store.cache import Cache

START = "import sys; from edgewright.cli.main import main; main()"


def edgewright(*arguments: object, cache: Path) -> "subprocess.CompletedProcess[str]":
    command = [sys.executable, "-c", START, *map(str, arguments)]
    environment = {"EDGEWRIGHT_CACHE": str(cache), "PATH": "/usr/bin:/bin"}
    return subprocess.run(command, capture_output=True, text=True, env=environment, check=False)


def put_in_cache(tiny: Any, cache: Cache) -> None:
    for digest, folder in tiny.folders.items():
        place = cache.output_path(Digest(digest))
        place.parent.mkdir(parents=True)
        place.symlink_to(folder)


@pytest.mark.slow
def test_pack_and_verify(classifier: Any, tmp_path: Path) -> None:
    cache = tmp_path / "cache"
    put_in_cache(classifier, Cache(cache))
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "study.json").write_bytes(encode_json(classifier.study))
    packed = edgewright("pack", tmp_path / "out", "--json", cache=cache)
    assert packed.returncode == 0, packed.stderr
    [made] = json.loads(packed.stdout)["bundles"]
    assert made["bundle"].endswith("out/tiny-model-onnxruntime.ewb")
    verified = edgewright("verify", made["bundle"], "--json", cache=cache)
    assert verified.returncode == 0, verified.stderr
    found = json.loads(verified.stdout)
    assert found["ok"]
    assert len(found["pairs"]) == 4
    told = edgewright("verify", made["bundle"], cache=cache)
    assert "ok   inputs/0003.npy: difference 0, allowed 0.001" in told.stdout


def damaged(bundle: Path, out: Path, kind: str) -> Path:
    data = bytearray(bundle.read_bytes())
    if kind == "truncated":
        data = data[: len(data) // 2]
    elif kind == "flipped":
        data[len(data) // 3] ^= 0x40
    if kind != "missing":
        out.write_bytes(data)
    return out


@pytest.mark.sample(4)
@pytest.mark.parametrize("verb", ["verify", "run"])
@pytest.mark.parametrize(("kind", "code"), [("missing", 2), ("truncated", 5), ("flipped", 5)])
def test_bad_bundles(classifier_bundle: Path, tmp_path: Path, verb: str, kind: str, code: int) -> None:
    bundle = damaged(classifier_bundle, tmp_path / "b.ewb", kind)
    more = ["--source", tmp_path] if verb == "run" else []
    done = edgewright(verb, bundle, *more, "--json", cache=tmp_path / "cache")
    assert done.returncode == code, done.stderr
    assert "error:" in done.stderr
    assert "fix:" in done.stderr
    assert json.loads(done.stdout)["exit"] == code
    assert "Traceback" not in done.stderr


@pytest.mark.sample(2)
@pytest.mark.parametrize("verb", ["verify", "run"])
def test_a_missing_runtime_names_its_install_line(classifier: Any, tmp_path: Path, verb: str) -> None:
    from dataclasses import replace

    from edgewright.core.target import Artifact
    from edgewright.runtimes import load_artifact

    folders = dict(classifier.folders)
    artifact = classifier.study.best("onnxruntime").evidence["artifact"]
    moved = tmp_path / "artifact"
    moved.mkdir()
    described: Artifact = load_artifact(folders[artifact])
    (moved / "model.onnx").write_bytes((folders[artifact] / "model.onnx").read_bytes())
    (moved / "artifact.json").write_bytes(encode_json(replace(described, runtime_range=">=99")))
    bundle = type(classifier)(classifier.study, {**folders, artifact: moved}).pack(tmp_path)
    (tmp_path / "in.txt").write_text("x")
    more = ["--source", tmp_path / "in.txt"] if verb == "run" else []
    done = edgewright(verb, bundle, *more, cache=tmp_path / "cache")
    assert done.returncode == 3, done.stderr
    assert 'pip install "onnxruntime>=99"' in done.stderr


@pytest.mark.sample(3)
@pytest.mark.parametrize(("content", "code"), [(None, 2), ("not json", 5), ('{"schema": 1}', 5)])
def test_pack_without_a_study(tmp_path: Path, content: str | None, code: int) -> None:
    if content is not None:
        (tmp_path / "study.json").write_text(content)
    done = edgewright("pack", tmp_path, cache=tmp_path / "cache")
    assert done.returncode == code, done.stderr
    assert "fix:" in done.stderr
