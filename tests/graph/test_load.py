"""Reading and writing ONNX, and what is refused."""

from __future__ import annotations

import errno
from pathlib import Path

import numpy as np
import onnx
import onnx_ir as ir
import pytest

from edgewright.errors import Corrupt, EdgewrightError, OutOfSpace, SourceError
from edgewright.graph.check import check_file
from edgewright.graph.load import EMBED_BYTES, load, load_proto, model_file, save, tensor_specs


def external(proto: onnx.ModelProto, folder: Path, location: str = "weights.bin") -> Path:
    onnx.save(
        proto,
        folder / "net.onnx",
        save_as_external_data=True,
        location="weights.bin",
        size_threshold=0,
        convert_attribute=True,
    )
    changed = onnx.load(folder / "net.onnx", load_external_data=False)
    for tensor in changed.graph.initializer:
        for entry in tensor.external_data:
            if entry.key == "location":
                entry.value = location
    (folder / "net.onnx").write_bytes(changed.SerializeToString())
    return folder / "net.onnx"


def test_specs_name_dynamic_axes(conv_file: Path) -> None:
    inputs, outputs = tensor_specs(load(conv_file))
    assert str(inputs[0]) == "x: float32[batch, 3, 8, 8]"
    assert str(outputs[0]) == "y: float32[batch, 5]"


def test_save_and_load_keep_every_weight(conv_file: Path, tmp_path: Path) -> None:
    before = load(conv_file)
    again = load(save(before, tmp_path / "hub"))
    assert list(again.graph.initializers) == list(before.graph.initializers)
    for name, value in before.graph.initializers.items():
        np.testing.assert_array_equal(value.const_value.numpy(), again.graph.initializers[name].const_value.numpy())
    assert model_file(tmp_path / "hub") == tmp_path / "hub" / "model.onnx"


def test_external_data_inside_the_folder_are_read(conv_proto: onnx.ModelProto, tmp_path: Path) -> None:
    expected = onnx.numpy_helper.to_array(conv_proto.graph.initializer[0])
    path = external(conv_proto, tmp_path)
    check_file(path)
    model = load(path)
    np.testing.assert_array_equal(model.graph.initializers["w"].const_value.numpy(), expected)
    assert "weights.bin" not in (save(model, tmp_path / "hub").read_bytes().decode("latin1"))


@pytest.mark.parametrize("location", ["../secret.bin", "/etc/hostname", "sub/../../secret.bin"])
def test_external_data_outside_the_folder_are_refused(
    location: str, conv_proto: onnx.ModelProto, tmp_path: Path
) -> None:
    (tmp_path / "secret.bin").write_bytes(bytes(4096))
    (tmp_path / "model").mkdir()
    path = external(conv_proto, tmp_path / "model", location)
    with pytest.raises(SourceError, match="leaves the folder") as caught:
        load(path)
    assert location in caught.value.message


def test_a_symbolic_link_out_of_the_folder_is_refused(conv_proto: onnx.ModelProto, tmp_path: Path) -> None:
    (tmp_path / "model").mkdir()
    path = external(conv_proto, tmp_path / "model")
    (tmp_path / "model" / "weights.bin").rename(tmp_path / "elsewhere.bin")
    (tmp_path / "model" / "weights.bin").symlink_to(tmp_path / "elsewhere.bin")
    with pytest.raises(SourceError, match="leaves the folder"):
        load(path)


def test_missing_and_short_external_data_are_named(conv_proto: onnx.ModelProto, tmp_path: Path) -> None:
    path = external(conv_proto, tmp_path)
    whole = (tmp_path / "weights.bin").read_bytes()
    (tmp_path / "weights.bin").write_bytes(whole[:-8])
    with pytest.raises(Corrupt, match=r"weights\.bin"):
        load(path)
    (tmp_path / "weights.bin").unlink()
    with pytest.raises(SourceError, match="missing"):
        load(path)


def test_external_data_of_subgraph_attributes_are_confined(tmp_path: Path) -> None:
    tensor = onnx.numpy_helper.from_array(np.zeros(8, np.float32), "inner")
    tensor.ClearField("raw_data")
    tensor.data_location = onnx.TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value="../outside.bin")
    constant = onnx.helper.make_node("Constant", [], ["inner_out"])
    constant.attribute.add(name="value", type=onnx.AttributeProto.TENSOR, t=tensor)
    out = onnx.helper.make_tensor_value_info("inner_out", onnx.TensorProto.FLOAT, [8])
    branch = onnx.helper.make_graph([constant], "branch", [], [out])
    node = onnx.helper.make_node("If", ["flag"], ["y"], then_branch=branch, else_branch=branch)
    flag = onnx.helper.make_tensor_value_info("flag", onnx.TensorProto.BOOL, [])
    y = onnx.helper.make_tensor_value_info("y", onnx.TensorProto.FLOAT, [8])
    (tmp_path / "if.onnx").write_bytes(
        onnx.helper.make_model(onnx.helper.make_graph([node], "g", [flag], [y])).SerializeToString()
    )
    with pytest.raises(SourceError, match="leaves the folder"):
        load_proto(tmp_path / "if.onnx")


@pytest.mark.parametrize("content", [b"", b"<html></html>", b"\x08\x07"])
def test_what_is_no_model_is_corrupt(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "bad.onnx").write_bytes(content)
    with pytest.raises(Corrupt, match=r"bad\.onnx"):
        load(tmp_path / "bad.onnx")


def test_every_truncation_is_an_error_of_ours(conv_file: Path, tmp_path: Path) -> None:
    whole = conv_file.read_bytes()
    cut = tmp_path / "cut.onnx"
    for length in range(0, len(whole), 7):
        cut.write_bytes(whole[:length])
        with pytest.raises(EdgewrightError) as caught:
            load(cut)
        assert caught.value.exit_code in (2, 5)
        assert caught.value.hint


def test_a_git_lfs_pointer_says_what_to_do(tmp_path: Path) -> None:
    (tmp_path / "p.onnx").write_text("version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 9\n")
    with pytest.raises(SourceError, match="Git LFS") as caught:
        load(tmp_path / "p.onnx")
    assert "git lfs pull" in caught.value.hint


def test_missing_file_and_empty_folder_are_source_errors(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match="no such model file"):
        load(tmp_path / "none.onnx")
    with pytest.raises(SourceError, match="found 0"):
        load(tmp_path)


def test_a_full_disk_leaves_nothing_half_written(
    conv_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(model: ir.Model, path: Path, **_: object) -> None:
        path.write_bytes(b"half")
        raise OSError(errno.ENOSPC, "No space left on device")

    model = load(conv_file)
    monkeypatch.setattr(ir, "save", full)
    with pytest.raises(OutOfSpace):
        save(model, tmp_path / "hub")
    assert list((tmp_path / "hub").iterdir()) == []
    assert EMBED_BYTES < 2**31
