"""What this machine is: processor, instruction sets, memory."""

from __future__ import annotations

import ctypes
import os
import platform
from dataclasses import dataclass
from pathlib import Path

from edgewright.core.measurement import Device

CPUINFO = Path("/proc/cpuinfo")

_X86 = (
    "avx2",
    "fma",
    "f16c",
    "avx512f",
    "avx512bw",
    "avx512_vnni",
    "avx_vnni",
    "avx_vnni_int8",
    "avx512_bf16",
    "avx512_fp16",
    "amx_tile",
    "amx_int8",
    "amx_bf16",
    "amx_fp16",
)
_CPUID = {
    "avx2": (1, 1, 5),
    "fma": (0, 2, 12),
    "f16c": (0, 2, 29),
    "avx512f": (1, 1, 16),
    "avx512bw": (1, 1, 30),
    "avx512_vnni": (1, 2, 11),
    "avx_vnni": (6, 0, 4),
    "avx_vnni_int8": (6, 3, 4),
    "avx512_bf16": (6, 0, 5),
    "avx512_fp16": (1, 3, 23),
    "amx_tile": (1, 3, 24),
    "amx_int8": (1, 3, 25),
    "amx_bf16": (1, 3, 22),
    "amx_fp16": (6, 0, 21),
}
"""Instruction set -> (leaf as glibc numbers them, register eax to edx, bit): Intel SDM, volume 2, CPUID."""
_ARM = (
    "asimd",
    "neon",
    "asimdhp",
    "fphp",
    "asimddp",
    "i8mm",
    "bf16",
    "sve",
    "sve2",
    "svei8mm",
    "svebf16",
    "sme",
)
_ARM_IMPLEMENTERS = {"0x41": "Arm", "0x48": "HiSilicon", "0x4e": "NVIDIA", "0x51": "Qualcomm", "0x61": "Apple"}
_ARM_PARTS = {
    "0xd03": "Cortex-A53",
    "0xd04": "Cortex-A35",
    "0xd05": "Cortex-A55",
    "0xd07": "Cortex-A57",
    "0xd08": "Cortex-A72",
    "0xd09": "Cortex-A73",
    "0xd0a": "Cortex-A75",
    "0xd0b": "Cortex-A76",
    "0xd0c": "Neoverse-N1",
    "0xd40": "Neoverse-V1",
    "0xd41": "Cortex-A78",
    "0xd42": "Cortex-A78AE",
    "0xd46": "Cortex-A510",
    "0xd47": "Cortex-A710",
    "0xd49": "Neoverse-N2",
    "0xd4d": "Cortex-A715",
    "0xd4f": "Neoverse-V2",
}


@dataclass(frozen=True, slots=True)
class Processor:
    """What /proc/cpuinfo says: a name and the instruction sets that decide which kernels run."""

    name: str
    isa: tuple[str, ...]


def parse_cpuinfo(text: str) -> Processor:
    """Reads the text of /proc/cpuinfo.

    A flag counts only when every core has it: a thread may run on any of them.
    """
    cores = [_fields(block) for block in text.strip().split("\n\n")]
    # A last block on some Arm boards ("Hardware : ...") describes the board, not a core.
    flagged = [set(flags.split()) for core in cores if (flags := core.get("flags") or core.get("Features"))]
    if not flagged:
        return Processor(_name(cores), ())
    shared = set.intersection(*flagged)
    known = _X86 if any("flags" in core for core in cores) else _ARM
    return Processor(_name(cores), tuple(flag for flag in known if flag in shared))


def local_device() -> Device:
    """Returns this machine, called `local`. Cores are those this process may use."""
    try:
        processor = parse_cpuinfo(CPUINFO.read_text(encoding="utf-8", errors="replace"))
    except OSError:
        processor = Processor("", ())
    return Device(
        name="local",
        machine=platform.machine(),
        processor=processor.name or platform.processor() or "unknown",
        cores=_cores(),
        isa=usable(processor.isa),
        memory_bytes=_memory_bytes(),
        system=f"{platform.system()} {platform.release()}",
    )


def usable(isa: tuple[str, ...]) -> tuple[str, ...]:
    """Leaves out what the processor does not offer to this process, although the kernel's list has it.

    An emulated program reads the host's list while its instructions are another processor's. glibc asks the processor
    itself (`__x86_get_cpuid_feature_leaf`, 2.33 and later); elsewhere the list stands as it is.
    """
    try:
        leaf_of = ctypes.CDLL(None).__x86_get_cpuid_feature_leaf
    except (OSError, TypeError, AttributeError):
        return isa
    leaf_of.restype = ctypes.POINTER(_Leaf)
    leaves = {number: leaf_of(number).contents.cpuid for number, _, _ in _CPUID.values()}
    missing = {name for name, (leaf, register, bit) in _CPUID.items() if not leaves[leaf][register] >> bit & 1}
    return tuple(name for name in isa if name not in missing)


class _Leaf(ctypes.Structure):
    _fields_ = (("cpuid", ctypes.c_uint32 * 4), ("active", ctypes.c_uint32 * 4))


def peak_memory_bytes() -> int:
    """Returns the peak resident memory of this process.

    `VmHWM` is preferred to `getrusage`, whose maximum a process inherits from the one that started it.
    """
    try:
        for line in Path("/proc/self/status").read_text(encoding="ascii", errors="replace").splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024
    except OSError:
        pass
    import resource

    unit = 1 if platform.system() == "Darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


def _fields(block: str) -> dict[str, str]:
    pairs = (line.partition(":") for line in block.splitlines())
    return {key.strip(): value.strip() for key, _, value in pairs}


def _name(cores: list[dict[str, str]]) -> str:
    names = [core["model name"] for core in cores if core.get("model name")]
    if names:
        return " + ".join(dict.fromkeys(names))
    parts = [_arm_name(core) for core in cores if "CPU part" in core]
    board = next((core["Model"] for core in cores if core.get("Model")), "")
    name = " + ".join(dict.fromkeys(parts))
    return f"{name} ({board})" if name and board else name or board


def _arm_name(core: dict[str, str]) -> str:
    maker = _ARM_IMPLEMENTERS.get(core.get("CPU implementer", ""), core.get("CPU implementer", "?"))
    part = core["CPU part"]
    return f"{maker} {_ARM_PARTS.get(part, part)}" if maker == "Arm" else f"{maker} {part}"


def _cores() -> int:
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _memory_bytes() -> int:
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (ValueError, OSError, AttributeError):
        return 0
