"""Boards as data. RAM and flash are those of the microcontroller's data sheet, in bytes; only on-chip memory counts."""

from __future__ import annotations

import difflib
from dataclasses import dataclass, replace

from edgewright.errors import ConfigError

KIB = 1024


@dataclass(frozen=True, slots=True)
class Board:
    """A microcontroller board, as far as a model is concerned.

    Attributes:
        name: As `board = "..."` takes it.
        title: For a reader.
        processor: Core of the microcontroller.
        clock_mhz: Of the core.
        ram_bytes: On-chip RAM that one program can use as a whole.
        flash_bytes: Where program and model are stored.
        ethos_u: Accelerator configuration as Vela calls it; empty for none.
        note: What to know.
    """

    name: str
    title: str
    processor: str
    clock_mhz: int
    ram_bytes: int
    flash_bytes: int
    ethos_u: str = ""
    note: str = ""


def _board(name: str, title: str, core: str, mhz: int, ram: int, flash: int, npu: str = "", note: str = "") -> Board:
    return Board(name, title, core, mhz, ram * KIB, flash * KIB, npu, note)


_XIP = "the program runs from external flash"
BOARDS: tuple[Board, ...] = (
    _board("cortex-m4-64k", "any Cortex-M4, 256 KB flash, 64 KB RAM", "Cortex-M4", 80, 64, 256),
    _board("cortex-m4-128k", "any Cortex-M4, 512 KB flash, 128 KB RAM", "Cortex-M4", 100, 128, 512),
    _board("cortex-m4-256k", "any Cortex-M4, 1 MB flash, 256 KB RAM", "Cortex-M4", 120, 256, 1024),
    _board("cortex-m7-512k", "any Cortex-M7, 2 MB flash, 512 KB RAM", "Cortex-M7", 400, 512, 2048),
    _board("cortex-m33-256k", "any Cortex-M33, 1 MB flash, 256 KB RAM", "Cortex-M33", 128, 256, 1024),
    _board("nrf52840", "Nordic nRF52840", "Cortex-M4F", 64, 256, 1024),
    _board("arduino-nano-33-ble", "Arduino Nano 33 BLE (Sense)", "Cortex-M4F", 64, 256, 1024, note="nRF52840"),
    _board("nrf5340", "Nordic nRF5340, application core", "Cortex-M33", 128, 512, 1024),
    _board("stm32f446re", "ST STM32F446RE (Nucleo-F446RE)", "Cortex-M4F", 180, 128, 512),
    _board("stm32f746ng", "ST STM32F746NG (Discovery)", "Cortex-M7", 216, 320, 1024),
    _board("stm32l4r5zi", "ST STM32L4R5ZI (Nucleo, the board of MLPerf Tiny)", "Cortex-M4F", 120, 640, 2048),
    _board("stm32l476rg", "ST STM32L476RG (Nucleo)", "Cortex-M4F", 80, 96, 1024, note="and 32 KB in a second block"),
    _board("stm32h743zi", "ST STM32H743ZI (Nucleo)", "Cortex-M7", 480, 512, 2048, note="the largest of its RAM blocks"),
    _board("rp2040", "Raspberry Pi Pico (RP2040)", "Cortex-M0+", 133, 256, 2048, note=_XIP),
    _board("rp2350", "Raspberry Pi Pico 2 (RP2350)", "Cortex-M33", 150, 512, 4096, note=_XIP),
    _board("esp32-s3", "Espressif ESP32-S3", "Xtensa LX7", 240, 320, 8192, note=f"{_XIP}; RAM left beside its system"),
    _board("alif-e7-hp", "Alif Ensemble E7, high-performance core", "Cortex-M55", 400, 1024, 5632, "ethos-u55-256"),
    _board("corstone-300-u55-128", "Corstone-300, Ethos-U55-128", "Cortex-M55", 32, 2048, 4096, "ethos-u55-128"),
    _board("corstone-300-u55-256", "Corstone-300, Ethos-U55-256", "Cortex-M55", 32, 2048, 4096, "ethos-u55-256"),
    _board("corstone-300-u65-256", "Corstone-300, Ethos-U65-256", "Cortex-M55", 32, 2048, 4096, "ethos-u65-256"),
    _board("corstone-320-u85-256", "Corstone-320, Ethos-U85-256", "Cortex-M85", 32, 4096, 8192, "ethos-u85-256"),
)
ACCELERATORS = (
    *(f"ethos-u55-{macs}" for macs in (32, 64, 128, 256)),
    *("ethos-u65-256", "ethos-u65-512"),
    *(f"ethos-u85-{macs}" for macs in (128, 256, 512, 1024, 2048)),
)


def find(name: str) -> Board:
    """Returns the board of that name.

    Raises:
        ConfigError: There is none; the hint lists near names.
    """
    known = {board.name: board for board in BOARDS}
    if name not in known:
        near = difflib.get_close_matches(name, known, n=3, cutoff=0.4)
        hint = f"did you mean {' or '.join(near)}? " if near else ""
        raise ConfigError(
            f'unknown board "{name}"', hint=f"{hint}boards: {', '.join(known)}; or give ram_kb and flash_kb"
        )
    return known[name]


def chosen(name: str, ram_kb: int, flash_kb: int) -> Board | None:
    """Returns the board to hold a model against; None where neither a name nor figures are given.

    Args:
        name: Of a board; empty for one of figures alone.
        ram_kb: Replaces the board's RAM, in KB; 0 keeps it.
        flash_kb: Likewise its flash.

    Raises:
        ConfigError: The board is unknown, a figure is negative, or only one figure is given without a board.
    """
    if min(ram_kb, flash_kb) < 0:
        raise ConfigError(
            f"micro: ram_kb = {ram_kb}, flash_kb = {flash_kb}", hint="give sizes in KB, or leave them out"
        )
    if name:
        board = find(name)
        return replace(
            board, ram_bytes=ram_kb * KIB or board.ram_bytes, flash_bytes=flash_kb * KIB or board.flash_bytes
        )
    if not ram_kb and not flash_kb:
        return None
    if not (ram_kb and flash_kb):
        raise ConfigError("micro: ram_kb and flash_kb go together", hint="give both, or the name of a board")
    return Board("own", f"a board of {flash_kb} KB flash and {ram_kb} KB RAM", "", 0, ram_kb * KIB, flash_kb * KIB)
