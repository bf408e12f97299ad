"""ONNX Runtime's execution providers: what each is called, what installs it, and sessions that really have it.

ONNX Runtime goes on without a provider that it cannot load, and a provider without nodes is listed as present. So a
session is opened only when its provider is among those of the session, and the nodes that it took are asked for.
"""

from __future__ import annotations

import importlib.util
import json
import os
import platform
import re
import sys
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from edgewright.core.measurement import Device
from edgewright.errors import ConfigError, ToolchainMissing
from edgewright.runtimes._require import require

CPU = "CPUExecutionProvider"
PROVIDER = "edgewright.provider"
"""Session entry of our own: the key in `PROVIDERS` of the provider to run on."""
OPTIONS = "edgewright.provider_options"
"""Session entry of our own: the provider's options, as one JSON object of strings."""
RECORD = "session.record_ep_graph_assignment_info"
_MADE = "onnxruntime_pybind_state.cc"
"""Where a provider is made: errors from there are about the provider, not about the model."""
_SOURCE = re.compile(r"^\S+\.cc:\d+ [^)]*\)( ?\[\w+\]| : \d+ : FAIL :)* ?")
_INSTEAD = "pip uninstall -y onnxruntime && pip install {}"


@dataclass(frozen=True, slots=True)
class Provider:
    """One execution provider.

    Attributes:
        key: Its name in a project.
        name: ONNX Runtime's name for it.
        install: The line, or what else, that brings it.
        wheel: Distribution that has it; empty where none does.
        plugin: Module that knows where its library is, for providers that are loaded at run time.
        toolchain: Environment of its own that it can run in.
        fallbacks: Providers that take what it leaves, before the CPU.
        defaults: Options unless others are given; `{threads}` is replaced.
        compiles: It compiles the nodes it takes into few kernels.
    """

    key: str
    name: str
    install: str
    wheel: str = ""
    plugin: str = ""
    toolchain: str = ""
    fallbacks: tuple[str, ...] = ()
    defaults: Mapping[str, str] = field(default_factory=dict)
    compiles: bool = True


_ALL = (
    Provider("cpu", CPU, "pip install onnxruntime", "onnxruntime", compiles=False),
    Provider("cuda", "CUDAExecutionProvider", _INSTEAD.format("onnxruntime-gpu"), "onnxruntime-gpu", compiles=False),
    Provider(
        "tensorrt",
        "TensorrtExecutionProvider",
        _INSTEAD.format("onnxruntime-gpu") + ", with NVIDIA's TensorRT",
        "onnxruntime-gpu",
        fallbacks=("CUDAExecutionProvider",),
    ),
    Provider(
        "xnnpack",
        "XnnpackExecutionProvider",
        "no wheel has it: use ONNX Runtime's package for Android or iOS, or build it with --use_xnnpack",
        defaults={"intra_op_num_threads": "{threads}"},
        compiles=False,
    ),
    Provider(
        "openvino",
        "OpenVINOExecutionProvider",
        "edgewright toolchain install onnxruntime-openvino, or: " + _INSTEAD.format("onnxruntime-openvino"),
        "onnxruntime-openvino",
        toolchain="onnxruntime-openvino",
        defaults={"device_type": "CPU", "precision": "FP32", "num_of_threads": "{threads}"},
    ),
    Provider(
        "qnn",
        "QNNExecutionProvider",
        "edgewright toolchain install onnxruntime-qnn, or: pip install onnxruntime-qnn",
        "onnxruntime-qnn",
        plugin="onnxruntime_qnn",
        toolchain="onnxruntime-qnn",
        defaults={"backend_type": "htp", "offload_graph_io_quantization": "0"},
    ),
    Provider(
        "coreml",
        "CoreMLExecutionProvider",
        "pip install onnxruntime on macOS, whose wheels have it",
        "onnxruntime",
        defaults={"ModelFormat": "MLProgram"},
    ),
)
PROVIDERS: Mapping[str, Provider] = {provider.key: provider for provider in _ALL}
"""Every provider that a project can name."""


def provider_of(entries: Mapping[str, str]) -> Provider:
    """Returns the provider that session entries ask for.

    Raises:
        ConfigError: There is none of that name.
    """
    key = entries.get(PROVIDER, "cpu")
    if key not in PROVIDERS:
        raise ConfigError(f'provider "{key}" is unknown', hint=f"one of {', '.join(PROVIDERS)}")
    return PROVIDERS[key]


def options_of(provider: Provider, entries: Mapping[str, str], threads: int) -> dict[str, str]:
    """Returns the provider's options: its defaults under those of the session entries.

    OpenVINO takes its number of threads on processors only, and computes in float16 on anything else.
    """
    given: dict[str, str] = json.loads(entries.get(OPTIONS, "{}"))
    defaults = {key: value.format(threads=threads) for key, value in provider.defaults.items()}
    if provider.key == "openvino" and given.get("device_type", "CPU") != "CPU":
        defaults = {"precision": "FP16"}
    return {**defaults, **given}


def is_here(ort: Any, provider: Provider) -> bool:
    """Returns whether the installed build of ONNX Runtime has the provider, loadable or not."""
    if provider.plugin:
        return importlib.util.find_spec(provider.plugin) is not None
    return provider.name in ort.get_available_providers()


def is_installed(provider: Provider) -> bool:
    """Returns whether a distribution that has the provider is installed; imports nothing."""
    return bool(provider.wheel) and _has(provider.wheel)


def _has(distribution: str) -> bool:
    try:
        return bool(version(distribution))
    except PackageNotFoundError:
        return False


def simulates_qnn() -> bool:
    """Returns whether QNN runs as a simulator on this machine: on x86 it has no processor of its own."""
    return platform.machine().lower() in ("x86_64", "amd64")


def obstacle(provider: Provider, device: Device) -> str:
    """Says why `provider` cannot run on `device` whatever is installed there; empty where it can or may.

    Only of this machine is more known than its system and instruction set.
    """
    here = device.name == "local"
    if provider.key in ("cuda", "tensorrt") and here and not any(map(os.path.exists, _NVIDIA)):
        return f"{provider.name} needs an NVIDIA GPU, and this machine has none"
    if provider.key == "coreml" and (sys.platform if here else device.system).lower()[:6] != "darwin":
        return "Core ML runs on macOS and iOS only"
    if provider.key == "xnnpack" and here and not _xnnpack_here():
        return f"this build of ONNX Runtime has no {provider.name}: {provider.install}"
    return ""


_NVIDIA = ("/dev/nvidiactl", "/dev/nvhost-gpu", "/dev/nvgpu")


def _xnnpack_here() -> bool:
    if importlib.util.find_spec("onnxruntime") is None:
        return False
    return PROVIDERS["xnnpack"].name in require("onnxruntime", "onnxruntime").get_available_providers()


def open_with(ort: Any, file: Path, options: Any, entries: Mapping[str, str], **more: Any) -> Any:
    """Opens `file` on the provider that `entries` ask for.

    Raises:
        ToolchainMissing: This build lacks it, or it cannot be loaded here; the message says why.
    """
    provider = provider_of(entries)
    if provider.name == CPU:
        return ort.InferenceSession(str(file), options, providers=[CPU], **more)
    chosen = options_of(provider, entries, options.intra_op_num_threads)
    if not is_here(ort, provider):
        has = ", ".join(ort.get_available_providers())
        raise ToolchainMissing(
            f"ONNX Runtime {ort.__version__} as installed has no {provider.name}; it has {has}", hint=provider.install
        )
    options.add_session_config_entry(RECORD, "1")
    with _heard(ort) as said:
        session = _opened(ort, file, options, (provider, chosen), more)
        absent = provider.name not in session.get_providers()
    if absent:
        raise _unloadable(ort, provider, said.reason() or "it does not say why")
    return session


def _unloadable(ort: Any, provider: Provider, why: str) -> ToolchainMissing:
    return ToolchainMissing(
        f"{provider.name} cannot be loaded here, and ONNX Runtime {ort.__version__} would go on without it: {why}",
        hint=f"install what the message names; the provider itself comes with: {provider.install}",
    )


def _opened(ort: Any, file: Path, options: Any, wanted: tuple[Provider, dict[str, str]], more: dict[str, Any]) -> Any:
    try:
        return _session(ort, file, options, wanted, more)
    except Exception as error:  # its exception classes share no base but Exception
        if _MADE not in str(error):
            raise
        why = _plain(str(error))
        if "option" in why.lower():
            hint = "correct provider_options: ONNX Runtime's documentation of the provider lists them"
            raise ConfigError(f"{wanted[0].name}: {why}", hint=hint) from error
        raise _unloadable(ort, wanted[0], why) from error


def _session(ort: Any, file: Path, options: Any, wanted: tuple[Provider, dict[str, str]], more: dict[str, Any]) -> Any:
    provider, chosen = wanted
    if provider.plugin:
        options.add_provider_for_devices(_devices(ort, provider), chosen)
        return ort.InferenceSession(str(file), options, enable_fallback=0, **more)
    names = [(provider.name, chosen), *provider.fallbacks]
    return ort.InferenceSession(str(file), options, providers=names, enable_fallback=0, **more)


def _devices(ort: Any, provider: Provider) -> list[Any]:
    """Registers the provider's library once per process, and returns a device that it offers."""
    found = [device for device in ort.get_ep_devices() if device.ep_name == provider.name]
    if not found:
        library = require(provider.plugin, "onnxruntime").get_library_path()
        ort.register_execution_provider_library(provider.name, library)
        found = [device for device in ort.get_ep_devices() if device.ep_name == provider.name]
    if not found:
        raise ToolchainMissing(
            f"{provider.name} offers no device on this machine", hint=f"it needs its processor; {provider.install}"
        )
    return found[:1]


def assigned(session: Any) -> Mapping[str, tuple[tuple[tuple[str, str], ...], ...]]:
    """Returns provider -> parts of the graph that it took, each as name and operator of its nodes; in graph order.

    Empty before ONNX Runtime 1.24, which does not tell.
    """
    if not hasattr(session, "get_provider_graph_assignment_info"):
        return {}
    found: dict[str, list[tuple[tuple[str, str], ...]]] = {}
    for part in session.get_provider_graph_assignment_info():
        nodes = tuple((node.name, node.op_type) for node in part.get_nodes())
        found.setdefault(part.ep_name, []).append(nodes)
    return {name: tuple(parts) for name, parts in found.items()}


class _Heard:
    """What ONNX Runtime's native code printed while a session was opened."""

    def __init__(self) -> None:
        self.text = ""

    def reason(self) -> str:
        """Returns its errors without time, place and colour, the first one first."""
        lines = [line for line in self.text.splitlines() if ":onnxruntime:" in line and "[E:" in line]
        lines = lines or [line for line in self.text.splitlines() if line.strip()]
        return _plain(lines[0].partition("] ")[2]) if lines else ""


def _plain(message: str) -> str:
    """Drops the place in ONNX Runtime's sources and the signature there from a message."""
    return _SOURCE.sub("", " ".join(message.split()))[:600]


@contextmanager
def _heard(ort: Any) -> Iterator[_Heard]:
    """Collects what native code writes to standard error: a provider's reason is written nowhere else."""
    said = _Heard()
    with tempfile.TemporaryFile() as file:
        sys.stderr.flush()
        kept = os.dup(2)
        os.dup2(file.fileno(), 2)
        ort.set_default_logger_severity(3)
        try:
            yield said
        finally:
            ort.set_default_logger_severity(4)
            os.dup2(kept, 2)
            os.close(kept)
            file.seek(0)
            said.text = file.read().decode("utf-8", "replace")
