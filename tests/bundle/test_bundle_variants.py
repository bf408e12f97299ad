"""One artifact per kind of machine: packed, chosen, verified."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgewright.bundle import archive, open_bundle, pack, verify
from edgewright.bundle import open as opening
from edgewright.bundle.decide import open_decider
from edgewright.core.codec import decode_stored, encode_json
from edgewright.core.digest import digest_bytes
from edgewright.core.measurement import Device
from edgewright.core.target import Artifact
from edgewright.core.variant import VNNI, Choice, Condition
from edgewright.errors import Corrupt, UsageError

ON_VNNI = Condition(("x86_64",), VNNI)
ON_ARM = Condition(("aarch64",))
DEVICES = {
    "x86-vnni": Device("d", "x86_64", "", 1, ("avx2", "avx512_vnni"), 0, ""),
    "arm": Device("d", "arm64", "", 1, ("asimd",), 0, ""),
    "default": Device("d", "x86_64", "", 1, ("avx2",), 0, ""),
}
VNNI_ON_WINDOWS = Device("d", "AMD64", "", 1, ("avx2", "avx_vnni"), 0, "")


@pytest.fixture(scope="session")
def family(classifier: Any, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """The tiny classifier, and the same with other weights for VNNI and for ARM (there with a session option)."""
    root = tmp_path_factory.mktemp("family")
    winner = classifier.study.best("onnxruntime")
    folders, candidates = dict(classifier.folders), [winner]
    artifact, golden = (classifier.folders[winner.evidence[name]] for name in ("artifact", "golden"))
    other = root / "artifact"
    shutil.copytree(artifact, other)
    _negate(other / "model.onnx")
    decisions = root / "golden"
    shutil.copytree(golden, decisions)
    _decide_anew(decisions, other)
    evidence = {"artifact": digest_bytes(b"other"), "golden": digest_bytes(b"other golden")}
    folders |= {evidence["artifact"]: other, evidence["golden"]: decisions}
    candidates.append(replace(winner, id="onnxruntime/other", artifact=evidence["artifact"], evidence=evidence))
    choices = (
        Choice("x86-vnni", "onnxruntime/other", ON_VNNI, why="no saturation there"),
        Choice("arm", "onnxruntime/other", ON_ARM, {"session.set_denormal_as_zero": "1"}),
        Choice("any", winner.id),
    )
    study = replace(classifier.study, candidates=tuple(candidates), variants={"onnxruntime": choices})
    return replace(classifier, study=study, folders=folders)


def _negate(model: Path) -> None:
    import onnx
    from onnx import numpy_helper

    loaded = onnx.load(model)
    weights = loaded.graph.initializer[0]
    weights.CopyFrom(numpy_helper.from_array(-numpy_helper.to_array(weights), weights.name))
    onnx.save(loaded, model)


def _decide_anew(golden: Path, artifact: Path) -> None:
    from edgewright.bundle.decide import decider
    from edgewright.bundle.raw import read_raw
    from edgewright.core.bundle import PipelineSpec
    from edgewright.core.decision import decision_to_json
    from edgewright.runtimes import open_runner

    pairs = json.loads((golden / "golden.json").read_text())
    spec = decode_stored(PipelineSpec, (golden / "pipeline.json").read_bytes())
    with open_runner(artifact) as runner:
        decide = decider(spec, golden, runner)
        for pair in pairs:
            pair["decision"] = decision_to_json(decide(read_raw(golden / pair["input"])))
    (golden / "golden.json").write_text(json.dumps(pairs))


@pytest.fixture(scope="session")
def family_bundle(family: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path: Path = family.pack(tmp_path_factory.mktemp("packed"))
    return path


@pytest.fixture
def on(monkeypatch: pytest.MonkeyPatch) -> Callable[[Device], None]:
    return lambda device: monkeypatch.setattr(opening, "local_device", lambda: device)


@pytest.mark.parametrize("name", list(DEVICES))
def test_the_device_picks_its_variant_and_proves_that_one(
    family_bundle: Path, tmp_path: Path, on: Callable[[Device], None], name: str
) -> None:
    on(DEVICES[name])
    bundle = open_bundle(family_bundle, tmp_path)
    assert bundle.runs == name
    with open_decider(bundle) as decide:
        scores = decide(np.array([1.0, 2.0, 3.0, 4.0])).scores  # type: ignore[union-attr]
    with open_decider(open_bundle(family_bundle, tmp_path, variant="default")) as decide:
        default = decide(np.array([1.0, 2.0, 3.0, 4.0])).scores  # type: ignore[union-attr]
    assert (scores == default) == (name == "default")
    report = verify(family_bundle, tmp_path)
    assert report.ok
    assert (report.variant, len(report.pairs)) == (name, 4)
    assert report.variants == {
        "x86-vnni": "x86_64 with avx512_vnni or avx_vnni",
        "arm": "aarch64",
        "default": "any other machine",
    }


def test_other_names_of_architectures_count(family_bundle: Path, tmp_path: Path, on: Callable[[Device], None]) -> None:
    on(VNNI_ON_WINDOWS)
    assert open_bundle(family_bundle, tmp_path).runs == "x86-vnni"


def test_one_candidate_is_packed_once_with_two_session_options(family_bundle: Path, tmp_path: Path) -> None:
    bundle = open_bundle(family_bundle, tmp_path, variant="arm")
    vnni, arm = bundle.manifest.variants
    assert vnni.artifact == arm.artifact == "variants/x86-vnni"
    assert (dict(vnni.session), dict(arm.session)) == ({}, {"session.set_denormal_as_zero": "1"})
    assert bundle.golden.file == "golden/x86-vnni.json"
    assert sum(name.endswith("model.onnx") for name in bundle.manifest.files) == 2
    assert "no saturation there" in (bundle.folder / "model-card.md").read_text()


def test_session_options_of_the_variant_reach_the_runtime(
    family_bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from edgewright.runtimes import onnxruntime

    seen: list[dict[str, str]] = []
    real = onnxruntime.session_options

    def recorded(ort: Any, entries: dict[str, str], threads: int) -> Any:
        seen.append(entries)
        return real(ort, entries, threads)

    monkeypatch.setattr(onnxruntime, "session_options", recorded)
    for name in ("arm", "x86-vnni"):
        with open_bundle(family_bundle, tmp_path, variant=name).open_runner():
            pass
    assert seen == [{"session.set_denormal_as_zero": "1"}, {}]


def test_a_bundle_made_before_there_were_variants_is_read(classifier_bundle: Path, tmp_path: Path) -> None:
    opened = archive.read_contents(classifier_bundle)
    contents: dict[str, Any] = {name: b"".join(opened.chunks(entry)) for name, entry in opened.entries.items()}
    described = json.loads(contents["manifest.json"])
    del described["variants"], described["session"]
    contents["manifest.json"] = json.dumps(described).encode()
    archive.write(tmp_path / "old.ewb", contents)
    report = verify(tmp_path / "old.ewb", tmp_path / "cache")
    assert report.ok
    assert (report.variant, report.variants) == ("default", {"default": "any machine"})


def test_damage_in_a_variant_that_does_not_run_here_is_noticed(
    family_bundle: Path, tmp_path: Path, on: Callable[[Device], None]
) -> None:
    on(DEVICES["default"])
    good = family_bundle.read_bytes()
    for name, entry in archive.read_contents(family_bundle).entries.items():
        if name.startswith("variants/") or name == "golden/x86-vnni.json":
            damaged = bytearray(good)
            damaged[entry.offset + 30 + len(name) + entry.size // 2] ^= 0x10
            (tmp_path / "d.ewb").write_bytes(damaged)
            with pytest.raises(Corrupt):
                verify(tmp_path / "d.ewb", tmp_path / "cache")


def test_a_variant_with_other_tensors_is_refused(family: Any, family_bundle: Path, tmp_path: Path) -> None:
    opened = archive.read_contents(family_bundle)
    contents: dict[str, Any] = {name: b"".join(opened.chunks(entry)) for name, entry in opened.entries.items()}
    described, manifest = (json.loads(contents[n]) for n in ("variants/x86-vnni/artifact.json", "manifest.json"))
    described["inputs"][0]["shape"] = ["batch", 5]
    changed = json.dumps(described).encode()
    size, digest = archive.digest_content(changed)
    manifest["files"]["variants/x86-vnni/artifact.json"] = {"size": size, "digest": digest}
    contents |= {"variants/x86-vnni/artifact.json": changed, "manifest.json": json.dumps(manifest).encode()}
    archive.write(tmp_path / "m.ewb", contents)
    with pytest.raises(Corrupt, match="other tensors"):
        verify(tmp_path / "m.ewb", tmp_path / "cache")
    moved = tmp_path / "artifact"
    other = family.study.candidate("onnxruntime/other").artifact
    shutil.copytree(family.folders[other], moved)
    made = decode_stored(Artifact, (moved / "artifact.json").read_bytes())
    (moved / "artifact.json").write_bytes(encode_json(replace(made, outputs=made.inputs)))
    with pytest.raises(UsageError, match="other tensors"):
        replace(family, folders={**family.folders, other: moved}).pack(tmp_path)


def test_golden_inputs_must_be_the_same(family: Any, tmp_path: Path) -> None:
    moved, golden = tmp_path / "golden", family.study.candidate("onnxruntime/other").evidence["golden"]
    shutil.copytree(family.folders[golden], moved)
    np.save(moved / "inputs" / "0001.npy", np.zeros(4))
    with pytest.raises(UsageError, match="golden inputs of variant x86-vnni"):
        replace(family, folders={**family.folders, golden: moved}).pack(tmp_path)


@pytest.mark.parametrize(
    "choices",
    [
        (Choice("x86-vnni", "onnxruntime/other", ON_VNNI),),
        (Choice("a", "onnxruntime/other", ON_VNNI), Choice("a", "onnxruntime/other", ON_ARM), Choice("b", "x")),
        (Choice("default", "onnxruntime/other", ON_VNNI), Choice("b", "x")),
        (Choice("../x", "onnxruntime/other", ON_VNNI), Choice("b", "x")),
    ],
)
def test_variants_that_cannot_be_told_apart_are_refused(family: Any, tmp_path: Path, choices: Any) -> None:
    study = replace(family.study, variants={"onnxruntime": choices})
    with pytest.raises(UsageError, match="the variants of target"):
        pack(study, "onnxruntime", family.files, tmp_path)


def test_no_such_variant(family_bundle: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r'no variant is called "gpu"') as caught:
        open_bundle(family_bundle, tmp_path, variant="gpu")
    assert caught.value.hint == "it carries default, x86-vnni, arm"
