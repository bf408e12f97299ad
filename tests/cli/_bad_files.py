"""Cases of bad input to the other verbs: bundles, models, the cache."""

from __future__ import annotations

import importlib.util
import os
import shutil
import sys
from pathlib import Path
from types import ModuleType
from typing import Any


def load(name: str) -> ModuleType:
    """Returns a module beside this one, loaded once: pytest's importlib mode puts no folder on the path."""
    known = f"bad_input{name}"
    if known not in sys.modules:
        spec = importlib.util.spec_from_file_location(known, Path(__file__).with_name(f"{name}.py"))
        assert spec is not None
        assert spec.loader is not None
        sys.modules[known] = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(sys.modules[known])
    return sys.modules[known]


scenes = load("_scene")
case = scenes.case

# Bundles --------------------------------------------------------------------------------------------------------


@case(5, r"b\.ewb: .*(end|truncated|cut|directory)", "fetch the bundle again")
def truncated_bundle(scene: Any) -> list[str]:
    path = scene.bundle()
    path.write_bytes(path.read_bytes()[:-700])
    return ["verify", str(path)]


@case(5, r"b\.ewb: .*damaged|expected sha256", "fetch the bundle again")
def flipped_byte_in_a_bundle(scene: Any) -> list[str]:
    path = scene.bundle()
    content = bytearray(path.read_bytes())
    content[len(content) // 3] ^= 1
    path.write_bytes(content)
    return ["run", str(path), "--source", str(scene.folder)]


@case(5, r"b\.ewb: ", "fetch the bundle again")
def garbage_for_a_bundle(scene: Any) -> list[str]:
    (scene.folder / "b.ewb").write_bytes(b"PK" + bytes(range(256)) * 20)
    return ["verify", str(scene.folder / "b.ewb")]


@case(2, r"nowhere\.ewb", "path")
def missing_bundle(scene: Any) -> list[str]:
    return ["verify", str(scene.folder / "nowhere.ewb")]


@case(2, r"nowhere", "folder|path|source")
def run_on_a_missing_source(scene: Any) -> list[str]:
    return ["run", str(scene.bundle()), "--source", str(scene.folder / "nowhere"), "--output", "out.jsonl"]


@case(2, r"cannot|no .*(file|image|sound)|holds", "")
def run_on_an_empty_folder(scene: Any) -> list[str]:
    (scene.folder / "empty").mkdir()
    return ["run", str(scene.bundle()), "--source", str(scene.folder / "empty"), "--output", "out.jsonl"]


@case(2, r"study\.json: no such study", "edgewright optimize")
def pack_without_a_study(scene: Any) -> list[str]:
    return ["pack", str(scene.folder)]


@case(5, r"study\.json: not a study", "edgewright optimize")
def pack_of_a_damaged_study(scene: Any) -> list[str]:
    (scene.folder / "study.json").write_text('{"schema": 1}')
    return ["pack", str(scene.folder)]


@case(2, r'no winner for target "openvino"', "targets with a winner: onnxruntime")
def pack_for_another_target(scene: Any) -> list[str]:
    study = scene.finished / "edgewright-out" / "study.json"
    return ["pack", shutil.copy(study, scene.folder), "--target", "openvino"]


@case(2, r"no longer in the store", "edgewright optimize")
def pack_after_the_cache_was_emptied(scene: Any) -> list[str]:
    return ["pack", shutil.copy(scene.finished / "edgewright-out" / "study.json", scene.folder)]


# Other verbs ----------------------------------------------------------------------------------------------------


@case(2, r'"logit"', "logits")
def merge_with_an_unknown_output(scene: Any) -> list[str]:
    model = str(scene.folder / "model.onnx")
    return ["merge", model, model, "--connect", "logit:image", "-o", str(scene.folder / "joined.onnx")]


@case(2, r'"imag"', "image")
def merge_with_an_unknown_input(scene: Any) -> list[str]:
    model = str(scene.folder / "model.onnx")
    return ["merge", model, model, "--connect", "logits:imag", "-o", str(scene.folder / "joined.onnx")]


@case(2, r"logits.*image|image.*logits", "")
def merge_of_tensors_that_do_not_fit(scene: Any) -> list[str]:
    model = str(scene.folder / "model.onnx")
    return ["merge", model, model, "--connect", "logits:image", "-o", str(scene.folder / "joined.onnx")]


@case(2, r'connection "logits" is not output:input', "--connect")
def merge_with_a_malformed_connection(scene: Any) -> list[str]:
    model = str(scene.folder / "model.onnx")
    return ["merge", model, model, "--connect", "logits", "-o", str(scene.folder / "joined.onnx")]


@case(5, r"model\.onnx: not a complete ONNX|an ONNX model without", "another format")
def inspect_garbage(scene: Any) -> list[str]:
    (scene.folder / "model.onnx").write_bytes(os.urandom(3000))
    return ["inspect", str(scene.folder / "model.onnx"), "--html", str(scene.folder / "page.html")]


@case(2, r"nowhere\.onnx", "path")
def inspect_a_missing_model(scene: Any) -> list[str]:
    return ["inspect", str(scene.folder / "nowhere.onnx")]


@case(2, r"notes\.txt: neither \.onnx, \.tflite, \.keras, \.h5 nor a SavedModel", "rename")
def inspect_another_kind_of_file(scene: Any) -> list[str]:
    (scene.folder / "notes.txt").write_text("no model")
    return ["inspect", str(scene.folder / "notes.txt")]


@case(2, r"--max-size 'lots' is not a size", "500MB")
def cache_size_that_is_none(scene: Any) -> list[str]:
    return ["cache", "gc", "--max-size", "lots"]
