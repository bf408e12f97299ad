"""Builds a TensorRT engine as the `engine.json` beside the model says. Needs Python and TensorRT, nothing else.

One file for three uses: it travels in every artifact as `build_engine.py`, the runtime calls `build` on the device, and
the toolchain `tensorrt-rtx` runs it to prove that a model parses and builds for a GPU that is not here.

    python build_engine.py                           # writes model.engine for the GPU of this machine
    python build_engine.py --architecture sm_89      # TensorRT-RTX only: for a named GPU, without one
"""

from __future__ import annotations

import argparse
import contextlib
import importlib
import json
import os
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

DESCRIPTION = "engine.json"
ENGINE = "model.engine"
MODULES = ("tensorrt", "tensorrt_rtx", "tensorrt_rtx_bindings")
"""Names TensorRT goes by: the full one, TensorRT-RTX, and its bindings where the package that joins them is absent."""
_MIB = 1 << 20


class BuildFailed(RuntimeError):
    """TensorRT refused the model; `findings` names nodes where its parser did."""

    def __init__(self, message: str, findings: tuple[dict[str, str], ...] = ()) -> None:
        super().__init__(message)
        self.findings = findings


def import_tensorrt() -> Any:
    """Imports whichever TensorRT is installed.

    Raises:
        ImportError: None is.
    """
    for name in MODULES[:-1]:
        with contextlib.suppress(ImportError):
            return importlib.import_module(name)
    return importlib.import_module(MODULES[-1])


def describe(folder: Path) -> dict[str, Any]:
    """Reads `engine.json`.

    Raises:
        BuildFailed: It is missing or damaged.
    """
    try:
        found = json.loads((folder / DESCRIPTION).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise BuildFailed(f"{folder / DESCRIPTION} cannot be read: {error}") from error
    if not isinstance(found, dict) or found.get("schema") != 1:
        raise BuildFailed(f"{folder / DESCRIPTION} is of another kind: expected schema 1")
    return found


class Builder:
    """One parsed network, from which engines are built.

    Args:
        trt: The module `tensorrt` or `tensorrt_rtx`.
        folder: With `engine.json` and the model.
    """

    def __init__(self, trt: Any, folder: Path) -> None:
        self.trt = trt
        self.folder = folder
        self.wanted = describe(folder)
        self.messages: list[str] = []
        self._log = _logger(trt, self.messages)
        self._builder = trt.Builder(self._log)
        self.network = self._builder.create_network(self._network_flags())

    def parse(self) -> None:
        """Reads the ONNX file into the network.

        Raises:
            BuildFailed: The parser refuses it; every node it names is in `findings`.
        """
        parser = self.trt.OnnxParser(self.network, self._log)
        if not parser.parse_from_file(str(self.folder / self.wanted["onnx"])):
            findings = tuple(_finding(parser.get_error(index)) for index in range(parser.num_errors))
            told = "; ".join(f'node "{each["node"]}" ({each["op"]}): {each["message"]}' for each in findings[:5])
            raise BuildFailed(f"TensorRT {self.trt.__version__} does not read the model: {told}", findings)
        self._set_ranges()

    def build(self, timing_cache: Path | None = None, architecture: str = "") -> bytes:
        """Builds one engine.

        Args:
            timing_cache: File of kernel timings, read and written back; None for none.
            architecture: For TensorRT-RTX: the GPU to build for, such as `sm_89`; empty for the one here.

        Raises:
            BuildFailed: TensorRT cannot build it; the end of its log is in the message.
        """
        config = self._config(architecture)
        cache = self._timing_cache(config, timing_cache)
        before = len(self.messages)
        built = self._builder.build_serialized_network(self.network, config)
        if built is None:
            told = "; ".join(self.messages[before:][-3:]) or "no reason given"
            raise BuildFailed(f"TensorRT {self.trt.__version__} cannot build the engine: {told}")
        if cache is not None and timing_cache is not None:
            write(timing_cache, bytes(memoryview(config.get_timing_cache().serialize())))
        return bytes(memoryview(built))

    def _network_flags(self) -> int:
        flags = self.trt.NetworkDefinitionCreationFlag
        names = ["EXPLICIT_BATCH"] if _major(self.trt) < 10 else []
        if self.wanted["typing"] == "strong":
            names.append("STRONGLY_TYPED")
            if not hasattr(flags, "STRONGLY_TYPED") and _major(self.trt) < 10:
                raise BuildFailed(
                    f"the model fixes the type of every tensor, which TensorRT {self.trt.__version__} does not take: "
                    "export it for this GPU by name (field `gpu`)"
                )
        return sum(1 << int(getattr(flags, name)) for name in names if hasattr(flags, name))

    def _config(self, architecture: str) -> Any:
        config = self._builder.create_builder_config()
        for name in self._flags(architecture):
            if not hasattr(self.trt.BuilderFlag, name):
                raise BuildFailed(
                    f"TensorRT {self.trt.__version__} has no flag {name}: from 11 on the types of the model decide; "
                    "export it for a newer GPU, or build with TensorRT 8 to 10"
                )
            config.set_flag(getattr(self.trt.BuilderFlag, name))
        if self.wanted["workspace_mib"]:
            config.set_memory_pool_limit(self.trt.MemoryPoolType.WORKSPACE, self.wanted["workspace_mib"] * _MIB)
        if self.wanted["dla_core"] is not None and not architecture:
            config.default_device_type = self.trt.DeviceType.DLA
            config.DLA_core = self.wanted["dla_core"]
        if hasattr(config, "profiling_verbosity"):
            config.profiling_verbosity = self.trt.ProfilingVerbosity.DETAILED
        self._set_profile(config)
        _set_architecture(self.trt, config, architecture)
        return config

    def _flags(self, architecture: str) -> list[str]:
        """Returns the builder's flags; for a named architecture those of the network's types alone count."""
        names = [] if architecture else [name.upper() for name in self.wanted["flags"]]
        if self.wanted["sparse"]:
            names.append("SPARSE_WEIGHTS")
        if self.wanted["dla_core"] is not None and self.wanted["gpu_fallback"] and not architecture:
            names.append("GPU_FALLBACK")
        return names

    def _set_profile(self, config: Any) -> None:
        shapes = self.wanted["profile"]
        if not shapes:
            return
        profile = self._builder.create_optimization_profile()
        for name, (least, best, most) in shapes.items():
            profile.set_shape(name, least, best, most)
        config.add_optimization_profile(profile)

    def _set_ranges(self) -> None:
        """Gives every tensor the range of the plan, where scales cannot stand in the graph (DLA up to TensorRT 10)."""
        ranges = self.wanted["ranges"]
        for index in range(self.network.num_layers if ranges else 0):
            layer = self.network.get_layer(index)
            for position in range(layer.num_outputs):
                _set_range(layer.get_output(position), ranges)
        for index in range(self.network.num_inputs if ranges else 0):
            _set_range(self.network.get_input(index), ranges)

    def _timing_cache(self, config: Any, file: Path | None) -> Any:
        """Starts from the kernel timings of an earlier build; a damaged or foreign file is as good as none."""
        if file is None or not hasattr(config, "create_timing_cache"):
            return None
        known = file.read_bytes() if file.is_file() else b""
        cache = config.create_timing_cache(known) or config.create_timing_cache(b"")
        if cache is None or not (config.set_timing_cache(cache, False) or known == b""):
            return None
        return cache


def write(path: Path, content: bytes) -> None:
    """Writes a file whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f"{path.name}.{os.getpid()}.tmp")
    try:
        with temporary.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def _logger(trt: Any, messages: list[str]) -> Any:
    class Log(trt.ILogger):  # type: ignore[misc]
        def __init__(self) -> None:
            trt.ILogger.__init__(self)

        def log(self, severity: Any, message: str) -> None:
            if severity in (trt.ILogger.ERROR, trt.ILogger.INTERNAL_ERROR):
                messages.append(message)

    return Log()


def _finding(error: Any) -> dict[str, str]:
    """Returns what the parser says of one node; versions before 9 name no node."""
    node = error.node_name() if hasattr(error, "node_name") else str(error.node())
    op = error.node_operator() if hasattr(error, "node_operator") else ""
    return {"node": node, "op": op, "message": " ".join(error.desc().split())}


def _set_range(tensor: Any, ranges: dict[str, float]) -> None:
    if tensor is not None and tensor.name in ranges and hasattr(tensor, "dynamic_range"):
        tensor.dynamic_range = (-ranges[tensor.name], ranges[tensor.name])


def _set_architecture(trt: Any, config: Any, architecture: str) -> None:
    if not architecture:
        return
    if not hasattr(trt, "ComputeCapability"):
        raise BuildFailed("TensorRT builds for the GPU it runs on; only TensorRT-RTX builds for a named one")
    name = architecture.replace("_", "").upper()
    if not hasattr(trt.ComputeCapability, name):
        raise BuildFailed(f"TensorRT-RTX {trt.__version__} does not build for {architecture}")
    config.num_compute_capabilities = 1
    config.set_compute_capability(getattr(trt.ComputeCapability, name), 0)


def _major(trt: Any) -> int:
    """Returns the major version of TensorRT's API; TensorRT-RTX counts on its own and is newer than 10."""
    return 11 if "rtx" in trt.__name__ else int(str(trt.__version__).split(".")[0])


def _report(builder: Builder, out: Path, architectures: list[str]) -> Iterator[dict[str, Any]]:
    """Builds for every architecture; yields one line of the report each."""
    for name in architectures:
        started = time.perf_counter()
        try:
            content = builder.build(architecture=name)
        except BuildFailed as error:
            yield {"architecture": name, "error": str(error)}
            continue
        file = out.with_name(f"{out.stem}.{name}{out.suffix}") if name else out
        write(file, content)
        seconds = round(time.perf_counter() - started, 3)
        yield {"architecture": name, "file": str(file), "bytes": len(content), "seconds": seconds}


def main(arguments: list[str] | None = None) -> int:
    """Builds what the arguments name; prints a report as JSON lines. Returns the exit status."""
    parser = argparse.ArgumentParser(
        description="Build the TensorRT engine of this artifact for the GPU of this machine."
    )
    parser.add_argument("--folder", type=Path, default=Path(__file__).resolve().parent, help="where engine.json is")
    parser.add_argument("--out", type=Path, help="file to write; model.engine beside the model by default")
    parser.add_argument("--architecture", action="append", help="TensorRT-RTX: build for this GPU, such as sm_89")
    parser.add_argument("--parse-only", action="store_true", help="stop after parsing")
    given = parser.parse_args(arguments)
    trt = import_tensorrt()
    out = given.out or given.folder / ENGINE
    try:
        builder = Builder(trt, given.folder)
        builder.parse()
    except BuildFailed as error:
        print(json.dumps({"version": trt.__version__, "error": str(error), "findings": error.findings}), flush=True)
        return 1
    print(json.dumps({"version": trt.__version__, "layers": builder.network.num_layers}), flush=True)
    lines = [] if given.parse_only else list(_report(builder, out, given.architecture or [""]))
    for line in lines:
        print(json.dumps(line), flush=True)
    return int(any("error" in line for line in lines))


if __name__ == "__main__":
    sys.exit(main())
