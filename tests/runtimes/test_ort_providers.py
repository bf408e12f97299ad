"""Providers of ONNX Runtime are never silently absent; what they compiled keeps its name from process to process."""

from __future__ import annotations

import json
import sys
import sysconfig
from dataclasses import replace
from importlib.metadata import PackageNotFoundError
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import onnxruntime as ort
import pytest

from edgewright.core.codec import encode_json
from edgewright.core.measurement import Device
from edgewright.core.target import Artifact, NodePlacement, RunOptions
from edgewright.engine import toolchain
from edgewright.errors import ConfigError, StepFailed, ToolchainMissing
from edgewright.runtimes import _ort_providers as providers
from edgewright.runtimes import _require, load_artifact, onnxruntime
from edgewright.runtimes._ort_providers import CPU, OPTIONS, PROVIDER, PROVIDERS, obstacle, open_with, options_of
from edgewright.runtimes._place import start_for, toolchain_python
from edgewright.runtimes._remote import other_interpreter, this_interpreter
from edgewright.testing._target_models import quantized_conv
from edgewright.testing._target_tools import compiled

DEVICE = Device("local", "x86_64", "test", 2, ("avx2",), 1 << 30, "Linux 6")


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return compiled("onnxruntime", quantized_conv(), tmp_path_factory.mktemp("ort") / "made") / "model.onnx"


@pytest.mark.parametrize("key", ["cuda", "tensorrt", "xnnpack", "openvino", "coreml"])
def test_what_the_build_lacks_is_named_with_what_installs_it(key: str, model: Path) -> None:
    with pytest.raises(ToolchainMissing, match=PROVIDERS[key].name) as error:
        open_with(ort, model, onnxruntime.session_options(ort, {}, 1), {PROVIDER: key})
    assert "CPUExecutionProvider" in error.value.message
    assert PROVIDERS[key].wheel in error.value.hint


def test_a_provider_that_does_not_load_is_an_error_with_the_reason_of_native_code(model: Path) -> None:
    """As onnxruntime-gpu does without CUDA: it says why on standard error, and goes on with the CPU."""

    class Session:
        def __init__(self, *_: Any, **__: Any) -> None:
            line = (
                "[1;31m2026-01-01 [E:onnxruntime:Default, x.cc:1 f] Failed to load library with error: libcublasLt.so"
            )
            sys.__stderr__ and __import__("os").write(2, f"{line}\n".encode())

        def get_providers(self) -> list[str]:
            return [CPU]

    fake = SimpleNamespace(
        InferenceSession=Session,
        __version__="1.31.1",
        get_available_providers=lambda: ["CUDAExecutionProvider", CPU],
        set_default_logger_severity=lambda level: None,
    )
    options = onnxruntime.session_options(ort, {}, 1)
    with pytest.raises(
        ToolchainMissing, match=r"CUDAExecutionProvider cannot be loaded here.*libcublasLt\.so"
    ) as error:
        open_with(fake, model, options, {PROVIDER: "cuda"})
    assert "onnxruntime-gpu" in error.value.hint


def test_what_a_provider_says_when_it_is_made_is_told_apart(model: Path) -> None:
    place = "/onnxruntime/python/onnxruntime_pybind_state.cc:729 void f(const onnxruntime::ProviderOptions&) "
    for said, kind in (("Please install TensorRT", ToolchainMissing), ("Invalid OpenVINO EP option: x", ConfigError)):
        fake = SimpleNamespace(
            InferenceSession=_raising(RuntimeError(place + said)),
            __version__="1.31.1",
            get_available_providers=lambda: ["TensorrtExecutionProvider", CPU],
            set_default_logger_severity=lambda level: None,
        )
        with pytest.raises(kind, match=said) as error:
            open_with(fake, model, onnxruntime.session_options(ort, {}, 1), {PROVIDER: "tensorrt"})
        assert ".cc" not in error.value.message


def _raising(error: Exception) -> Any:
    def opened(*_: Any, **__: Any) -> Any:
        raise error

    return opened


def test_unknown_provider_lists_the_known_ones() -> None:
    with pytest.raises(ConfigError, match='"rocm"') as error:
        providers.provider_of({PROVIDER: "rocm"})
    assert all(key in error.value.hint for key in PROVIDERS)


def test_given_options_win_and_graphics_take_no_threads() -> None:
    openvino = PROVIDERS["openvino"]
    assert options_of(openvino, {}, 3) == {"device_type": "CPU", "precision": "FP32", "num_of_threads": "3"}
    graphics = options_of(openvino, {OPTIONS: json.dumps({"device_type": "GPU"})}, 3)
    assert graphics == {"device_type": "GPU", "precision": "FP16"}
    assert options_of(PROVIDERS["xnnpack"], {}, 2) == {"intra_op_num_threads": "2"}


def test_where_a_provider_cannot_run_is_told_in_one_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(providers, "_NVIDIA", ("/nonexistent",))
    monkeypatch.setattr(sys, "platform", "linux")
    assert "NVIDIA GPU" in obstacle(PROVIDERS["cuda"], DEVICE)
    assert "NVIDIA GPU" in obstacle(PROVIDERS["tensorrt"], DEVICE)
    assert "macOS" in obstacle(PROVIDERS["coreml"], DEVICE)
    assert "no wheel" in obstacle(PROVIDERS["xnnpack"], DEVICE)
    assert [key for key in ("cpu", "openvino", "qnn") if obstacle(PROVIDERS[key], DEVICE)] == []
    board = replace(DEVICE, name="jetson", machine="aarch64")
    assert obstacle(PROVIDERS["cuda"], board) == ""
    monkeypatch.setattr(providers, "_NVIDIA", ("/",))
    assert obstacle(PROVIDERS["cuda"], DEVICE) == ""


def _artifact(provider: str = "") -> Artifact:
    placed = (NodePlacement("a", "Conv", "OpenVINOExecutionProvider", "int8", source=("c1", "c2")),)
    session = {PROVIDER: provider} if provider else {}
    files = ("model.onnx",)
    return Artifact("onnxruntime", "onnxruntime", "1", "", files, (), (), "int8", session=session, placement=placed)


def _session(parts: dict[str, list[str]]) -> Any:
    def part(name: str, nodes: list[str]) -> Any:
        return SimpleNamespace(ep_name=name, get_nodes=lambda: [SimpleNamespace(name=n, op_type="Conv") for n in nodes])

    return SimpleNamespace(get_provider_graph_assignment_info=lambda: [part(n, nodes) for n, nodes in parts.items()])


def test_nodes_that_left_the_provider_on_this_machine_are_named() -> None:
    check, artifact = onnxruntime._require_as_proven, _artifact("openvino")
    check(_session({"OpenVINOExecutionProvider": ["c1", "c2"], CPU: ["other"]}), artifact)
    with pytest.raises(StepFailed, match='"c2" and 0 others'):
        check(_session({"OpenVINOExecutionProvider": ["c1"], CPU: ["c2"]}), artifact)
    with pytest.raises(StepFailed, match="every node"):
        check(_session({CPU: ["renamed"]}), artifact)


def test_compiled_kernels_are_named_by_their_place() -> None:
    def stable(name: str, provider: str) -> tuple[str, str]:
        event = onnxruntime._stable({"name": name, "args": {"provider": provider, "op_name": "x_7"}})
        return event["name"], event["args"]["op_name"]

    openvino, qnn = "OpenVINOExecutionProvider", "QNNExecutionProvider"
    for count in (1, 2):
        assert stable(f"{openvino}_OpenVINO-EP-subgraph_{count}_0_kernel_time", openvino) == (
            f"{openvino}#0_kernel_time",
            f"{openvino} subgraph",
        )
    assert stable(f"{qnn}_{qnn}_1654588750210011254_3_1_kernel_time", qnn)[0] == f"{qnn}#1_kernel_time"
    assert stable("conv_1_kernel_time", CPU) == ("conv_1_kernel_time", "x_7")
    assert stable("conv_1_kernel_time", "CUDAExecutionProvider") == ("conv_1_kernel_time", "x_7")


@pytest.mark.slow
def test_opened_in_the_environment_of_its_toolchain(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A stand-in interpreter shows the way taken; the real environment is in a slow test."""
    monkeypatch.setenv("EDGEWRIGHT_CACHE", str(tmp_path))
    artifact = compiled("onnxruntime", quantized_conv(), tmp_path / "made")
    described = replace(load_artifact(artifact), session={PROVIDER: "openvino"})
    (artifact / "artifact.json").write_bytes(encode_json(described))
    assert toolchain_python("onnxruntime-openvino") is None
    assert start_for(artifact) == this_interpreter()
    place = tmp_path / "toolchains" / "onnxruntime-openvino"
    (place / "abcd" / "bin").mkdir(parents=True)
    python = place / "abcd" / "bin" / "python"
    python.symlink_to(sys.executable)
    (place / "abcd" / "pyvenv.cfg").write_text(f"home = {Path(sys.executable).resolve().parent}\n")
    packages = Path(sysconfig.get_path("purelib"))
    (place / "abcd" / packages.relative_to(sys.prefix).parent).mkdir(parents=True)
    (place / "abcd" / packages.relative_to(sys.prefix)).symlink_to(packages)
    state = {"lock": "sha256:0", "folder": "abcd", "python": "3.11", "megabytes": 1}
    (place / "state.json").write_text(json.dumps(state))
    assert start_for(artifact) == other_interpreter(python)
    with (
        pytest.raises(ToolchainMissing, match="OpenVINOExecutionProvider"),
        onnxruntime.OnnxRuntime().open(artifact, RunOptions()),
    ):
        pass


def test_another_build_of_the_same_module_counts_as_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_require, "version", _only({"onnxruntime-gpu": "1.31.1"}))
    assert _require.installed_version("onnxruntime") == "1.31.1"
    assert _require.installed_version("openvino") is None
    assert toolchain.version.__wrapped__("onnxruntime") == "1.31.1"


def _only(found: dict[str, str]) -> Any:
    def version(name: str) -> str:
        if name not in found:
            raise PackageNotFoundError(name)
        return found[name]

    return version
