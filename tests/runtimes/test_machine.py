"""Instruction sets and names from captured /proc/cpuinfo texts (shortened)."""

from __future__ import annotations

import platform
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from edgewright.core.codec import decode_stored, encode_json
from edgewright.core.measurement import Device
from edgewright.runtimes import _machine
from edgewright.runtimes._machine import Processor, local_device, parse_cpuinfo, peak_memory_bytes, usable

ICELAKE = """\
processor\t: 0
vendor_id\t: GenuineIntel
model name\t: Intel(R) Xeon(R) Platinum 8375C CPU @ 2.90GHz
flags\t\t: fpu sse2 fma f16c avx avx2 avx512f avx512bw avx512_vnni
bugs\t\t: spectre_v1

processor\t: 1
vendor_id\t: GenuineIntel
model name\t: Intel(R) Xeon(R) Platinum 8375C CPU @ 2.90GHz
flags\t\t: fpu sse2 fma f16c avx avx2 avx512f avx512bw avx512_vnni
"""
SAPPHIRE = """\
processor\t: 0
model name\t: Intel(R) Xeon(R) Platinum 8488C
flags\t\t: avx2 avx512f avx512_vnni avx_vnni avx512_bf16 avx512_fp16 amx_bf16 amx_tile amx_int8
"""
HYBRID = """\
processor\t: 0
model name\t: 12th Gen Intel(R) Core(TM) i5-1240P
flags\t\t: avx2 avx_vnni avx512f

processor\t: 1
model name\t: 12th Gen Intel(R) Core(TM) i5-1240P
flags\t\t: avx2 avx_vnni
"""
PI4 = """\
processor\t: 0
BogoMIPS\t: 108.00
Features\t: fp asimd evtstrm crc32 cpuid
CPU implementer\t: 0x41
CPU architecture: 8
CPU part\t: 0xd08

Hardware\t: BCM2835
Revision\t: c03114
Model\t\t: Raspberry Pi 4 Model B Rev 1.4
"""
GRAVITON3 = """\
processor\t: 0
Features\t: fp asimd fphp asimdhp asimddp sve i8mm bf16 svei8mm svebf16
CPU implementer\t: 0x41
CPU part\t: 0xd40
"""
BIG_LITTLE = """\
processor\t: 0
Features\t: fp asimd asimdhp asimddp
CPU implementer\t: 0x41
CPU part\t: 0xd05

processor\t: 4
Features\t: fp asimd asimdhp asimddp i8mm
CPU implementer\t: 0x51
CPU part\t: 0x804
"""

CASES = [
    (
        ICELAKE,
        "Intel(R) Xeon(R) Platinum 8375C CPU @ 2.90GHz",
        ("avx2", "fma", "f16c", "avx512f", "avx512bw", "avx512_vnni"),
    ),
    (
        SAPPHIRE,
        "Intel(R) Xeon(R) Platinum 8488C",
        (
            *("avx2", "avx512f", "avx512_vnni", "avx_vnni", "avx512_bf16", "avx512_fp16"),
            *("amx_tile", "amx_int8", "amx_bf16"),
        ),
    ),
    (HYBRID, "12th Gen Intel(R) Core(TM) i5-1240P", ("avx2", "avx_vnni")),
    (PI4, "Arm Cortex-A72 (Raspberry Pi 4 Model B Rev 1.4)", ("asimd",)),
    (
        GRAVITON3,
        "Arm Neoverse-V1",
        ("asimd", "asimdhp", "fphp", "asimddp", "i8mm", "bf16", "sve", "svei8mm", "svebf16"),
    ),
    (BIG_LITTLE, "Arm Cortex-A55 + Qualcomm 0x804", ("asimd", "asimdhp", "asimddp")),
    ("", "", ()),
]


@pytest.mark.parametrize(("text", "name", "isa"), CASES)
def test_parse_cpuinfo(text: str, name: str, isa: tuple[str, ...]) -> None:
    assert parse_cpuinfo(text) == Processor(name, isa)


def test_local_device_is_this_machine() -> None:
    device = local_device()
    assert device.name == "local"
    assert device.machine == platform.machine()
    assert device.cores >= 1
    assert device.memory_bytes > 100 * 2**20
    assert device == local_device()
    assert decode_stored(Device, encode_json(device)) == device


def test_without_cpuinfo_there_is_still_a_device(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(_machine, "CPUINFO", tmp_path / "absent")
    device = local_device()
    assert device.processor
    assert device.isa == ()


def test_peak_memory_does_not_fall() -> None:
    before = peak_memory_bytes()
    block = bytearray(64 * 2**20)
    block[::4096] = b"x" * len(block[::4096])
    assert peak_memory_bytes() >= max(before, 64 * 2**20)


def test_an_emulated_processor_offers_less_than_the_kernel_lists(monkeypatch: pytest.MonkeyPatch) -> None:
    leaves = {0: [0, 0, 1 << 12 | 1 << 29, 0], 1: [0, 1 << 5, 0, 0], 6: [0, 0, 0, 0]}  # Haswell

    def leaf_of(number: int) -> Any:
        return SimpleNamespace(contents=SimpleNamespace(cpuid=leaves[number]))

    monkeypatch.setattr(_machine.ctypes, "CDLL", lambda _: SimpleNamespace(__x86_get_cpuid_feature_leaf=leaf_of))
    assert usable(("avx2", "fma", "f16c", "avx512f", "avx512_vnni", "avx_vnni")) == ("avx2", "fma", "f16c")
    monkeypatch.setattr(_machine.ctypes, "CDLL", lambda _: SimpleNamespace())
    assert usable(("avx2", "avx512_vnni")) == ("avx2", "avx512_vnni")


@pytest.mark.skipif(platform.machine() != "x86_64" or platform.system() != "Linux", reason="speaks about x86 on Linux")
def test_what_the_kernel_lists_here_is_usable() -> None:
    listed = parse_cpuinfo(_machine.CPUINFO.read_text()).isa
    assert usable(listed) == listed
    assert usable(tuple(_machine._CPUID)) != ()
