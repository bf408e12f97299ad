"""Packages made by the converter, read back."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import onnx
import onnx_ir as ir
import pytest
from onnx import TensorProto

from edgewright.core.codec import encode_json
from edgewright.core.target import Artifact, Plan
from edgewright.errors import StepFailed
from edgewright.runtimes import load_artifact
from edgewright.runtimes._coremltools import require_coremltools
from edgewright.targets._coreml.image import Image
from edgewright.targets._coreml.options import Options
from edgewright.targets._coreml.package import SPECIFICATION, WEIGHTS
from edgewright.testing._target_models import Builder, _float, quantized_conv, residual
from edgewright.testing._target_tools import QuietContext, compiled, make

pytestmark = pytest.mark.slow


def wide() -> onnx.ModelProto:
    """A convolution and a product whose weights are worth a palette."""
    m = Builder()
    m.add("Conv", ["x", m.weights("w", 32, 8, 3, 3), m.weights("b", 32)], "c", pads=[1, 1, 1, 1])
    m.add("GlobalAveragePool", ["c"], "g")
    m.add("Flatten", ["g"], "f")
    m.add("MatMul", ["f", m.weights("p", 32, 24)], "y")
    return m.model([_float("x", "batch", 8, 6, 6)], [_float("y", "batch", 24)], {})


def _said(artifact: Artifact, word: str) -> str:
    found = [sentence for sentence in artifact.proof if word in sentence]
    assert len(found) == 1, artifact.proof
    return found[0]


@pytest.mark.parametrize("precision", ["float32", "float16"])
def test_quantisers_keep_their_scales(tmp_path: Path, precision: str) -> None:
    artifact = load_artifact(compiled("coreml", quantized_conv(), tmp_path, precision=precision))
    assert artifact.precision == "int8"
    assert "3 of 3 compared" in _said(artifact, "quantisers of activations")
    assert "2 of 2 tensors" in _said(artifact, "weights decoded")
    assert "2 as int8: 864 bytes" in _said(artifact, "weights stored")
    assert "iOS17" in artifact.proof[0]
    assert "prove_on_mac.py" in artifact.unproven[0]


@pytest.mark.parametrize(
    ("fields", "stored"),
    [
        ({"weights": "palettised4"}, ("2 as palette of 4 bits, 1 as float32", "0.14")),
        ({"weights": "palettised6", "precision": "float16"}, ("2 as palette of 6 bits",)),
        ({"weights": "int8"}, ("2 as int8",)),
        ({"weights": "int8", "minimum": "macOS15", "precision": "float16"}, ("2 as int8",)),
        ({"weights": "palettised2", "minimum": "iOS18"}, ("2 as palette of 2 bits",)),
    ],
)
def test_weights_take_the_space_that_was_asked_for(
    tmp_path: Path, fields: dict[str, str], stored: tuple[str, ...]
) -> None:
    artifact = load_artifact(compiled("coreml", wide(), tmp_path, **fields))
    assert "3 of 3 tensors" in _said(artifact, "weights decoded")
    assert all(word in _said(artifact, "weights stored") for word in stored), artifact.proof


def test_small_weights_are_not_compressed_in_silence(tmp_path: Path) -> None:
    with pytest.raises(StepFailed, match=r'"palettised4" compressed nothing'):
        compiled("coreml", residual(), tmp_path, weights="palettised4")


def test_one_changed_byte_of_the_weights_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from edgewright.targets._coreml import package

    written = package.write_package

    def damaged(mlmodel: object, out: Path) -> tuple[str, ...]:
        files = written(mlmodel, out)
        content = bytearray((out / WEIGHTS).read_bytes())
        content[64 + 64 + 5] ^= 0x40
        (out / WEIGHTS).write_bytes(content)
        return files

    monkeypatch.setattr(package, "write_package", damaged)
    with pytest.raises(StepFailed, match="stores other weights"):
        compiled("coreml", wide(), tmp_path, anew=True, weights="int8")


def test_a_changed_scale_of_an_activation_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from edgewright.targets._coreml import proof

    monkeypatch.setattr(proof, "quantised_by", lambda node: proof.Quantised("uint8", 0.5, 128))
    with pytest.raises(StepFailed, match="quantises by"):
        compiled("coreml", quantized_conv(), tmp_path, anew=True)


def test_a_batch_of_one_s_own_choice(tmp_path: Path) -> None:
    artifact = load_artifact(compiled("coreml", wide(), tmp_path, batch=3))
    assert artifact.inputs[0].shape == ("batch", 8, 6, 6)
    assert '"shape":[3,8,6,6]' in artifact.session["edgewright.coreml"]
    with np.load(tmp_path / "artifact" / "golden.npz") as golden:
        assert golden["0/in/x"].shape == (3, 8, 6, 6)
        x, y = golden["1/in/x"], golden["1/out/y"]
    import onnxruntime as ort

    wide_bytes = wide().SerializeToString()
    session = ort.InferenceSession(wide_bytes, providers=["CPUExecutionProvider"])
    np.testing.assert_allclose(session.run(None, {"x": x})[0], y, atol=1e-5)


def test_the_plan_decides_the_precision(tmp_path: Path) -> None:
    model, out = tmp_path / "model", tmp_path / "out"
    model.mkdir()
    out.mkdir()
    onnx.save(wide(), model / "model.onnx")
    (model / "plan.json").write_bytes(encode_json(Plan("", hints={"inference_precision": "fp16"})))
    make("coreml").run({"model": model}, out, QuietContext(tmp_path / "scratch"))
    assert load_artifact(out).precision == "float16"


def test_a_model_in_halves_keeps_the_nodes_that_are_not(tmp_path: Path) -> None:
    from edgewright.graph.half import halve
    from edgewright.graph.shapes import infer_shapes

    model, out = tmp_path / "model", tmp_path / "out"
    model.mkdir()
    out.mkdir()
    half = infer_shapes(ir.from_proto(wide()))
    halve(half.graph, {"y_node"})
    ir.save(half, model / "model.onnx")
    make("coreml").run({"model": model}, out, QuietContext(tmp_path / "scratch"))
    artifact = load_artifact(out)
    found = {source: node.precision for node in artifact.placement for source in node.source if node.op != "cast"}
    assert (found["c_node"], found["y_node"]) == ("float16", "float32")
    assert artifact.inputs[0].dtype == artifact.outputs[0].dtype == "float32"


def picture() -> onnx.ModelProto:
    m = Builder()
    m.add("Conv", ["x", m.weights("w", 4, 3, 3, 3)], "y")
    return m.model([_float("x", 1, 3, 8, 8)], [_float("y", 1, 4, 6, 6)], {})


def test_an_image_is_normalised_inside(tmp_path: Path) -> None:
    from edgewright.targets._coreml.convert import convert
    from edgewright.targets._coreml.package import write_package
    from edgewright.targets._coreml.program import read_program
    from edgewright.targets._coreml.weights import weights

    coremltools = require_coremltools()
    image = Image("bgr", (0.1, 0.2, 0.3), (-1.0, -2.0, -3.0))
    made = convert(coremltools, ir.from_proto(picture()), Options("float32", "plan", "iOS16", 1), {"x": image})
    write_package(made.mlmodel, tmp_path)
    program = read_program(tmp_path)
    kind = program.description.input[0].type
    assert (kind.imageType.width, kind.imageType.height, kind.imageType.ColorSpace.Name(kind.imageType.colorSpace)) == (
        8,
        8,
        "BGR",
    )
    assert [o.op for o in program.operations if o.op != "const"] == ["batch_norm", "conv"]
    constants = [c.real for c in weights(program).values() if c.real.shape == (3,)]
    for wanted in (image.scale, image.bias):
        assert any(np.allclose(constant, wanted, rtol=1e-5) for constant in constants), constants


def test_integers_and_truth_values_at_the_border(tmp_path: Path) -> None:
    m = Builder()
    m.add("ArgMax", ["x"], "index", axis=1, keepdims=0)
    m.add("Greater", ["x", m.constant("half", np.float32(0.5))], "large")
    outputs = [("index", TensorProto.INT64, [1]), ("large", TensorProto.BOOL, [1, 4])]
    artifact = load_artifact(compiled("coreml", m.model([_float("x", 1, 4)], outputs, {}), tmp_path))
    assert [spec.dtype for spec in artifact.outputs] == ["int64", "bool"]
    assert artifact.session["edgewright.coreml"].count('"int32"') == 2
    assert (tmp_path / "artifact" / SPECIFICATION).is_file()


@pytest.fixture(autouse=True)
def _logs() -> Iterator[None]:
    """The converter must not leave its settings behind."""
    import logging

    before = logging.getLogger("coremltools").level
    yield
    assert logging.getLogger("coremltools").level == before
