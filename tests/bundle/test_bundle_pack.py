import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from edgewright.bundle import archive, open_bundle, pack, verify
from edgewright.bundle.packing import file_name
from edgewright.core.codec import encode_json
from edgewright.errors import Corrupt, EdgewrightError, ToolchainMissing, UsageError


def rewrite(source: Path, out: Path, changes: dict[str, bytes | None], manifest: Any = None) -> Path:
    """Writes a bundle in the right format with other contents, as an attacker would; fixes nothing else."""
    opened = archive.read_contents(source)
    contents: dict[str, Any] = {name: b"".join(opened.chunks(entry)) for name, entry in opened.entries.items()}
    for name, data in changes.items():
        contents.pop(name, None)
        if data is not None:
            contents[name] = data
    if manifest is not None:
        described = json.loads(contents["manifest.json"])
        manifest(described)
        contents["manifest.json"] = json.dumps(described).encode()
    archive.write(out, contents)
    return out


def test_packing_twice_gives_the_same_bytes_wherever_the_files_lie(classifier: Any, tmp_path: Path) -> None:
    one = classifier.pack(tmp_path / "one")
    moved = {d: Path(shutil.copytree(f, tmp_path / f"moved{i}")) for i, (d, f) in enumerate(classifier.folders.items())}
    (next(iter(moved.values())) / "log.txt").write_text("not part of the artifact")
    two = type(classifier)(classifier.study, moved).pack(tmp_path / "two")
    assert one.name == "tiny-model-onnxruntime.ewb"
    assert one.read_bytes() == two.read_bytes()


def test_the_bundle_holds_what_a_device_and_an_auditor_need(classifier_bundle: Path, tmp_path: Path) -> None:
    bundle = open_bundle(classifier_bundle, tmp_path)
    manifest = bundle.manifest
    assert set(manifest.files) == {
        "artifact/artifact.json",
        "artifact/model.onnx",
        "golden/golden.json",
        *(f"golden/inputs/{i:04d}.npy" for i in range(4)),
        "resources/notes.json",
        "model-card.md",
        "sbom.cdx.json",
    }
    assert manifest.pipeline.labels == ("no", "yes", "maybe")
    assert manifest.runtime.range == ">=1.20,<2"
    assert manifest.met
    assert manifest.measurement is not None
    assert manifest.lineage[0].tools == {"onnx": "1.20.0"}
    assert len(bundle.golden_pairs()) == 4


def test_the_model_card_says_what_is_known_and_marks_what_is_not(classifier_bundle: Path, tmp_path: Path) -> None:
    card = (open_bundle(classifier_bundle, tmp_path).folder / "model-card.md").read_text()
    for text in (
        "# tiny model for onnxruntime",
        "| top-1 | 0.9 | 0.87 to 0.93 | 450 | -0.002 | -0.01 to +0.006 |",
        "Some \\| Processor",
        "not measured: absent",
        "The calibration set has 20 samples.",
        "`clean-up` version 1 with onnx 1.20.0",
        "The artifact meets its budget.",
    ):
        assert text in card
    assert card.count("**To be filled in** by the owner") == 3


def test_the_sbom_can_be_read_back(classifier_bundle: Path, tmp_path: Path) -> None:
    from cyclonedx.model.bom import Bom

    found = json.loads((open_bundle(classifier_bundle, tmp_path).folder / "sbom.cdx.json").read_text())
    read = Bom.from_json(found)  # type: ignore[attr-defined]
    files = {part.name: part.hashes[0].content for part in read.metadata.component.components}
    manifest = open_bundle(classifier_bundle, tmp_path).manifest
    assert files["artifact/model.onnx"] == manifest.files["artifact/model.onnx"].digest.removeprefix("sha256:")
    assert found["metadata"]["component"]["type"] == "machine-learning-model"
    assert {c["name"] for c in found["components"]} == {"onnxruntime"}
    assert {c["name"] for c in found["metadata"]["tools"]["components"]} == {"edgewright", "onnx"}
    assert found["serialNumber"].startswith("urn:uuid:")


def test_verify_re_runs_every_golden_pair(classifier_bundle: Path, detector_bundle: Path, tmp_path: Path) -> None:
    for path, count in ((classifier_bundle, 4), (detector_bundle, 2)):
        report = verify(path, tmp_path)
        assert report.ok
        assert [pair.difference for pair in report.pairs] == [pytest.approx(0, abs=1e-6)] * count
        report.require()


def test_a_decision_that_changed_is_reported(classifier_bundle: Path, tmp_path: Path) -> None:
    opened = archive.read_contents(classifier_bundle)
    pairs = json.loads(b"".join(opened.chunks(opened.entries["golden/golden.json"])))
    pairs[2]["decision"]["scores"][0] -= 0.1
    changed = json.dumps(pairs).encode()
    size, digest = archive.digest_content(changed)

    def amend(manifest: Any) -> None:
        manifest["files"]["golden/golden.json"] = {"size": size, "digest": digest}

    path = rewrite(classifier_bundle, tmp_path / "c.ewb", {"golden/golden.json": changed}, amend)
    report = verify(path, tmp_path / "cache")
    assert [pair.ok for pair in report.pairs] == [True, True, False, True]
    with pytest.raises(Corrupt, match=r"1 of 4 golden pairs differ.*0002\.npy"):
        report.require()


def test_a_flipped_byte_in_any_file_is_noticed(classifier_bundle: Path, tmp_path: Path) -> None:
    good = classifier_bundle.read_bytes()
    open_bundle(classifier_bundle, tmp_path / "cache")  # an intact unpacked copy must not hide the damage
    for name, entry in archive.read_contents(classifier_bundle).entries.items():
        damaged = bytearray(good)
        damaged[entry.offset + 30 + len(name) + entry.size // 2] ^= 0x10
        (tmp_path / "d.ewb").write_bytes(damaged)
        with pytest.raises(Corrupt, match=r"d\.ewb"):
            open_bundle(tmp_path / "d.ewb", tmp_path / "cache")


def test_a_changed_file_with_a_right_checksum_is_noticed(classifier_bundle: Path, tmp_path: Path) -> None:
    opened = archive.read_contents(classifier_bundle)
    for number, (name, entry) in enumerate(opened.entries.items()):
        data = b"".join(opened.chunks(entry))
        same_size = bytes([data[0] ^ 1]) + data[1:]
        for variant in (same_size, data + b" ", None):
            path = rewrite(classifier_bundle, tmp_path / f"{number}.ewb", {name: variant})
            if name == "manifest.json" and variant == data + b" ":
                continue  # a blank after the manifest changes nothing that it says
            with pytest.raises(Corrupt):
                open_bundle(path, tmp_path / "cache")
    assert not (tmp_path / "cache").exists() or not list((tmp_path / "cache").iterdir())


def test_an_unknown_file_is_refused(classifier_bundle: Path, tmp_path: Path) -> None:
    path = rewrite(classifier_bundle, tmp_path / "u.ewb", {"artifact/extra.py": b"import os"})
    with pytest.raises(Corrupt, match=r"holds artifact/extra\.py, which its manifest does not know"):
        open_bundle(path, tmp_path / "cache")


@pytest.mark.parametrize(
    ("change", "error", "text"),
    [
        (lambda m: m.update(schema=99), UsageError, "newer Edgewright"),
        (lambda m: m.update(schema="1"), Corrupt, "schema '1'"),
        (lambda m: m.pop("runtime"), Corrupt, "cannot be read"),
        (lambda m: m.update(artifact="../../etc"), Corrupt, "refers to"),
        (lambda m: m["golden"].update(file="/etc/passwd"), Corrupt, "refers to /etc/passwd"),
        (lambda m: m["pipeline"]["resources"].update(x="../x"), Corrupt, "refers to"),
        (
            lambda m: m["pipeline"]["preprocess"].append({"op": "tokenise", "file": "../../secret.json"}),
            Corrupt,
            "reads '../../secret.json'",
        ),
        (lambda m: m["pipeline"]["preprocess"].append({"op": "exec"}), EdgewrightError, "exec"),
    ],
)
def test_a_manifest_that_lies_is_refused(
    classifier_bundle: Path, tmp_path: Path, change: Any, error: type[EdgewrightError], text: str
) -> None:
    path = rewrite(classifier_bundle, tmp_path / "m.ewb", {}, change)
    with pytest.raises(error, match=text):
        open_bundle(path, tmp_path / "cache")
    assert not (tmp_path / "cache").exists()


def test_golden_inputs_outside_the_bundle_are_refused(classifier_bundle: Path, tmp_path: Path) -> None:
    data = encode_json([{"input": "../../../etc/passwd", "decision": {}, "tolerance": 1.0}] * 4)
    size, digest = archive.digest_content(data)

    def amend(manifest: Any) -> None:
        manifest["files"]["golden/golden.json"] = {"size": size, "digest": digest}

    path = rewrite(classifier_bundle, tmp_path / "g.ewb", {"golden/golden.json": data}, amend)
    with pytest.raises(Corrupt, match="not in the bundle"):
        verify(path, tmp_path / "cache")


@pytest.mark.parametrize(
    ("runtime", "text"),
    [
        ({"name": "onnxruntime", "range": ">=99"}, "onnxruntime .* is installed, but the bundle needs >=99"),
        ({"name": "imaginary"}, 'no runtime is called "imaginary"'),
    ],
)
def test_a_runtime_that_does_not_fit_is_a_missing_toolchain(
    classifier_bundle: Path, tmp_path: Path, runtime: dict[str, str], text: str
) -> None:
    path = rewrite(classifier_bundle, tmp_path / "r.ewb", {}, lambda m: m["runtime"].update(runtime))
    for attempt in (verify, lambda p, c: open_bundle(p, c).open_runner().__enter__()):
        with pytest.raises(ToolchainMissing, match=text):
            attempt(path, tmp_path / "cache")


def test_a_damaged_unpacked_copy_is_made_anew(classifier_bundle: Path, tmp_path: Path) -> None:
    bundle = open_bundle(classifier_bundle, tmp_path)
    (bundle.artifact / "model.onnx").write_bytes(b"damaged")
    (bundle.folder / "stray").write_text("x")
    again = open_bundle(classifier_bundle, tmp_path)
    assert again.folder == bundle.folder
    assert not (again.folder / "stray").exists()
    assert verify(classifier_bundle, tmp_path).ok
    assert [p.name for p in tmp_path.iterdir()] == [bundle.folder.name]


def test_packing_says_what_is_missing(classifier: Any, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match='no winner for target "tpu"'):
        pack(classifier.study, "tpu", classifier.files, tmp_path)
    gone = dict.fromkeys(classifier.folders, tmp_path / "gone")
    with pytest.raises(UsageError, match="no longer in the store"):
        type(classifier)(classifier.study, gone).pack(tmp_path)
    winner = replace(classifier.study.candidates[0], artifact=None, error="it broke")
    broken = replace(classifier.study, candidates=(winner,), reference=winner)
    with pytest.raises(UsageError, match="has no artifact: it broke"):
        type(classifier)(broken, classifier.folders).pack(tmp_path)
    assert not list(tmp_path.iterdir())


def test_names_become_file_names() -> None:
    assert file_name("my project/../x") == "my-project-..-x"
    assert file_name("../..") == "model"


def test_no_bundle_there(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no such bundle"):
        verify(tmp_path / "none.ewb")
