"""Libraries of custom operators, with those of onnxruntime-extensions: from the import to the device."""

from __future__ import annotations

import struct
from pathlib import Path

import numpy as np
import onnx
import onnx_ir as ir
import onnxruntime
import onnxruntime_extensions
import pytest
from onnx import TensorProto, helper, numpy_helper

from edgewright.core.codec import encode_json
from edgewright.core.target import Artifact
from edgewright.engine import registry
from edgewright.errors import Corrupt, SourceError, StepFailed, UsageError
from edgewright.graph import custom
from edgewright.graph.load import load
from edgewright.measure.layers.opening import open_side
from edgewright.passes.clean_up import CleanUp
from edgewright.passes.static_int8 import StaticInt8
from edgewright.runtimes import load_artifact, open_runner
from edgewright.runtimes._ort_custom import LIBRARIES, here, kind_of, libraries_of, place_of, register
from edgewright.sources.onnx import OnnxSource
from edgewright.targets.onnxruntime import OnnxRuntimeTarget
from edgewright.testing._target_tools import QuietContext
from edgewright.testing.passes import statistics_of

LIBRARY = Path(onnxruntime_extensions.get_library_path())
FEED = {"x": np.random.default_rng(1).standard_normal((1, 3, 16, 16)).astype(np.float32)}


def positive_part() -> onnx.ModelProto:
    """Two convolutions around `NegPos`, which splits a tensor into what is below and above zero."""
    rng = np.random.default_rng(0)
    weights = {"w1": rng.standard_normal((8, 3, 3, 3)), "w2": rng.standard_normal((4, 8, 3, 3))}
    nodes = [
        helper.make_node("Conv", ["x", "w1"], ["a"], "c1", pads=[1] * 4),
        helper.make_node("NegPos", ["a"], ["below", "above"], "split", domain="ai.onnx.contrib"),
        helper.make_node("Conv", ["above", "w2"], ["y"], "c2", pads=[1] * 4),
    ]
    ends = [
        helper.make_tensor_value_info(name, TensorProto.FLOAT, [1, channels, 16, 16])
        for name, channels in (("x", 3), ("y", 4))
    ]
    stored = [numpy_helper.from_array((0.2 * value).astype(np.float32), name) for name, value in weights.items()]
    graph = helper.make_graph(nodes, "custom", ends[:1], ends[1:], stored)
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid("ai.onnx.contrib", 1)]
    return helper.make_model(graph, opset_imports=opsets, ir_version=8)


def expected() -> np.ndarray:
    """What the model computes, with an operator of the standard in the place of the custom one."""
    proto = positive_part()
    del proto.graph.node[1], proto.opset_import[1]
    proto.graph.node.insert(1, helper.make_node("Relu", ["a"], ["above"], "split"))
    session = onnxruntime.InferenceSession(proto.SerializeToString(), providers=["CPUExecutionProvider"])
    return np.asarray(session.run(None, FEED)[0])


@pytest.fixture
def imported(tmp_path: Path) -> Path:
    """The hub model after import and clean-up."""
    onnx.save(positive_part(), tmp_path / "own.onnx")
    context = QuietContext(tmp_path / "scratch")
    first, second = tmp_path / "imported", tmp_path / "clean"
    for folder in (first, second):
        folder.mkdir()
    OnnxSource().run({"model": tmp_path / "own.onnx", "custom_operators.0": LIBRARY}, first, context)
    CleanUp().run({"model": first}, second, context)
    return second


@pytest.mark.parametrize("form", ["onnx", pytest.param("ort", marks=pytest.mark.slow)])
def test_the_library_goes_with_the_model_to_the_artifact(imported: Path, tmp_path: Path, form: str) -> None:
    out = tmp_path / "artifact"
    out.mkdir()
    target = OnnxRuntimeTarget(format=form)
    assert target.refuses(load(imported)) == ()
    target.run({"model": imported}, out, QuietContext(tmp_path / "scratch"))
    artifact = load_artifact(out)
    assert artifact.files == (f"model.{form}", f"custom_operators/{here()}/{LIBRARY.name}")
    assert any(node.op == "NegPos" and node.source == ("split",) for node in artifact.placement)
    with open_runner(out) as runner:
        np.testing.assert_allclose(runner.run(FEED)["y"], expected(), atol=1e-5)


@pytest.mark.slow
def test_passes_that_run_the_model_have_its_operators(imported: Path, tmp_path: Path) -> None:
    out = tmp_path / "int8"
    out.mkdir()
    statistics = statistics_of(imported, [FEED], tmp_path / "statistics")
    context = QuietContext(tmp_path / "scratch")
    StaticInt8("onnxruntime-u8s8").run({"model": imported, "statistics": statistics}, out, context)
    made = tmp_path / "artifact"
    made.mkdir()
    OnnxRuntimeTarget().run({"model": out}, made, context)
    with open_runner(made) as runner:
        found, wanted = runner.run(FEED)["y"], expected()
    assert 10 * np.log10(np.square(wanted).sum() / np.square(wanted - found).sum()) > 25


@pytest.mark.slow
def test_layers_are_compared_and_an_ort_file_is_refused(imported: Path, tmp_path: Path) -> None:
    context = QuietContext(tmp_path / "scratch")
    for form in ("onnx", "ort"):
        (tmp_path / form).mkdir()
        OnnxRuntimeTarget(format=form).run({"model": imported}, tmp_path / form, context)
    with open_side(tmp_path / "onnx", tmp_path / "side") as side:
        assert {tap.tensor for tap in side.taps} >= {"a", "y"}
    with pytest.raises(UsageError, match="ORT file"), open_side(tmp_path / "ort", tmp_path / "other"):
        pass


@pytest.mark.slow
@pytest.mark.parametrize("name", ["openvino", "litert", "coreml", "tensorrt", "executorch"])
def test_other_targets_refuse_the_operator_by_name(imported: Path, name: str) -> None:
    reasons = registry.load("targets", name)().refuses(load(imported))
    assert any("NegPos" in reason for reason in reasons), reasons


# ---- nothing that was not declared is loaded


def test_a_model_from_outside_that_names_libraries_loads_none(imported: Path, tmp_path: Path) -> None:
    assert custom.libraries(load(imported)) != ()
    again = tmp_path / "again"
    again.mkdir()
    with pytest.raises(SourceError, match="NegPos"):
        OnnxSource().run({"model": imported / "model.onnx"}, again, QuietContext(tmp_path / "scratch"))


def test_a_changed_library_is_refused(imported: Path) -> None:
    library = imported / place_of(LIBRARY)
    library.write_bytes(library.read_bytes() + b"more")
    with pytest.raises(Corrupt, match="was changed"):
        load(imported)


def test_an_absolute_path_in_a_file_is_dropped(tmp_path: Path) -> None:
    model = ir.from_proto(positive_part())
    custom.declare(model, [LIBRARY])
    ir.save(model, tmp_path / "model.onnx")
    assert custom.libraries(load(tmp_path / "model.onnx")) == ()


@pytest.mark.parametrize(
    "name", ["/lib/x.so", "custom_operators/../../x.so", "elsewhere/x.so", "custom_operators/no.so"]
)
def test_an_artifact_loads_only_its_own_libraries(tmp_path: Path, name: str) -> None:
    artifact = Artifact("onnxruntime", "onnxruntime", "1", "", ("model.onnx",), (), (), "float32", {LIBRARIES: name})
    (tmp_path / "artifact.json").write_bytes(encode_json(artifact))
    (tmp_path / "model.onnx").write_bytes(b"")
    with pytest.raises(Corrupt), open_runner(tmp_path):
        pass
    with pytest.raises(Corrupt):
        libraries_of(artifact.session, tmp_path)


# ---- one library per kind of machine


def _elf(machine: int) -> bytes:
    return b"\x7fELF\x02\x01\x01" + bytes(9) + struct.pack("<HH", 3, machine) + bytes(44)


HEADERS = {
    "linux-x86_64": _elf(0x3E),
    "linux-aarch64": _elf(0xB7),
    "linux-unknown": _elf(0x1234),
    "macos-aarch64": struct.pack("<II", 0xFEEDFACF, 0x0100000C) + bytes(24),
    "windows-x86_64": b"MZ" + bytes(58) + struct.pack("<I", 64) + b"PE\0\0" + struct.pack("<H", 0x8664),
    "": b"PK\x03\x04" + bytes(60),
}


@pytest.mark.parametrize("kind", HEADERS)
def test_the_kind_of_machine_is_read_off_the_header(kind: str, tmp_path: Path) -> None:
    file = tmp_path / "libown.so"
    file.write_bytes(HEADERS[kind])
    assert kind_of(file) == kind
    if kind:
        assert place_of(file) == f"custom_operators/{kind}/libown.so"
    else:
        with pytest.raises(UsageError, match="not a native library"):
            place_of(file)


@pytest.mark.parametrize("size", [0, 1, 3, 19, 63])
def test_headers_that_end_early_are_no_libraries(size: int, tmp_path: Path) -> None:
    file = tmp_path / "cut"
    file.write_bytes(HEADERS["windows-x86_64"][:size])
    assert kind_of(file) == ""


def test_a_library_for_another_machine_is_refused_with_both_named(tmp_path: Path) -> None:
    foreign = next(kind for kind in ("linux-aarch64", "windows-x86_64") if kind != here())
    file = tmp_path / "libown.so"
    file.write_bytes(HEADERS[foreign])
    with pytest.raises(StepFailed, match=f"built for {foreign}, this machine is {here()}"):
        register(None, [file])


def test_a_library_without_operators_is_named() -> None:
    other = Path(onnxruntime.__file__).parent / "capi" / "libonnxruntime_providers_shared.so"
    with pytest.raises(StepFailed, match=r"custom operators of libonnxruntime_providers_shared\.so"):
        register(onnxruntime.SessionOptions(), [other])
