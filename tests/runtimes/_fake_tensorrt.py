"""A TensorRT and a CUDA driver of a few lines: they record what is called, and compute y = 2 x on the host."""

from __future__ import annotations

import ctypes
import json
from collections import Counter
from pathlib import Path
from types import SimpleNamespace
from typing import Any

CALLS: Counter[str] = Counter()


class Named:
    def __init__(self, name: str) -> None:
        self.name = name


class Dims(tuple[int, ...]):
    pass


class Context:
    """Doubles what lies at the input's address; sizes follow from the shape that was set."""

    def __init__(self, module: Any) -> None:
        self.module, self.shape, self.at = module, (), {}
        CALLS["create_execution_context"] += 1

    def set_input_shape(self, name: str, shape: tuple[int, ...]) -> bool:
        self.shape = tuple(shape)
        return len(shape) == 2 and shape[1] == 3 and shape[0] in self.module.batches

    def get_tensor_shape(self, name: str) -> Dims:
        return Dims(self.shape)

    def set_tensor_address(self, name: str, address: int) -> bool:
        self.at[name] = address
        return True

    def execute_async_v3(self, stream: int) -> bool:
        CALLS["execute_async_v3"] += 1
        count = self.shape[0] * self.shape[1]
        source, target = ((ctypes.c_float * count).from_address(self.at[name]) for name in ("x", "y"))
        self.module.driver.do(lambda: target.__setitem__(slice(None), [2 * value for value in source]))
        return True


class Engine:
    def __init__(self, module: Any) -> None:
        self.module = module

    def create_execution_context(self) -> Context:
        return Context(self.module)

    def get_tensor_dtype(self, name: str) -> Named:
        return Named("FLOAT")


class Builder:
    def __init__(self, log: Any) -> None:
        self.profiles: list[Any] = []

    def create_network(self, flags: int) -> Any:
        return SimpleNamespace(flags=flags, num_layers=1, num_inputs=0)

    def create_builder_config(self) -> Any:
        return Config()

    def create_optimization_profile(self) -> Any:
        return SimpleNamespace(set_shape=lambda *shapes: CALLS.update(["set_shape"]))

    def build_serialized_network(self, network: Any, config: Any) -> bytes:
        CALLS["build"] += 1
        CALLS["timings known" if config.known else "timings unknown"] += 1
        return b"ENGINE" + bytes([CALLS["build"]])


class Config:
    known = b""

    def add_optimization_profile(self, profile: Any) -> None:
        CALLS["profile"] += 1

    def create_timing_cache(self, known: bytes) -> Any:
        return SimpleNamespace(known=known)

    def set_timing_cache(self, cache: Any, mismatch: bool) -> bool:
        self.known = cache.known
        return True

    def get_timing_cache(self) -> Any:
        return SimpleNamespace(serialize=lambda: b"timings")

    profiling_verbosity: Any = None


class Parser:
    num_errors = 1

    def __init__(self, network: Any, log: Any) -> None:
        pass

    def parse_from_file(self, file: str) -> bool:
        return b"damaged" not in Path(file).read_bytes()

    def get_error(self, index: int) -> Any:
        return SimpleNamespace(
            node=lambda: 1, node_name=lambda: "conv", node_operator=lambda: "Conv", desc=lambda: "not  here"
        )


class Driver:
    """libcuda: device memory is host memory, graphs are lists of calls."""

    def __init__(self, version: int = 12060) -> None:
        self.version, self.memory, self.recording, self.graphs = version, {}, None, {}

    def do(self, action: Any) -> None:
        if self.recording is not None:
            self.recording.append(action)
        else:
            action()

    def __getattr__(self, name: str) -> Any:
        def call(*arguments: Any) -> int:
            CALLS[name] += 1
            method = getattr(type(self), f"do_{name.removesuffix('_v2')}", None)
            return method(self, *arguments) or 0 if method else 0

        return call

    def _new(self, at: Any, size: Any) -> None:
        buffer = ctypes.create_string_buffer(size.value)
        at._obj.value = ctypes.addressof(buffer)
        self.memory[at._obj.value] = buffer

    def do_cuMemAlloc(self, at: Any, size: Any) -> None:
        self._new(at, size)

    def do_cuMemHostAlloc(self, at: Any, size: Any, flags: int) -> None:
        self._new(at, size)

    def do_cuMemFree(self, at: Any) -> None:
        del self.memory[at.value]

    def do_cuMemFreeHost(self, at: Any) -> None:
        del self.memory[at.value]

    def do_cuMemcpyHtoDAsync(self, to: Any, at: Any, size: Any, stream: Any) -> None:
        self.do(lambda: ctypes.memmove(to.value, at.value, size.value))

    def do_cuMemcpyDtoHAsync(self, to: Any, at: Any, size: Any, stream: Any) -> None:
        self.do(lambda: ctypes.memmove(to.value, at.value, size.value))

    def do_cuDeviceGetName(self, into: Any, size: int, device: Any) -> None:
        into.value = b"Fake GPU"

    def do_cuDeviceGetAttribute(self, into: Any, attribute: int, device: Any) -> None:
        into._obj.value = {75: 8, 76: 7}[attribute]

    def do_cuDriverGetVersion(self, into: Any) -> None:
        into._obj.value = self.version

    def do_cuGetErrorString(self, status: int, into: Any) -> None:
        into._obj.value = b"unspecified launch failure"

    def do_cuStreamBeginCapture(self, stream: Any, mode: int) -> None:
        self.recording = []

    def do_cuStreamEndCapture(self, stream: Any, graph: Any) -> None:
        self.graphs[len(self.graphs) + 1] = self.recording
        self.recording, graph._obj.value = None, len(self.graphs)

    def do_cuGraphInstantiateWithFlags(self, made: Any, graph: Any, flags: Any) -> None:
        made._obj.value = graph.value

    def do_cuGraphLaunch(self, graph: Any, stream: Any) -> None:
        for action in self.graphs[graph.value]:
            action()


def module(driver: Driver, version: str = "10.3.0", batches: tuple[int, ...] = (1, 2)) -> Any:
    """Returns what `import tensorrt` would give."""

    class ILogger:
        ERROR, INTERNAL_ERROR = 1, 0

        def __init__(self) -> None:
            pass

    class Logger(ILogger):
        def __init__(self, severity: int = 0) -> None:
            super().__init__()

    made = SimpleNamespace(
        __name__="tensorrt",
        __version__=version,
        driver=driver,
        batches=batches,
        ILogger=ILogger,
        Logger=Logger,
        Builder=Builder,
        OnnxParser=Parser,
        NetworkDefinitionCreationFlag=SimpleNamespace(STRONGLY_TYPED=1),
        BuilderFlag=SimpleNamespace(),
        ProfilingVerbosity=SimpleNamespace(DETAILED=2),
    )

    class Runtime:
        def __init__(self, log: Any) -> None:
            pass

        def deserialize_cuda_engine(self, content: bytes) -> Engine | None:
            CALLS["deserialize"] += 1
            return Engine(made) if content.startswith(b"ENGINE") else None

    made.Runtime = Runtime
    return made


def recipe(**fields: Any) -> bytes:
    """Returns an `engine.json`."""
    plain = {"schema": 1, "typing": "strong", "flags": [], "sparse": False, "dla_core": None, "gpu_fallback": True}
    rest = {"profile": {"x": [[1, 3], [1, 3], [2, 3]]}, "workspace_mib": 0, "ranges": {}, "digests": {}, "gpu": ""}
    return json.dumps({**plain, **rest, "onnx": "model.onnx", **fields}).encode()
