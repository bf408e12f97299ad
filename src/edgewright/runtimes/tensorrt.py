"""TensorRT on an NVIDIA GPU: the engine is built on this machine once and kept."""

from __future__ import annotations

import importlib.util
import shutil
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, ExitStack, contextmanager
from pathlib import Path
from typing import Any, ClassVar

from edgewright.core.target import Artifact, Runner, RunOptions
from edgewright.errors import Corrupt, ToolchainMissing
from edgewright.runtimes import _tensorrt_build as building
from edgewright.runtimes._open import load_artifact
from edgewright.runtimes._place import toolchain_python
from edgewright.store.files import digest_file

TOOLCHAIN = "tensorrt-rtx"
GRAPHS = "cuda_graphs"
"""Session option: "0" launches kernels one by one."""
_NO_GPU = "no NVIDIA GPU here"
_NOT_INSTALLED = "TensorRT is not installed here"
INSTALL = (
    "on a Jetson TensorRT comes with JetPack (apt install python3-libnvinfer); elsewhere: pip install tensorrt, "
    f"or edgewright toolchain install {TOOLCHAIN}"
)
_SIGNS = ("/proc/driver/nvidia/version", "/etc/nv_tegra_release")
"""The driver of a desktop or data-centre GPU, and that of a Jetson."""


def absent() -> str:
    """Returns why an engine cannot run on this machine; empty when it can. Imports and starts nothing."""
    if not any(Path(sign).exists() for sign in _SIGNS) and shutil.which("nvidia-smi") is None:
        return _NO_GPU
    return "" if _importable() or toolchain_python(TOOLCHAIN) else _NOT_INSTALLED


def _importable() -> bool:
    return any(importlib.util.find_spec(name) is not None for name in building.MODULES)


class TensorRt:
    """Opens what the target `tensorrt` wrote; the first time on a GPU, driver and TensorRT builds its engine."""

    name: ClassVar[str] = "tensorrt"
    distribution: ClassVar[str] = "tensorrt"

    def interpreter(self, artifact: Artifact) -> Path | None:
        """Returns the toolchain's interpreter where TensorRT is installed there and not here."""
        return None if _importable() else toolchain_python(TOOLCHAIN)

    def open(self, artifact: Path, options: RunOptions) -> AbstractContextManager[Runner]:
        """See `edgewright.core.target.Runtime`."""
        return _opened(artifact, options)


def _require() -> Any:
    try:
        return building.import_tensorrt()
    except ImportError as error:
        raise ToolchainMissing(f"TensorRT cannot be imported: {error}", hint=INSTALL) from error


@contextmanager
def _opened(path: Path, options: RunOptions) -> Iterator[Runner]:
    artifact = load_artifact(path)
    wanted = _described(path)
    trt = _require()
    from edgewright.runtimes._cuda import Cuda
    from edgewright.runtimes._tensorrt_runner import TrtRunner

    with ExitStack() as stack:
        cuda = Cuda()
        stack.callback(cuda.close)
        opened = _engine(path, artifact, trt, cuda)
        session: Mapping[str, str] = {**artifact.session, **options.session}
        graphs = session.get(GRAPHS, "1") != "0" and not options.profile
        runner = TrtRunner(artifact, opened, cuda, wanted["profile"], graphs=graphs)
        stack.callback(runner.close)
        if options.profile:
            runner.profile(trt)
        yield runner


def _described(path: Path) -> dict[str, Any]:
    """Reads `engine.json` and holds the files it names against their digests."""
    try:
        wanted = building.describe(path)
    except building.BuildFailed as error:
        raise Corrupt(str(error), hint="compile or unpack it again") from error
    for name, digest in wanted["digests"].items():
        if not (path / name).is_file() or digest_file(path / name) != digest:
            raise Corrupt(f"{path / name} is not the file that was compiled", hint="compile or unpack it again")
    return wanted


def _engine(path: Path, artifact: Artifact, trt: Any, cuda: Any) -> Any:
    """Returns the engine, deserialised; one that TensorRT does not take is built once more."""
    from edgewright.runtimes._tensorrt_engines import engine, key_of

    key = key_of(path, artifact.files, cuda.identity(), trt)
    runtime = trt.Runtime(trt.Logger(trt.Logger.ERROR))
    for again in (False, True):
        opened = runtime.deserialize_cuda_engine(engine(path, key, trt, again=again))
        if opened is not None:
            return opened
    raise Corrupt(
        f"{path}: TensorRT {trt.__version__} does not open the engine that it has just built",
        hint="`nvidia-smi` shows whether the GPU has memory left; install driver and TensorRT anew",
    )


plugin = TensorRt
