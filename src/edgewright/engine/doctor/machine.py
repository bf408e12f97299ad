"""This machine: what decides which kernels run, and what disturbs a measurement."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path

from edgewright.core.measurement import Device
from edgewright.core.variant import adds_in_32_bits
from edgewright.runtimes import _conditions
from edgewright.store.cache import Cache
from edgewright.store.gc import size_of_results

X86 = ("x86_64", "AMD64")
HALF, BRAIN = ("fphp", "asimdhp", "avx512_fp16", "amx_fp16"), ("bf16", "avx512_bf16", "amx_bf16")
WARM_C = 85.0


@dataclass(frozen=True, slots=True)
class MachineState:
    """This machine at the moment.

    Attributes:
        device: What it is.
        integer_dot: Whether products of 8-bit integers are added in 32 bits (VNNI, dot product, or an Arm core).
        half: Whether it computes in float16.
        bfloat: Whether it computes in bfloat16.
        governor: Of the processors' frequency; None where the system does not say.
        temperature_c: Hottest sensor; None where there is none.
        load: One-minute load average.
        remarks: What these mean for INT8 and for measuring, one sentence each.
    """

    device: Device
    integer_dot: bool
    half: bool
    bfloat: bool
    governor: str | None
    temperature_c: float | None
    load: float
    remarks: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class CacheState:
    """The folder of kept results: where, how large, and how much room is left beside it."""

    folder: str
    bytes: int
    free_bytes: int


def machine_state(device: Device, root: Path = _conditions.SYS) -> MachineState:
    """Returns the state of this machine.

    Args:
        device: What it is.
        root: Of the system's own files, `/sys`.
    """
    governor, heat, load = _conditions.governor(root), _conditions.temperature(root), _conditions.load_average()
    dot = adds_in_32_bits(device)
    told = {
        f"8-bit products are added in 16 bits ({_lacking(device)}): INT8 can saturate and gains less": not dot,
        f"governor {governor}: clocks follow the load, so short measurements are slow ones": _lazy(governor),
        f"{heat} °C: it may throttle while measuring": heat is not None and heat >= WARM_C,
        f"load {load:.1f} on {device.cores} cores: latencies taken now are noise": load > device.cores / 2,
    }
    remarks = tuple(remark for remark, holds in told.items() if holds)
    isa = set(device.isa)
    return MachineState(device, dot, not isa.isdisjoint(HALF), not isa.isdisjoint(BRAIN), governor, heat, load, remarks)


def cache_state(cache: Cache | None = None) -> CacheState:
    """Returns where results are kept and how large they are."""
    root = (cache or Cache.default()).root
    there = next(folder for folder in (root, *root.parents) if folder.exists())
    return CacheState(str(root), size_of_results(root), shutil.disk_usage(there).free)


def _lacking(device: Device) -> str:
    return "no VNNI" if device.machine in X86 else "no dot product instructions"


def _lazy(governor: str | None) -> bool:
    return governor is not None and governor not in ("performance", "schedutil")
