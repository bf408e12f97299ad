"""Runs an engine: pinned buffers, one stream, and a CUDA graph of copies and kernels per shape."""

from __future__ import annotations

import statistics
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgewright.core.target import Artifact, OperatorTime
from edgewright.core.tensors import TensorSpec
from edgewright.errors import DataError, StepFailed
from edgewright.runtimes._cuda import Cuda, PinnedArray
from edgewright.runtimes._inputs import check_inputs

Shape = tuple[int, ...]
_MOST_SHAPES = 8
"""Shapes whose buffers and graph are kept."""


@dataclass(slots=True, eq=False)
class _Tensor:
    """One tensor of the engine in page-locked and in device memory."""

    name: str
    host: PinnedArray
    device: int


@dataclass(slots=True, eq=False)
class _Prepared:
    """Buffers for one set of input shapes, and the graph once it was captured."""

    inputs: tuple[_Tensor, ...]
    outputs: tuple[_Tensor, ...]
    graph: int = 0
    runs: int = 0


class TrtRunner:
    """An engine with one execution context.

    A batch that the engine was not built for runs in blocks of the largest one that it was.

    Args:
        artifact: What it was made of.
        engine: Deserialised.
        cuda: The device it runs on.
        profile: Input with free axes -> smallest, usual and largest shape.
        graphs: Capture copies and kernels into a CUDA graph, which launches them with one call.
    """

    def __init__(
        self, artifact: Artifact, engine: Any, cuda: Cuda, profile: Mapping[str, list[list[int]]], *, graphs: bool
    ) -> None:
        self.inputs: tuple[TensorSpec, ...] = artifact.inputs
        self.outputs: tuple[TensorSpec, ...] = artifact.outputs
        self._engine = engine
        self._cuda = cuda
        self._graphs = graphs
        self._context = engine.create_execution_context()
        self._prepared: dict[tuple[Shape, ...], _Prepared] = {}
        self._bound: _Prepared | None = None
        self._limits = {name: (shapes[0], shapes[2]) for name, shapes in profile.items()}
        self._times: dict[str, list[float]] = {}

    def run(self, inputs: Mapping[str, NDArray[Any]]) -> Mapping[str, NDArray[Any]]:
        """See `edgewright.core.target.Runner`."""
        check_inputs(self.inputs, inputs)
        blocks = [self._block(block, kept) for block, kept in self._blocks(inputs)]
        if len(blocks) == 1:
            return blocks[0]
        return {spec.name: np.concatenate([block[spec.name] for block in blocks]) for spec in self.outputs}

    def operator_times(self) -> tuple[OperatorTime, ...]:
        """See `edgewright.core.target.Runner`."""
        return tuple(OperatorTime(name, name, statistics.median(found)) for name, found in self._times.items())

    def profile(self, trt: Any) -> None:
        """Has TensorRT report the time of every layer from now on."""
        times = self._times

        class Profiler(trt.IProfiler):  # type: ignore[misc]
            def __init__(self) -> None:
                trt.IProfiler.__init__(self)

            def report_layer_time(self, layer_name: str, ms: float) -> None:
                times.setdefault(layer_name, []).append(ms * 1000.0)

        self._profiler = Profiler()
        self._context.profiler = self._profiler

    def close(self) -> None:
        """Gives memory and graphs back."""
        for prepared in self._prepared.values():
            self._free(prepared)
        self._prepared.clear()
        self._context = None
        self._engine = None

    def _blocks(self, inputs: Mapping[str, NDArray[Any]]) -> Iterator[tuple[dict[str, NDArray[Any]], int]]:
        """Yields inputs that the engine takes, and how many of their samples are real."""
        batched = {s.name for s in self.inputs if s.shape and isinstance(s.shape[0], str) and s.name in self._limits}
        if not batched:
            yield {spec.name: inputs[spec.name] for spec in self.inputs}, 0
            return
        count = len(inputs[min(batched)])
        least = max(self._limits[name][0][0] for name in batched)
        most = min(self._limits[name][1][0] for name in batched)
        for start in range(0, count, most):
            real = min(most, count - start)
            yield (
                {
                    spec.name: _padded(inputs[spec.name][start : start + real], least)
                    if spec.name in batched
                    else inputs[spec.name]
                    for spec in self.inputs
                },
                real,
            )

    def _block(self, inputs: Mapping[str, NDArray[Any]], real: int) -> dict[str, NDArray[Any]]:
        prepared = self._buffers(tuple(inputs[spec.name].shape for spec in self.inputs))
        for tensor in prepared.inputs:
            np.copyto(tensor.host.array, inputs[tensor.name], casting="unsafe")
        self._launch(prepared)
        found = {}
        for tensor, spec in zip(prepared.outputs, self.outputs, strict=True):
            answer = tensor.host.array.astype(spec.dtype)  # a copy: the buffer is written again by the next run
            batched = real and spec.shape and isinstance(spec.shape[0], str)
            found[spec.name] = answer[:real] if batched else answer
        return found

    def _launch(self, prepared: _Prepared) -> None:
        """Runs once plainly, as TensorRT asks for before a capture; captures the second time; launches from then on."""
        graph = prepared.graph or self._started(prepared)
        if graph:
            self._cuda.launch(graph)
        self._cuda.synchronize()
        prepared.graph = graph
        prepared.runs += 1

    def _started(self, prepared: _Prepared) -> int:
        """Returns the graph to launch; 0 where everything was put on the stream already."""
        self._bind(prepared)
        graph = self._captured(prepared) if self._graphs and prepared.runs else 0
        if not graph:
            self._enqueue(prepared)
        return graph

    def _captured(self, prepared: _Prepared) -> int:
        """Captures; a network whose kernels cannot be (loops, sizes that depend on data) goes on without a graph."""
        self._cuda.begin_capture()
        try:
            self._enqueue(prepared)
        except StepFailed:
            self._graphs = False
        try:
            graph = self._cuda.end_capture()
        except StepFailed:
            self._graphs, graph = False, 0
        return graph if self._graphs else 0

    def _enqueue(self, prepared: _Prepared) -> None:
        for tensor in prepared.inputs:
            self._cuda.to_device(tensor.host, tensor.device)
        if not self._context.execute_async_v3(self._cuda.stream):
            raise StepFailed("TensorRT could not run the engine", hint="try the original model on the same input")
        for tensor in prepared.outputs:
            self._cuda.to_host(tensor.device, tensor.host)

    def _bind(self, prepared: _Prepared) -> None:
        if self._bound is prepared:
            return
        for tensor in prepared.inputs:
            self._context.set_input_shape(tensor.name, tensor.host.array.shape)
        for tensor in (*prepared.inputs, *prepared.outputs):
            self._context.set_tensor_address(tensor.name, tensor.device)
        self._bound = prepared

    def _buffers(self, shapes: tuple[Shape, ...]) -> _Prepared:
        found = self._prepared.get(shapes)
        if found is None:
            if len(self._prepared) >= _MOST_SHAPES:
                self._free(self._prepared.pop(next(iter(self._prepared))))
            found = self._prepared[shapes] = self._prepare(shapes)
        return found

    def _prepare(self, shapes: tuple[Shape, ...]) -> _Prepared:
        for spec, shape in zip(self.inputs, shapes, strict=True):
            if not self._context.set_input_shape(spec.name, shape):
                low, high = self._limits.get(spec.name, (shape, shape))
                raise DataError(
                    f'input "{spec.name}": shape {list(shape)}, the engine takes {list(low)} to {list(high)}',
                    hint="widen `profiles` of the target and compile again",
                )
        inputs = tuple(map(self._tensor, (spec.name for spec in self.inputs), shapes))
        sizes = [tuple(self._context.get_tensor_shape(spec.name)) for spec in self.outputs]
        outputs = tuple(map(self._tensor, (spec.name for spec in self.outputs), sizes))
        return _Prepared(inputs, outputs)

    def _tensor(self, name: str, shape: Shape) -> _Tensor:
        kind = np.dtype(_NUMPY[self._engine.get_tensor_dtype(name).name])
        host = self._cuda.pinned(tuple(shape), kind)
        return _Tensor(name, host, self._cuda.allocate(host.array.nbytes))

    def _free(self, prepared: _Prepared) -> None:
        if prepared.graph:
            self._cuda.free_graph(prepared.graph)
        if self._bound is prepared:
            self._bound = None
        for tensor in (*prepared.inputs, *prepared.outputs):
            self._cuda.free(tensor.device)
            self._cuda.free_pinned(tensor.host)


_NUMPY = {
    "FLOAT": "float32",
    "HALF": "float16",
    "INT8": "int8",
    "UINT8": "uint8",
    "INT32": "int32",
    "INT64": "int64",
    "BOOL": "bool",
}
"""TensorRT's names of types; it has no others that NumPy knows."""


def _padded(array: NDArray[Any], least: int) -> NDArray[Any]:
    """Repeats the last sample until there are `least`."""
    lacking = least - len(array)
    return array if lacking <= 0 else np.concatenate([array, np.repeat(array[-1:], lacking, axis=0)])
