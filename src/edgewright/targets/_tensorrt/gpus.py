"""What each NVIDIA GPU computes natively, known before anything is exported.

Sources: "Hardware and Precision" in the support matrices of TensorRT 8.2, 8.6 and 10 (which compute capability has
fast FP16, BF16, FP8, INT8 and DLA), NVIDIA's list of CUDA GPUs (compute capability of each), the data sheets of the
Jetson modules (memory, DLA cores), and the release notes of JetPack 4.6, 5.1, 6.2 and 7.0 (newest TensorRT of each).
"""

from __future__ import annotations

import difflib
import re
from dataclasses import dataclass

from edgewright.errors import ConfigError

ANY = ""
"""The value of `gpu` that stands for any GPU from Turing on."""
TYPED = (10, 0)
"""From this version on TensorRT takes strongly typed networks on every platform."""
_SM = re.compile(r"sm_?(\d{2,3})|(\d{1,2})\.(\d)")


@dataclass(frozen=True, slots=True)
class Gpu:
    """One GPU, or one kind of them.

    Attributes:
        name: As `gpu` takes it.
        capability: CUDA compute capability times ten: 87 for Jetson Orin.
        memory_gib: Of the usual variant; 0 where it is not known.
        dla: Deep-learning accelerator cores beside the GPU.
        tensorrt: Newest TensorRT that runs on it, (major, minor).
    """

    name: str
    capability: int
    memory_gib: int = 0
    dla: int = 0
    tensorrt: tuple[int, int] = (11, 0)

    @property
    def architecture(self) -> str:
        """As compilers name it: `sm_87`."""
        return f"sm_{self.capability}"

    @property
    def typed(self) -> bool:
        """Whether its TensorRT takes networks whose tensors fix their types."""
        return self.tensorrt >= TYPED

    def native(self, precision: str) -> bool:
        """Says whether `precision` (float16, bfloat16, float8, int8) has instructions of its own there."""
        if precision == "float16":  # GP102 to GP107 and GM200 compute it at a small fraction of float32's rate
            return self.capability in (53, 60, 62) or self.capability >= 70
        if precision == "int8":  # four-way products (DP4A) came with 6.1; GP100, TX1, TX2 and the Nano lack them
            return self.capability == 61 or self.capability >= 70
        if precision == "bfloat16":
            return self.capability >= 80
        if precision == "float8":
            return self.capability >= 89
        return precision == "float32"

    @property
    def sparse(self) -> bool:
        """Whether its tensor cores skip half of 2:4 sparse weights."""
        return self.capability >= 80

    def why_not(self, precision: str) -> str:
        """Returns one sentence why `precision` is not worth asking for; empty where it is native."""
        if self.native(precision):
            return ""
        best = "float16" if self.native("float16") else "float32"
        shown = "a GPU that is not named" if self.name == ANY else f"{self.name} ({self.architecture})"
        if self.name == ANY and precision != "int8":
            return f"{precision} needs a GPU that has it: name it in `gpu`, for example rtx-4090"
        return f"{shown} has no fast {precision}: TensorRT would compute in {best}"


_JETSON = (
    Gpu("jetson-nano", 53, 4, tensorrt=(8, 2)),
    Gpu("jetson-tx1", 53, 4, tensorrt=(8, 2)),
    Gpu("jetson-tx2", 62, 8, tensorrt=(8, 2)),
    Gpu("jetson-xavier-nx", 72, 8, dla=2, tensorrt=(8, 5)),
    Gpu("jetson-agx-xavier", 72, 32, dla=2, tensorrt=(8, 5)),
    Gpu("jetson-orin-nano", 87, 8, tensorrt=(10, 3)),
    Gpu("jetson-orin-nx", 87, 16, dla=2, tensorrt=(10, 3)),
    Gpu("jetson-agx-orin", 87, 64, dla=2, tensorrt=(10, 3)),
    Gpu("jetson-agx-thor", 110, 128),
)
_DATA_CENTRE = (
    Gpu("p100", 60, 16, tensorrt=(8, 6)),
    Gpu("p4", 61, 8, tensorrt=(8, 6)),
    Gpu("v100", 70, 32, tensorrt=(10, 4)),
    Gpu("t4", 75, 16),
    Gpu("a100", 80, 80),
    Gpu("a30", 80, 24),
    Gpu("a2", 86, 16),
    Gpu("a10", 86, 24),
    Gpu("a40", 86, 48),
    Gpu("l4", 89, 24),
    Gpu("l40s", 89, 48),
    Gpu("h100", 90, 80),
    Gpu("h200", 90, 141),
    Gpu("b200", 100, 180),
)
_DESKTOP = (
    Gpu("gtx-1080", 61, 8, tensorrt=(8, 6)),
    Gpu("gtx-1660", 75, 6),
    Gpu("rtx-2060", 75, 6),
    Gpu("rtx-2080-ti", 75, 11),
    Gpu("rtx-3060", 86, 12),
    Gpu("rtx-3070", 86, 8),
    Gpu("rtx-3080", 86, 10),
    Gpu("rtx-3090", 86, 24),
    Gpu("rtx-a2000", 86, 12),
    Gpu("rtx-a6000", 86, 48),
    Gpu("rtx-4060", 89, 8),
    Gpu("rtx-4070", 89, 12),
    Gpu("rtx-4080", 89, 16),
    Gpu("rtx-4090", 89, 24),
    Gpu("rtx-5060", 120, 8),
    Gpu("rtx-5070", 120, 12),
    Gpu("rtx-5080", 120, 16),
    Gpu("rtx-5090", 120, 32),
)
GPUS = {gpu.name: gpu for gpu in (*_JETSON, *_DATA_CENTRE, *_DESKTOP)}
"""Name -> GPU."""


def find_gpu(name: str) -> Gpu:
    """Returns the GPU called `name`: one of `GPUS`, a compute capability (`sm_87`, `8.7`), or "" for Turing and newer.

    Raises:
        ConfigError: There is none; the hint lists near names.
    """
    if name == ANY:
        return Gpu(ANY, 75)
    asked = name.strip().lower().replace(" ", "-")
    if asked in GPUS:
        return GPUS[asked]
    found = _SM.fullmatch(asked)
    if found is not None:
        capability = int(found.group(1) or f"{found.group(2)}{found.group(3)}")
        alike = [gpu for gpu in GPUS.values() if gpu.capability == capability]
        newest = max((gpu.tensorrt for gpu in alike), default=(11, 0))
        return Gpu(f"sm_{capability}", capability, dla=max((gpu.dla for gpu in alike), default=0), tensorrt=newest)
    near = difflib.get_close_matches(asked, GPUS, n=3, cutoff=0.4)
    hint = f"did you mean {' or '.join(near)}?" if near else f"one of {', '.join(GPUS)}, or a capability such as sm_87"
    raise ConfigError(f'GPU "{name}" is unknown', hint=hint)
