"""Parts of the Core ML target that need neither coremltools nor PyTorch."""

from __future__ import annotations

import struct
from pathlib import Path

import numpy as np
import onnx_ir as ir
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx.reference import ReferenceEvaluator

from edgewright.core.measurement import Device
from edgewright.core.tensors import TensorSpec
from edgewright.errors import ConfigError, Corrupt, StepFailed
from edgewright.targets._coreml import proof
from edgewright.targets._coreml.blob import Blob, unpacked
from edgewright.targets._coreml.expected import Quantised, quantised_by
from edgewright.targets._coreml.image import Image, image_of
from edgewright.targets._coreml.options import MINIMUMS, Options, release
from edgewright.targets._coreml.placement import placement
from edgewright.targets._coreml.prepare import prepare
from edgewright.targets._coreml.program import Constant, Operation, Program
from edgewright.targets._coreml.proof import Compared, require_compressed
from edgewright.targets._coreml.weights import Weight, weights
from edgewright.targets.coreml import CoreMlTarget
from edgewright.testing._target_models import Builder, _float, quantized_conv, short_embedding

OPTIONS = Options("float32", "plan", "iOS17", 1)


def _device(system: str) -> Device:
    return Device("local", "arm64", "M4", 8, (), 8 << 30, system)


def test_macos_alone_runs_its_packages() -> None:
    target = CoreMlTarget()
    assert target.elsewhere(_device("Darwin 25.1.0")) == ""
    assert target.elsewhere(_device("Linux 6.1")) == "Core ML predicts on macOS only"


@pytest.mark.parametrize(
    ("fields", "word"),
    [
        ({"weights": "int4"}, "palettised4"),
        ({"compute_units": "NPU"}, "CPU_AND_NE"),
        ({"minimum": "iOS14"}, "iOS16"),
        ({"batch": 0}, "batch = 0"),
        ({"precision": "bfloat16"}, "no bfloat16"),
        ({"weights": "int8", "minimum": "iOS15"}, "needs iOS16"),
    ],
)
def test_fields_with_other_values_are_refused(fields: dict[str, str | int], word: str) -> None:
    with pytest.raises(ConfigError, match=word.replace("+", r"\+")) as raised:
        CoreMlTarget(**fields).refuses(ir.from_proto(quantized_conv()))  # type: ignore[arg-type]
    assert raised.value.hint


@pytest.mark.slow
def test_the_oldest_system_follows_the_model() -> None:
    assert release("macOS14") == release("iOS17") == 17
    assert len({release(name) for name in MINIMUMS}) == len(MINIMUMS) // 2
    reasons = CoreMlTarget(minimum="iOS16").refuses(ir.from_proto(quantized_conv()))
    assert reasons
    assert all("iOS17" in reason for reason in reasons)
    assert CoreMlTarget().refuses(ir.from_proto(quantized_conv())) == ()


@pytest.mark.slow
def test_what_cannot_be_converted_is_named_before() -> None:
    make = Builder()
    make.add("NonZero", ["x"], "n")
    make.add("Cast", ["n"], "f", to=1)
    make.add("Frobnicate", ["f"], "y", domain="nowhere.example")
    inputs = [_float("x", 1, "time", 1, 1, 1, 1)]
    model = ir.from_proto(make.model(inputs, [_float("y", "a", "b")], {"nowhere.example": 1}))
    reasons = "\n".join(CoreMlTarget().refuses(model))
    for words in ('axis "time"', "has 6 axes", "n_node (NonZero)", "y_node (nowhere.example.Frobnicate)"):
        assert words in reasons


def test_a_border_of_other_types_is_cast() -> None:
    made = prepare(ir.from_proto(short_embedding()), OPTIONS)
    assert [spec.dtype for spec in made.inputs] == ["int32"]
    assert made.model.graph.inputs[0].dtype == ir.DataType.INT32
    first = next(iter(made.model.graph))
    assert (first.op_type, first.outputs[0].dtype) == ("Cast", ir.DataType.INT64)
    assert made.inputs[0].shape == (1, 5)


def test_names_that_core_ml_has_no_form_for_are_changed() -> None:
    make = Builder()
    make.add("Relu", ["in/put:0"], "0.y")
    made = prepare(ir.from_proto(make.model([_float("in/put:0", 1, 2)], [_float("0.y", 1, 2)], {})), OPTIONS)
    assert (made.inputs[0].name, made.outputs[0].name) == ("in_put_0", "t_0_y")


# --- weight.bin -------------------------------------------------------------------------------------------------------


def _blob(*constants: tuple[int, bytes, int]) -> tuple[bytes, list[int]]:
    content, offsets = bytearray(struct.pack("<II", len(constants), 2).ljust(64, b"\0")), []
    for kind, data, padding in constants:
        offsets.append(len(content))
        content += struct.pack("<IIQQQ", 0xDEADBEEF, kind, len(data), len(content) + 64, padding).ljust(64, b"\0")
        content += data.ljust(-(-len(data) // 64) * 64, b"\0")
    return bytes(content), offsets


def test_constants_are_read_by_their_place(tmp_path: Path) -> None:
    halves, numbers = np.linspace(-1, 1, 7, dtype=np.float16), np.arange(-3, 4, dtype=np.int8)
    content, offsets = _blob((1, halves.tobytes(), 0), (4, numbers.tobytes(), 0), (11, b"\x21\x43\x05", 4))
    (tmp_path / "weight.bin").write_bytes(content)
    blob = Blob(tmp_path / "weight.bin")
    np.testing.assert_array_equal(blob.read(offsets[0]).values, halves)
    np.testing.assert_array_equal(blob.read(offsets[1]).values, numbers)
    narrow = blob.read(offsets[2])
    assert (narrow.values.tolist(), narrow.bits, narrow.size) == ([1, 2, 3, 4, 5], 4, 3)


@pytest.mark.parametrize("damage", ["version", "sentinel", "size", "short"])
def test_a_damaged_file_of_weights_is_corrupt(tmp_path: Path, damage: str) -> None:
    content, offsets = _blob((1, bytes(8), 0))
    changed = bytearray(content)
    at = {"version": 4, "sentinel": offsets[0], "size": offsets[0] + 8}.get(damage, 0)
    changed[at] ^= 0xFF if damage != "size" else 0
    changed = changed[:100] if damage == "short" else changed
    if damage == "size":
        struct.pack_into("<Q", changed, at, 1 << 40)
    (tmp_path / "weight.bin").write_bytes(bytes(changed))
    with pytest.raises(Corrupt, match=r"weight\.bin"):
        Blob(tmp_path / "weight.bin").read(offsets[0])


@settings(max_examples=40)
@given(st.sampled_from([1, 2, 3, 4, 6]).flatmap(lambda b: st.tuples(st.just(b), st.lists(st.integers(0, 2**b - 1)))))
def test_narrow_numbers_survive_packing(given_: tuple[int, list[int]]) -> None:
    bits, values = given_
    single = np.array([[value >> at & 1 for at in range(bits)] for value in values], np.uint8).reshape(-1)
    packed = np.packbits(single, bitorder="little")
    assert unpacked(packed, bits, len(values)).tolist() == values


# --- compressed constants ---------------------------------------------------------------------------------------------


def _constant(value: object, dtype: str = "float32") -> tuple[Constant]:
    return (Constant(np.asarray(value), dtype),)


def _one(op: str, shape: tuple[int, ...], /, **inputs: tuple[Constant]) -> Weight:
    made = Operation("w", op, inputs, (("w", "float32", shape),))
    return weights(Program((made,), (), (), None))["w"]


def test_numbers_with_a_scale_per_channel() -> None:
    data = np.array([[1, 2], [3, 4], [5, 6]], np.int8)
    scale, zero = np.array([0.5, 2, 1], np.float32), np.array([0, 1, -1], np.int8)
    parts = {"quantized_data": data, "scale": scale, "zero_point": zero, "axis": np.int32(0)}
    found = _one("constexpr_affine_dequantize", (3, 2), **{k: _constant(v) for k, v in parts.items()})
    assert found.form == "int8"
    np.testing.assert_array_equal(found.real, [[0.5, 1], [4, 6], [6, 7]])


def test_numbers_with_a_scale_per_block() -> None:
    parts = {"data": np.arange(8, dtype=np.int8).reshape(2, 4), "scale": np.array([[1, 10], [2, 20]], np.float32)}
    found = _one("constexpr_blockwise_shift_scale", (2, 4), **{k: _constant(v, "int8") for k, v in parts.items()})
    np.testing.assert_array_equal(found.real, [[0, 1, 20, 30], [8, 10, 120, 140]])


def test_palettes_of_ios_16_and_18_say_the_same() -> None:
    table = np.array([-1, 0, 2, 5], np.float32)
    numbers = np.array([[0, 3, 1], [2, 2, 0]], np.uint8)
    single = np.array([[n >> at & 1 for at in range(2)] for n in numbers.reshape(-1)], np.uint8).reshape(-1)
    old = {"lut": table, "indices": np.packbits(single, bitorder="little"), "shape": np.array([2, 3], np.uint32)}
    new = {"lut": table.reshape(1, 1, 4, 1), "indices": numbers}
    first, second = (
        _one("constexpr_lut_to_dense", (2, 3), **{k: _constant(v) for k, v in parts.items()}) for parts in (old, new)
    )
    assert first.form == second.form == "palette of 2 bits"
    assert first.levels == 4
    np.testing.assert_array_equal(first.real, table[numbers])
    np.testing.assert_array_equal(second.real, table[numbers])


def test_a_palette_per_channel() -> None:
    tables = np.array([[0, 1], [10, 20]], np.float32).reshape(2, 1, 2, 1)
    parts = {"lut": tables, "indices": np.array([[0, 1, 1], [1, 0, 1]], np.uint8)}
    found = _one("constexpr_lut_to_dense", (2, 3), **{k: _constant(v) for k, v in parts.items()})
    np.testing.assert_array_equal(found.real, [[0, 1, 1], [20, 10, 20]])


def test_compression_that_did_not_happen_is_an_error() -> None:
    plain = Weight("w", "float32", np.arange(40, dtype=np.float32), 160)
    palette = Weight("w", "palette of 2 bits", np.arange(40, dtype=np.float32) % 4, 26, 4)
    whole = Weight("w", "int8", plain.real, 40)
    for form, good in (("palettised2", palette), ("int8", whole)):
        require_compressed((Compared(good, "conv", 0.0, 1.0),), form)
        with pytest.raises(StepFailed, match="compressed nothing"):
            require_compressed((Compared(plain, "conv", 0.0, 1.0),), form)
    full = Weight("w", "palette of 2 bits", plain.real, 26, 4)
    with pytest.raises(StepFailed, match="40 values, its palette holds 4"):
        require_compressed((Compared(full, "conv", 0.0, 1.0),), "palettised2")


# --- placement --------------------------------------------------------------------------------------------------------


def _op(op: str, output: str, *reads: str, dtype: str = "float32") -> Operation:
    return Operation(output, op, {f"in{i}": (r,) for i, r in enumerate(reads)}, ((output, dtype, (1,)),))


def test_a_convolution_between_quantisers_is_in_integers_and_no_other() -> None:
    operations = (
        _op("quantize", "q", "x", dtype="int8"),
        _op("dequantize", "d", "q"),
        _op("constexpr_affine_dequantize", "w"),
        _op("conv", "c1", "d", "w"),
        _op("relu", "r1", "c1"),
        _op("quantize", "q1", "r1", dtype="int8"),
        _op("dequantize", "d1", "q1"),
        _op("reshape", "s", "d1"),
        _op("conv", "c2", "s", "w"),
        _op("silu", "r2", "c2"),
        _op("conv", "c3", "r2", "w"),
        _op("quantize", "q3", "c3", dtype="int8"),
    )
    found = {node.node: node.precision for node in placement(Program(operations, (), (), None), {})}
    assert [found[name] for name in ("c1", "r1", "c2", "c3")] == ["int8", "int8", "float32", "float32"]
    assert "w" not in found
    assert found["q"] == "conversion"


# --- images -----------------------------------------------------------------------------------------------------------


@settings(max_examples=40)
@given(st.sampled_from(["rgb", "bgr", "gray"]), st.floats(0.004, 3), st.floats(-2, 2), st.integers(0, 2**31))
def test_pictures_come_back_from_the_tensors_they_became(colour: str, scale: float, bias: float, seed: int) -> None:
    channels = 1 if colour == "gray" else 3
    shape = (4, 5) if colour == "gray" else (4, 5, 3)
    given_ = np.random.default_rng(seed).integers(0, 256, shape).astype(np.uint8)
    image = Image(colour, (scale,) * channels, tuple(bias + i / 7 for i in range(channels)))
    planes = image.planes(given_)
    assert planes.shape == (1, channels, 4, 5)
    factor, offset = (np.float32(n).reshape(1, -1, 1, 1) for n in (image.scale, image.bias))
    np.testing.assert_array_equal(image.pixels(planes * factor + offset), given_)


SPECS = (TensorSpec("x", "float32", ("batch", 3, 8, 8)),)
DECODE = {"op": "decode", "color": "rgb"}


def _described(folder: Path, monkeypatch: pytest.MonkeyPatch, tables: list[dict[str, object]]) -> Path:
    from types import SimpleNamespace

    monkeypatch.setattr(
        "edgewright.targets._coreml.image.decode_stored", lambda *_: SimpleNamespace(preprocess=tuple(tables))
    )
    file = folder / "data.json"
    file.write_text("{}")
    return file


def test_normalisation_moves_into_the_model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tables: list[dict[str, object]] = [
        DECODE,
        {"op": "resize", "size": [8, 8]},
        {"op": "channel-order", "order": "bgr"},
        {"op": "scale", "by": 1 / 255},
        {"op": "normalise", "mean": [0.1, 0.2, 0.3], "std": [0.5, 0.25, 0.125]},
        {"op": "layout", "order": "chw"},
    ]
    found = image_of(SPECS, _described(tmp_path, monkeypatch, tables))["x"]
    assert found.colour == "bgr"
    np.testing.assert_allclose(found.scale, [1 / 255 / s for s in (0.5, 0.25, 0.125)], rtol=1e-5)
    np.testing.assert_allclose(found.bias, [-0.2, -0.8, -2.4], rtol=1e-4)


@pytest.mark.parametrize(
    ("tables", "specs", "word"),
    [
        ([DECODE, {"op": "stft"}], SPECS, '"stft" is not arithmetic on pixels'),
        ([{"op": "scale", "by": 2.0}], SPECS, 'no step "decode"'),
        ([DECODE, {"op": "scale", "by": "max"}], SPECS, "differs from picture to picture"),
        ([DECODE, {"op": "resize", "on": "left"}], SPECS, "one input only"),
        ([DECODE], (*SPECS, TensorSpec("z", "float32", (1,))), "2 inputs"),
        ([DECODE], (TensorSpec("x", "float32", (1, 8, 8, 3)),), "no image"),
        ([DECODE], (TensorSpec("x", "float32", (4, 3, 8, 8)),), "4 pictures at once"),
        ([DECODE], (TensorSpec("x", "float32", (1, 1, 8, 8)),), "1 channels"),
    ],
)
def test_what_cannot_be_inside_is_named(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    tables: list[dict[str, object]],
    specs: tuple[TensorSpec, ...],
    word: str,
) -> None:
    with pytest.raises(ConfigError, match=word):
        image_of(specs, _described(tmp_path, monkeypatch, tables))


def test_an_image_needs_data() -> None:
    with pytest.raises(ConfigError, match=r"\[\[preprocess\]\]"):
        image_of(SPECS, None)


def test_a_sum_may_be_stored_relative_to_an_addend() -> None:
    m = Builder()
    first, second = m.quantizer("x", 0.5, 128), m.quantizer("z", 0.25, 128)
    m.add("Add", [first, second], "s")
    m.add("Relu", ["s"], "r")
    m.quantizer("r", 1.0, 0)
    graph = ir.from_proto(m.model([_float("x", 1, 2), _float("z", 1, 2)], [_float("r_dq", 1, 2)], {})).graph
    nodes = {node.name: node for node in graph}
    wanted = [quantised_by(nodes[name]) for name in ("r_q_node", "r_dq_node", "x_dq_node", "s_node")]
    assert wanted[0] == wanted[1] == Quantised("uint8", 1.0, 0, (0.5, 0.25))
    assert wanted[2] == Quantised("uint8", 0.5, 128)
    assert wanted[3] is None
    for scale, same in ((1.0, True), (2.0, True), (4.0, True), (3.0, False)):
        assert proof.same_quantiser(Quantised("uint8", scale, 0), wanted[0]) is same
    assert proof.same_quantiser(Quantised("int8", 0.5, 0), wanted[2])
    assert not proof.same_quantiser(Quantised("int8", 0.5, 1), wanted[2])


def test_a_single_index_becomes_a_list_of_one() -> None:
    m = Builder()
    m.add("Gather", ["x", m.constant("i", np.int64(1))], "y", axis=1)
    made = prepare(ir.from_proto(m.model([_float("x", 1, 3, 2)], [_float("y", 1, 2)], {})), OPTIONS)
    assert [node.op_type for node in made.model.graph] == ["Gather", "Squeeze"]
    assert made.model.graph.outputs[0].name == "y"
    x = np.arange(6, dtype=np.float32).reshape(1, 3, 2)
    found = ReferenceEvaluator(ir.to_proto(made.model)).run(None, {"x": x})
    np.testing.assert_array_equal(found[0], x[:, 1])
