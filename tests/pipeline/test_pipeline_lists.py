import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from edgewright.core.tensors import TensorSpec
from edgewright.errors import ConfigError, DataError
from edgewright.pipeline import Postprocess, Preprocess
from edgewright.pipeline.postprocess import POSTPROCESSING
from edgewright.pipeline.preprocess import PREPROCESSING


@pytest.mark.parametrize(
    ("build", "op", "hint"),
    [
        (Preprocess, {"op": "normalize"}, 'did you mean "normalise"?'),
        (Preprocess, {"op": "tokenize", "file": "a"}, 'did you mean "tokenise"?'),
        (Preprocess, {"op": "zzz"}, "known operations: cast"),
        (Preprocess, {"op": "letterbox", "siez": [4, 4]}, 'did you mean "size"?'),
        (Preprocess, {"letterbox": {}}, "write a table"),
        (Preprocess, "decode", "write a table"),
        (Postprocess, {"op": "topk"}, 'did you mean "top-k"?'),
        (Postprocess, {"op": "yolo", "styel": "yolox"}, 'did you mean "style"?'),
    ],
)
def test_what_is_unknown_is_refused_with_the_near_name(build, op, hint):
    with pytest.raises(ConfigError, match=r"process\[0\]") as caught:
        build.from_spec([op], Path())
    assert hint in caught.value.hint


def test_every_operation_has_a_name_and_a_line():
    for name, kind in {**PREPROCESSING, **POSTPROCESSING}.items():
        assert kind.op == name
        assert kind.__doc__


def test_an_array_goes_to_the_only_input():
    preprocess = Preprocess.from_spec([], Path(), [TensorSpec("x", "float32", ("batch", 3))])
    assert list(preprocess(np.zeros(3, np.float32)).tensors) == ["x"]
    assert list(Preprocess.from_spec([], Path())(np.zeros(3)).tensors) == [""]
    bound = Preprocess.from_spec([], Path()).with_inputs([TensorSpec("y", "float32", (1, "n"))])
    assert list(bound(np.ones(2, np.float32)).tensors) == ["y"]


@pytest.mark.parametrize(
    ("value", "message", "hint"),
    [
        (np.zeros((3, 8, 8)), "is float32, preprocessing gives float64", "cast"),
        (np.zeros((8, 8, 3), np.float32), r"\[3, 8, 8\]", "layout"),
        (np.zeros((1, 3, 8, 8), np.float32), r"\[1, 3, 8, 8\]", "batch axis"),
        (np.zeros((3, 9, 8), np.float32), r"\[3, 9, 8\]", "resize"),
        ("text", "takes|ends with str", "decode"),
    ],
)
def test_what_does_not_fit_the_model_is_refused_with_the_fix(value, message, hint):
    preprocess = Preprocess.from_spec([], Path(), [TensorSpec("image", "float32", ("batch", 3, 8, 8))])
    with pytest.raises(DataError, match=message) as caught:
        preprocess(value)
    assert hint in caught.value.hint


def test_a_missing_axis_is_named():
    preprocess = Preprocess.from_spec([], Path(), [TensorSpec("x", "float32", ("batch", 49, 10, 1))])
    with pytest.raises(DataError) as caught:
        preprocess(np.zeros((49, 10), np.float32))
    assert 'op = "expand"' in caught.value.hint


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_data_that_are_no_numbers_are_refused(bad):
    with pytest.raises(DataError, match=r"the data holds .* at \[1, 0\] \(1 of 4"):
        Preprocess.from_spec([], Path())(np.array([[0.0, 1.0], [bad, 2.0]]))


def test_preprocessing_that_makes_them_is_refused_too():
    with pytest.raises(DataError, match="model input"), np.errstate(over="ignore"):
        Preprocess.from_spec([{"op": "scale", "by": 1e38}], Path())(np.array([1e30]))


def test_a_mapping_is_taken_entry_by_entry():
    pair = {"a": np.array([1, 2]), "b": np.array([3, 5])}
    both = Preprocess.from_spec([{"op": "scale", "by": 2}], Path())(pair).tensors
    assert {name: a.tolist() for name, a in both.items()} == {"a": [2, 4], "b": [6, 10]}
    one = Preprocess.from_spec([{"op": "scale", "by": 2, "on": "b"}], Path())(pair).tensors
    assert {name: a.tolist() for name, a in one.items()} == {"a": [1, 2], "b": [6, 10]}
    with pytest.raises(DataError, match='no entry "c"'):
        Preprocess.from_spec([{"op": "scale", "by": 2, "on": "c"}], Path())(pair)
    with pytest.raises(DataError, match="mapping"):
        Preprocess.from_spec([{"op": "scale", "by": 2, "on": "c"}], Path())(np.zeros(2))
    with pytest.raises(ConfigError, match="on is the name"):
        Preprocess.from_spec([{"op": "scale", "by": 2, "on": 3}], Path())


def test_entries_keep_their_own_geometry():
    pair = {"a": np.zeros((10, 20, 3), np.uint8), "b": np.zeros((20, 20, 3), np.uint8)}
    prepared = Preprocess.from_spec([{"op": "letterbox", "size": [8, 8]}, {"op": "crop", "size": [4, 4]}], Path())(pair)
    assert prepared.geometry["a"]["size"] == (10, 20)
    assert prepared.geometry["b"]["scale"] == (0.4, 0.4)


def test_several_inputs_need_a_mapping():
    inputs = [TensorSpec("a", "float32", (1, 2)), TensorSpec("b", "float32", (1, 2))]
    preprocess = Preprocess.from_spec([], Path(), inputs)
    with pytest.raises(DataError, match="2 inputs"):
        preprocess(np.zeros(2, np.float32))
    with pytest.raises(DataError, match="b: float32"):
        preprocess({"a": np.zeros(2, np.float32)})


def test_nothing_heavy_is_imported():
    heavy = "{'cv2', 'soundfile', 'tokenizers', 'onnx', 'onnx_ir', 'torch', 'onnxruntime', 'openvino'}"
    code = f"import sys, edgewright.pipeline, edgewright.data; print(sorted({heavy} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
