"""CUDA's driver interface (libcuda, which comes with every GPU driver), as much as running an engine takes.

The driver and not the runtime library: nothing has to be installed beside TensorRT. Names and meaning are those of the
CUDA Driver API reference; every call that fails raises with CUDA's own words.
"""

from __future__ import annotations

import ctypes
from ctypes import byref, c_char_p, c_float, c_int, c_size_t, c_void_p
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgewright.errors import StepFailed, ToolchainMissing

LIBRARY = "libcuda.so.1"
_CAPTURE_RELAXED = 2
_NON_BLOCKING = 1
_MAJOR, _MINOR = 75, 76
_NAME_BYTES = 128


@dataclass(frozen=True, slots=True)
class GpuIdentity:
    """What an engine depends on beside TensorRT.

    Attributes:
        name: Marketing name.
        capability: `8.7`.
        driver: Newest CUDA version that the driver supports, e.g. `12060`.
    """

    name: str
    capability: str
    driver: int


class Cuda:
    """One device: memory, one stream, graphs.

    Args:
        library: libcuda, opened; None to find it.
        device: Index of the GPU.

    Raises:
        ToolchainMissing: There is no driver, or no GPU.
    """

    def __init__(self, library: Any = None, device: int = 0) -> None:
        self._cuda = library if library is not None else _open()
        if self._cuda.cuInit(0) != 0:
            raise ToolchainMissing("no NVIDIA GPU answers here", hint="open this artifact on a machine that has one")
        self._device = c_int()
        self._context = c_void_p()
        self.call("cuDeviceGet", byref(self._device), device)
        self.call("cuDevicePrimaryCtxRetain", byref(self._context), self._device)
        self.call("cuCtxSetCurrent", self._context)
        self._stream = c_void_p()
        self.call("cuStreamCreate", byref(self._stream), _NON_BLOCKING)

    def identity(self) -> GpuIdentity:
        """Returns which GPU and driver this is."""
        name = ctypes.create_string_buffer(_NAME_BYTES)
        self.call("cuDeviceGetName", name, _NAME_BYTES, self._device)
        numbers = (c_int(), c_int(), c_int())
        for number, attribute in zip(numbers, (_MAJOR, _MINOR), strict=False):
            self.call("cuDeviceGetAttribute", byref(number), attribute, self._device)
        self.call("cuDriverGetVersion", byref(numbers[2]))
        major, minor, driver = (number.value for number in numbers)
        return GpuIdentity(name.value.decode(), f"{major}.{minor}", driver)

    @property
    def stream(self) -> int:
        """Handle of the stream, for TensorRT."""
        return self._stream.value or 0

    def call(self, name: str, *arguments: Any) -> None:
        """Calls a function of the driver.

        Raises:
            StepFailed: It fails.
        """
        status = getattr(self._cuda, _versioned(name))(*arguments)
        if status:
            text = c_char_p()
            self._cuda.cuGetErrorString(status, byref(text))
            raise StepFailed(
                f"CUDA: {name}: {(text.value or b'?').decode()}", hint="`nvidia-smi` shows the GPU's state"
            )

    def allocate(self, size: int) -> int:
        """Returns device memory of `size` bytes; 0 bytes take one."""
        found = c_void_p()
        self.call("cuMemAlloc", byref(found), c_size_t(max(size, 1)))
        return found.value or 0

    def free(self, address: int) -> None:
        """Gives device memory back."""
        self.call("cuMemFree", c_void_p(address))

    def pinned(self, shape: tuple[int, ...], kind: np.dtype[Any]) -> PinnedArray:
        """Returns an array in page-locked host memory, which the GPU copies without the processor's help."""
        size = max(int(np.prod(shape)) * kind.itemsize, 1)
        address = c_void_p()
        self.call("cuMemHostAlloc", byref(address), c_size_t(size), 0)
        buffer = (ctypes.c_char * size).from_address(address.value or 0)
        array = np.frombuffer(memoryview(buffer), kind, int(np.prod(shape))).reshape(shape)
        return PinnedArray(array, address.value or 0)

    def free_pinned(self, found: PinnedArray) -> None:
        """Gives page-locked memory back."""
        self.call("cuMemFreeHost", c_void_p(found.address))

    def to_device(self, source: PinnedArray, target: int) -> None:
        """Copies on the stream."""
        size = c_size_t(source.array.nbytes)
        self.call("cuMemcpyHtoDAsync", c_void_p(target), c_void_p(source.address), size, self._stream)

    def to_host(self, source: int, target: PinnedArray) -> None:
        """Copies on the stream."""
        size = c_size_t(target.array.nbytes)
        self.call("cuMemcpyDtoHAsync", c_void_p(target.address), c_void_p(source), size, self._stream)

    def synchronize(self) -> None:
        """Waits for the stream."""
        self.call("cuStreamSynchronize", self._stream)

    def begin_capture(self) -> None:
        """From here on the stream records instead of running."""
        self.call("cuStreamBeginCapture", self._stream, _CAPTURE_RELAXED)

    def end_capture(self) -> int:
        """Returns what was recorded, ready to be launched."""
        graph, made = c_void_p(), c_void_p()
        self.call("cuStreamEndCapture", self._stream, byref(graph))
        try:
            self.call("cuGraphInstantiateWithFlags", byref(made), graph, ctypes.c_ulonglong(0))
        finally:
            self.call("cuGraphDestroy", graph)
        return made.value or 0

    def launch(self, graph: int) -> None:
        """Runs a recorded graph on the stream."""
        self.call("cuGraphLaunch", c_void_p(graph), self._stream)

    def free_graph(self, graph: int) -> None:
        """Gives a graph back."""
        self.call("cuGraphExecDestroy", c_void_p(graph))

    def elapsed_ms(self, start: c_void_p, end: c_void_p) -> float:
        """Returns the time between two events of the stream that have passed."""
        found = c_float()
        self.call("cuEventElapsedTime", byref(found), start, end)
        return found.value

    def event(self) -> c_void_p:
        """Returns a new event, recorded on the stream."""
        found = c_void_p()
        self.call("cuEventCreate", byref(found), 0)
        self.call("cuEventRecord", found, self._stream)
        return found

    def close(self) -> None:
        """Lets stream and device go."""
        self.call("cuStreamDestroy", self._stream)
        self.call("cuDevicePrimaryCtxRelease", self._device)


@dataclass(frozen=True, slots=True, eq=False)
class PinnedArray:
    """An array in page-locked memory, and where it is."""

    array: NDArray[Any]
    address: int


_SECOND = frozenset(
    {"cuMemAlloc", "cuMemFree", "cuMemcpyHtoDAsync", "cuMemcpyDtoHAsync", "cuStreamDestroy", "cuStreamBeginCapture"}
    | {"cuDevicePrimaryCtxRelease"}
)
"""Functions whose present form is exported with `_v2`; the plain name is the form of CUDA 3."""


def _versioned(name: str) -> str:
    return f"{name}_v2" if name in _SECOND else name


def _open() -> Any:
    try:
        return ctypes.CDLL(LIBRARY)
    except OSError as error:
        raise ToolchainMissing(
            f"no NVIDIA driver here: {error}", hint="open this artifact on a machine with an NVIDIA GPU and its driver"
        ) from error
