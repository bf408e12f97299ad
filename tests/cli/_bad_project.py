"""Cases of bad input to `optimize`: project file, data, model, metrics, machine."""

from __future__ import annotations

import importlib.util
import os
import pickle
import re
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import onnx

Arrays = dict[str, np.ndarray]


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
case, toml_case, npz_case = scenes.case, scenes.toml_case, scenes.npz_case
Case, CASES = scenes.Case, scenes.CASES

# The project file -----------------------------------------------------------------------------------------------

toml_case("toml_syntax", "[model]", "[model", r"edgewright\.toml: not valid TOML: .*line 6", "correct the line")
toml_case("unknown_key", "quality_drop", "quality_dorp", r'budget: unknown key "quality_dorp"', 'mean "quality_drop"')
toml_case("wrong_type", "[search]", '[search]\nthreads = "two"', r"search\.threads: expected array, got str", "correct")
toml_case(
    "wrong_choice", "[search]", '[search]\nobjective = "speed"', r"\[search\]: objective = 'speed'", "one of latency"
)
toml_case("newer_schema", "schema = 1", "schema = 2", r"schema 2", "reads schema 1; install a newer")
toml_case("missing_table", '[model]\nsource = "model.onnx"', "", r"missing key model", "correct")
toml_case(
    "unset_variable", '"digits.npz"', '"${NOBODY_SETS_THIS}/x.npz"', r"\$\{NOBODY_SETS_THIS\} is not set", "export"
)
toml_case("unknown_target", '"onnxruntime"', '"onnxruntim"', r'no "onnxruntim" among the targets', '"onnxruntime"')
toml_case("unknown_target_field", '"onnxruntime"', '"onnxruntime"\nstrikt = true', r'unknown key "strikt"', '"strict"')
toml_case(
    "unknown_pass",
    "[[targets]]",
    '[[recipes]]\ntitle = "own"\npasses = [{ name = "static-int" }]\n[[targets]]',
    r'no "static-int" among the passes',
    '"static-int8"',
)
toml_case("unknown_rung", '"float"', '"flaot"', r'\[search\] ladder: unknown key "flaot"', '"float"')
toml_case("no_threads", "[search]", "[search]\nthreads = [0]", r"threads = \[0\]", "1 or larger")
toml_case("budget_nan", "0.02", "nan", r"quality_drop = nan can never be judged", "give a number")
toml_case("budget_negative", "quality_drop = 0.02", "latency_ms = -1.0", r"latency_ms = -1", "0 or larger")
toml_case("budget_in_points", "0.02", "1.0", r"quality_drop = 1 allows everything", "quality_drop = 0.01")
toml_case("seed_negative", "schema = 1", "schema = 1\nseed = -1", r"seed = -1", "0 or larger")
TWICE = '"onnxruntime"\n[[targets]]\nname = "onnxruntime"'
toml_case("target_twice", '"onnxruntime"', TWICE, r'label "onnxruntime" is given twice', "of its own")
toml_case("unknown_metric", '"top-1"', '"topp-1"', r'unknown metric "topp-1"', 'mean "top-1"')
toml_case("unknown_reader", '"npz"', '"npzz"', r"npzz", '"npz"')
toml_case(
    "unknown_preprocess",
    "[[postpro",
    '[[preprocess]]\nop = "resiz"\n[[postpro',
    r'preprocess\[0\].*"resiz"',
    '"resize"',
)
toml_case("unknown_postprocess", '"softmax"', '"softmx"', r'postprocess\[0\].*"softmx"', '"softmax"')
toml_case("unknown_op_field", "k = 3", "kk = 3", r'postprocess\[1\] "top-k": unknown key "kk"', '"k"')
toml_case(
    "no_tune_split", "[data.tune]", "[data.tuning]", r'no split "tune"', r"rename \[data\.tuning\] to \[data\.tune\]"
)
toml_case("no_test_split", '[data.test]\nrows = "1200:1500"', "", r'no split "test"', r"\[data\.test\]")
toml_case(
    "output_is_a_file", "[[targets]]", '[output]\nfolder = "model.onnx"\n[[targets]]', r"model\.onnx", "folder|path"
)
toml_case("unknown_reference", "[search]", '[search]\nreference = "ort"', r'no "ort" among the targets', "")


@case(2, "no targets", "onnxruntime")
def no_target(scene: Any) -> None:
    scene.edit('[[targets]]\nname = "onnxruntime"', "")
    scene.edit("schema = 1", "schema = 1\ntargets = []")


@case(2, r"no project file at .*nowhere", "edgewright.toml")
def missing_project_file(scene: Any) -> list[str]:
    return ["optimize", str(scene.folder / "nowhere")]


@case(2, r"edgewright\.toml: not valid TOML", "UTF-8|correct")
def project_file_is_binary(scene: Any) -> None:
    scene.toml.write_bytes(b"\xff\xfe\x00schema")


# The data -------------------------------------------------------------------------------------------------------


def _double(a: Arrays) -> None:
    a["x"] = a["x"].astype(np.float64)


def _flat(a: Arrays) -> None:
    a["x"] = a["x"].reshape(-1, 64)


def _nan(row: int) -> Callable[[Arrays], None]:
    return lambda a: a["x"][row].fill(np.nan)


def _label(row: int, value: int) -> Callable[[Arrays], None]:
    return lambda a: a["y"].__setitem__(row, value)


def _objects(a: Arrays) -> None:
    a["y"] = np.array([str(v) for v in a["y"]], dtype=object)


npz_case(r"sample 0: .*input image is float32, .*float64", "cast", _double, "wrong_dtype")
npz_case(r"sample 0: .*image is \[1, 8, 8\] per sample, .*\[64\]", "reshape", _flat, "wrong_shape")
npz_case(r"sample 3: the data holds nan at \[0, 0, 0\]", "remove the sample", _nan(3), "nan_in_calibration")
npz_case(r"sample 1499: the data holds nan", "remove the sample", _nan(1499), "nan_in_the_last_sample")
npz_case(
    r"test, sample 1450: the label 10 is out of range \(0\.\.9\)", "labels", _label(1450, 10), "label_out_of_range"
)
npz_case(r"tune, sample 950: the label -3 is out of range", "labels", _label(950, -3), "label_negative")
npz_case(r"digits\.npz has no array 'y'", "keys are x", lambda a: a.pop("y"), "missing_array")
npz_case(r"y has 10 rows, x has 1797", "one row per sample", lambda a: a.update(y=a["y"][:10]), "rows_differ")
npz_case(r"y holds Python objects", "array of numbers", _objects, "python_objects")
npz_case(r"complex64", "cast", lambda a: a.update(x=a["x"].astype(np.complex64)), "complex_numbers")
toml_case(
    "overlapping_splits", '"900:1200"', '"100:500"', r"calibration and tune share 20 sample.*100, 101", "not overlap"
)
toml_case("empty_split", '"900:1200"', '"900:900"', r"no samples \(rows = '900:900' of 1797\)", "correct rows")
toml_case("rows_beyond", '"1200:1500"', '"1200:9999"', r"beyond the 1797 samples", "up to 1797")
toml_case("rows_no_slice", '"1200:1500"', '"many"', r"'many' is no slice", "start:stop")
toml_case("missing_data_file", "digits.npz", "digit.npz", r"digit\.npz.*No such file", "correct the path|fetch")
toml_case(
    "labels_too_few", ', "5", "6", "7", "8", "9"', "", r"label [5-9] is out of range \(0\.\.4\)", "as many labels"
)
toml_case("labels_too_few_for_the_model", ', "9"]', "]", r"label 9 is out of range|9 labels", "labels")
toml_case("labels_twice", '"1", "2"', '"1", "1"', r"labels: 1 given more than once", "own name")
toml_case(
    "labels_file_missing", 'labels = ["0"', 'labels = "names.txt"\n#', r"labels: .*names\.txt", "one label per line"
)


@case(2, r"cannot read .*digits\.npz", "savez")
def truncated_data(scene: Any) -> None:
    path = scene.folder / "digits.npz"
    path.write_bytes(path.read_bytes()[:2000])


@case(2, r"sample 0/a\.png: .*cannot decode an image from \d+ bytes", "JPEG, PNG")
def undecodable_image(scene: Any) -> None:
    for split in ("calibration", "tune", "test"):
        (scene.folder / split / "0").mkdir(parents=True)
        (scene.folder / split / "0" / "a.png").write_bytes(b"no picture at all " + split.encode())
    text = scene.toml.read_text()
    tables = "".join(f'[data.{s}]\npath = "{s}"\n' for s in ("calibration", "tune", "test"))
    table = f'[data]\nreader = "images"\n{tables}[[preprocess]]\nop = "decode"\n'
    scene.toml.write_text(re.sub(r"\[data\].*?(?=\[\[post)", table, text, flags=re.DOTALL))


@case(2, r"3 labels|class \d+", "labels", slow=True)
def labels_fewer_than_the_classes_of_the_model(scene: Any) -> None:
    """The data hold three classes only, so that no label gives it away."""
    scene.edit(', "3", "4", "5", "6", "7", "8", "9"', "")
    scene.data(lambda a: a.update(y=a["y"] % 3))


# The model ------------------------------------------------------------------------------------------------------


def _external(location: str) -> Callable[[onnx.ModelProto], None]:
    def change(model: onnx.ModelProto) -> None:
        tensor = next(t for t in model.graph.initializer if t.name == "weight")
        raw = len(tensor.raw_data)
        tensor.ClearField("raw_data")
        tensor.data_location = onnx.TensorProto.EXTERNAL
        for key, value in (("location", location), ("offset", "0"), ("length", str(raw))):
            tensor.external_data.add(key=key, value=value)

    return change


def _opset(version: int) -> Callable[[onnx.ModelProto], None]:
    def change(model: onnx.ModelProto) -> None:
        model.opset_import[0].version = version

    return change


toml_case(
    "missing_model",
    '"model.onnx"',
    '"modle.onnx"',
    r"\[model\] source: no file .*modle\.onnx",
    "relative to the project",
)
toml_case(
    "unknown_kind_of_model",
    '"model.onnx"',
    '"model.caffe"',
    r"source 'model\.caffe': cannot tell",
    r"\.onnx, \.tflite, \.keras, \.h5 or \.pt2 file",
)


@case(5, r"model\.onnx: not a complete ONNX file \(5000 bytes\)", "truncated")
def truncated_onnx(scene: Any) -> None:
    path = scene.folder / "model.onnx"
    path.write_bytes(path.read_bytes()[:5000])


@case(5, r"model\.onnx: (not a complete ONNX|an ONNX model without)", "another format")
def not_a_model_at_all(scene: Any) -> None:
    (scene.folder / "model.onnx").write_bytes(b"<!doctype html><title>404</title>" * 50)


@case(5, r"\(0 bytes\)", "truncated")
def empty_model_file(scene: Any) -> None:
    (scene.folder / "model.onnx").write_bytes(b"")


@case(2, "Git LFS pointer", "git lfs pull")
def git_lfs_pointer(scene: Any) -> None:
    (scene.folder / "model.onnx").write_bytes(b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n")


@case(2, "opset 9, at least 11", "opset 17")
def old_opset(scene: Any) -> None:
    scene.model(_opset(9))


@case(2, r'external data "\.\./secret\.bin" leaves the folder', "beside the model")
def external_data_above(scene: Any) -> None:
    (scene.folder.parent / "secret.bin").write_bytes(bytes(40_000))
    scene.model(_external("../secret.bin"))


@case(2, r'external data "/etc/passwd" leaves the folder', "relative path")
def external_data_absolute(scene: Any) -> None:
    scene.model(_external("/etc/passwd"))


@case(2, r'external data "w\.bin" leaves the folder', "cp -L")
def external_data_symlink(scene: Any) -> None:
    (scene.folder / "w.bin").symlink_to("/etc/passwd")
    scene.model(_external("w.bin"))


@case(2, r'external data file "w\.bin" is missing', "copy the data files")
def external_data_missing(scene: Any) -> None:
    scene.model(_external("w.bin"))


@case(5, r'external data "w\.bin" has 100 bytes', "truncated")
def external_data_short(scene: Any) -> None:
    (scene.folder / "w.bin").write_bytes(bytes(100))
    scene.model(_external("w.bin"))


@case(2, r"Reluu", "operator")
def unknown_operator(scene: Any) -> None:
    scene.model(lambda model: setattr(model.graph.node[1], "op_type", "Reluu"))


class Running:
    """Unpickling it makes a folder whose name counts as left behind."""

    def __init__(self, path: str) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (self.path,)


@case(2, r"weights\.pt: .*would run code from the file", "state_dict", slow=True)
def checkpoint_needs_pickle(scene: Any) -> None:
    (scene.folder / "net.py").write_text("import torch\ndef make():\n    return torch.nn.Flatten()\n")
    (scene.folder / "weights.pt").write_bytes(pickle.dumps(Running(str(scene.folder / "code-ran.tmp"))))
    table = 'source = "net:make"\ncheckpoint = "weights.pt"\n[[model.inputs]]\nname = "image"\ndtype = "float32"\n'
    scene.edit('source = "model.onnx"', table + 'shape = ["batch", 1, 8, 8]')


@case(2, r"\[model\] source: there is no module 'nett'", "name", slow=True)
def torch_factory_missing(scene: Any) -> None:
    scene.edit('source = "model.onnx"', 'source = "nett:make"')


# Decisions and metrics ------------------------------------------------------------------------------------------

YOLO = '"yolo"\nstyle = "yolox"\nsize = [8, 8]'
toml_case(
    "postprocess_does_not_fit", '"softmax"', YOLO, r"postprocess\[0\]: .*yolo.*logits.*\[10\]", "output", slow=True
)
toml_case("metric_does_not_fit", '"top-1"', '"map50"', r"map50 expects .*got classification", "postprocess", slow=True)


@case(4, r'sample "900": metric own:score raised ZeroDivisionError: division by zero', "correct own:score", slow=True)
def metric_raises(scene: Any) -> None:
    (scene.folder / "own.py").write_text("def score(decision, label):\n    return 1 / 0\n")
    scene.edit('"top-1"', '"own:score"')


@case(2, r"no function 'skore'", "it has score")
def metric_function_missing(scene: Any) -> None:
    (scene.folder / "own.py").write_text("def score(decision, label):\n    return 1\n")
    scene.edit('"top-1"', '"own:skore"')


@case(2, r"metric own:score: importing own raised SyntaxError", "correct own")
def metric_module_broken(scene: Any) -> None:
    (scene.folder / "own.py").write_text("def score(decision, label:\n")
    scene.edit('"top-1"', '"own:score"')


@case(2, r"own:samples raised KeyError: 'calibration'", "correct the function")
def data_function_raises(scene: Any) -> None:
    (scene.folder / "own.py").write_text("def samples(split):\n    return {}[split]\n")
    scene.edit('reader = "npz"\npath = "digits.npz"\nvalue = "x"\nlabel = "y"', 'reader = "function"')
    text = scene.toml.read_text()
    table = 'function = "own:samples"\nargs = {{ split = "{}" }}'
    for split, rows in (("calibration", "0:120"), ("tune", "900:1200"), ("test", "1200:1500")):
        text = text.replace(f'rows = "{rows}"', table.format(split))
    scene.toml.write_text(text)


@case(2, r"metric owm:score: there is no module 'owm'", "beside the project file")
def metric_module_missing(scene: Any) -> None:
    scene.edit('"top-1"', '"owm:score"')


# The machine ----------------------------------------------------------------------------------------------------

HIDE = """
import importlib.metadata, sys
from importlib.abc import MetaPathFinder
found = importlib.metadata.Distribution.from_name.__func__
def from_name(cls, name):
    if name == "openvino":
        raise importlib.metadata.PackageNotFoundError(name)
    return found(cls, name)
importlib.metadata.Distribution.from_name = classmethod(from_name)
class Hidden(MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] == "openvino":
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)
sys.meta_path.insert(0, Hidden())
"""


@case(3, "target openvino needs openvino, not installed here", r'pip install "edgewright\[openvino\]", or remove')
def target_not_installed(scene: Any) -> None:
    (scene.folder / "hidden").mkdir()
    (scene.folder / "hidden" / "sitecustomize.py").write_text(HIDE)
    scene.env["PYTHONPATH"] = str(scene.folder / "hidden")
    scene.edit('"onnxruntime"', '"onnxruntime"\n[[targets]]\nname = "openvino"')


def _full_cache(kib: int, *, slow: bool) -> None:
    """The larger the disk, the later in the run it is full: import, compile, measure."""

    def spoil(scene: Any) -> None:
        scene.cache = scene.folder / "disk"
        scene.full_disk(kib, scene.cache)

    name = f"full_disk_for_the_cache_{kib}_kib"
    CASES.append(Case(name, 4, r"no space left on the disk that holds .*disk", "free some space", slow, spoil))


_full_cache(8, slow=False)
for size in (24, 48, 72, 96, 120):
    _full_cache(size, slow=True)


def _full_output(name: str, kib: int) -> None:
    def spoil(scene: Any) -> list[str]:
        scene.full_disk(kib, scene.finished / "edgewright-out")
        return ["optimize", str(scene.finished), "--quiet"]

    CASES.append(
        Case(name, 4, r"no space left on the disk that holds .*edgewright-out", "free some space", True, spoil)
    )


_full_output("full_disk_for_the_study", 16)
_full_output("full_disk_for_the_report", 1000)


@case(2, r"a-file", "path|folder|EDGEWRIGHT_CACHE")
def cache_is_a_file(scene: Any) -> None:
    scene.cache = scene.folder / "a-file"
    scene.cache.write_text("not a folder")
