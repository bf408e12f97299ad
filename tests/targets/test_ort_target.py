"""The target onnxruntime beyond the CPU provider: schemes, ORT format, artifacts of providers that do not run here."""

from __future__ import annotations

import platform
from importlib.metadata import PackageNotFoundError
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

from edgewright.core.measurement import Device
from edgewright.core.target import RunOptions
from edgewright.errors import ConfigError
from edgewright.graph import schemes
from edgewright.runtimes import _ort_providers as providers
from edgewright.runtimes import load_artifact, open_runner
from edgewright.runtimes._ort_providers import PROVIDERS, options_of
from edgewright.targets.onnxruntime import OnnxRuntimeTarget
from edgewright.testing._target_models import CASES, quantized_conv
from edgewright.testing._target_tools import compiled, feed_for

DEVICE = Device("local", "x86_64", "test", 2, ("avx2",), 1 << 30, "Linux 6")


def case(name: str) -> onnx.ModelProto:
    return next(case for case in CASES if case.name == name).build()


# ---- ORT format


@pytest.mark.parametrize("proto", [quantized_conv(), case("conv-bn-relu")], ids=["int8", "float"])
def test_ort_file_answers_as_the_onnx_file_and_lists_what_it_needs(proto: onnx.ModelProto, tmp_path: Path) -> None:
    plain = compiled("onnxruntime", proto, tmp_path / "onnx")
    mobile = compiled("onnxruntime", proto, tmp_path / "ort", format="ort")
    artifact = load_artifact(mobile)
    assert artifact.files == ("model.ort",)
    assert artifact.extras == ("required_operators_and_types.config",)
    assert artifact.precision == load_artifact(plain).precision
    assert any("compared with the ONNX file" in said for said in artifact.proof)
    assert any("% of the ONNX file" in said for said in artifact.proof)
    assert all(node.planned for node in artifact.placement)
    feed = feed_for(proto)
    with open_runner(plain) as one, open_runner(mobile, RunOptions(profile=True)) as other:
        np.testing.assert_allclose(one.run(feed)["y"], other.run(feed)["y"], atol=1e-5)
        assert {time.node for time in other.operator_times()} <= {node.node for node in artifact.placement}


def test_ort_file_holds_no_layout_of_this_processor(tmp_path: Path) -> None:
    made = compiled("onnxruntime", case("conv-bn-relu"), tmp_path, format="ort")
    text = (made / "required_operators_and_types.config").read_text()
    assert "Conv" in text
    assert "nchwc" not in text
    assert "nhwc" not in text
    assert str(tmp_path) not in text


# ---- what is asked for


def test_unknown_provider_and_format_and_pairs_that_do_not_go_together() -> None:
    wrong: tuple[tuple[dict[str, Any], str], ...] = (
        ({"provider": "rocm"}, "rocm"),
        ({"format": "tflite"}, "tflite"),
        ({"provider": "qnn", "format": "ort"}, "qnn"),
    )
    for fields, word in wrong:
        with pytest.raises(ConfigError, match=word):
            OnnxRuntimeTarget(**fields)
    assert OnnxRuntimeTarget(provider="xnnpack", format="ort").format == "ort"


@pytest.mark.parametrize("provider", sorted(PROVIDERS))
def test_schemes_and_precisions_of_each_provider(provider: str) -> None:
    target = OnnxRuntimeTarget(provider=provider)
    found = target.schemes(DEVICE)
    assert all(scheme.name in schemes.names() for scheme in found)
    prefix = {"tensorrt": "tensorrt", "openvino": "openvino", "qnn": "qnn"}.get(provider, "onnxruntime")
    assert all(scheme.name.startswith(prefix) for scheme in found)
    assert bool(found) == (provider != "coreml")
    precisions = target.precisions(DEVICE)
    assert precisions["float32"] == ""
    assert (precisions["float16"] == "") == (provider in ("cuda", "tensorrt", "qnn", "coreml"))


def test_openvino_on_graphics_computes_in_half() -> None:
    target = OnnxRuntimeTarget(provider="openvino", provider_options={"device_type": "GPU"})
    assert target.precisions(DEVICE)["float16"] == ""
    assert [scheme.name for scheme in target.schemes(DEVICE)] == ["openvino-u8s8"]


def test_an_environment_is_needed_only_where_this_one_lacks_the_provider(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(providers, "version", lambda name: "1")
    assert OnnxRuntimeTarget(provider="openvino").toolchain == ""

    def absent(name: str) -> str:
        raise PackageNotFoundError(name)

    monkeypatch.setattr(providers, "version", absent)
    needs = {key: OnnxRuntimeTarget(provider=key).toolchain for key in PROVIDERS}
    assert {key for key, name in needs.items() if name} == {"openvino", "qnn"}


def test_qnn_is_emulated_where_there_is_no_qualcomm_processor(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(platform, "machine", lambda: "AMD64")
    assert OnnxRuntimeTarget(provider="qnn").emulated
    assert not OnnxRuntimeTarget(provider="cuda").emulated
    monkeypatch.setattr(platform, "machine", lambda: "arm64")
    assert not OnnxRuntimeTarget(provider="qnn").emulated


# ---- what does not run here


def test_what_cannot_run_here_is_proven_as_far_as_it_goes_and_called_unproven(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(providers, "_NVIDIA", ("/nonexistent",))
    fields: dict[str, Any] = {"provider": "cuda", "provider_options": {"device_id": "1"}}
    assert "NVIDIA GPU" in OnnxRuntimeTarget(**fields).elsewhere(DEVICE)
    artifact = load_artifact(compiled("onnxruntime", quantized_conv(), tmp_path, **fields))
    assert artifact.placement == ()
    assert artifact.precision == "int8"
    assert "CPU provider" in artifact.proof[0]
    assert "CUDAExecutionProvider" in artifact.unproven[0]
    assert "NVIDIA GPU" in artifact.unproven[0]
    given = options_of(PROVIDERS["cuda"], artifact.session, 1)
    assert given == {"device_id": "1"}
    assert "session.x64quantprecision" not in artifact.session
    assert artifact.runtime_range.startswith(f">={'.'.join(artifact.runtime_version.split('.')[:2])}")
