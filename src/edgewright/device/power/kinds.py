"""Which kind of power modes this device has."""

from __future__ import annotations

from edgewright.device.power.governors import Governors
from edgewright.device.power.machine import Machine
from edgewright.device.power.modes import PowerModes
from edgewright.device.power.nvpmodel import CONFIG, Nvpmodel
from edgewright.errors import UsageError


def find_modes(machine: Machine | None = None, *, fixed_clocks: bool = False) -> PowerModes:
    """Returns the power modes of this device: those of `nvpmodel` on a Jetson, else the governors of the processor.

    Args:
        machine: Where to look; this machine without it.
        fixed_clocks: Hold every clock at the highest the mode allows (`jetson_clocks`), on a Jetson.

    Raises:
        UsageError: It has neither.
    """
    here = machine or Machine()
    if here.which("nvpmodel") and here.file(CONFIG).is_file():
        return Nvpmodel(here, fixed_clocks=fixed_clocks)
    governors = Governors(here)
    if governors.names():
        return governors
    raise UsageError(
        "this device has no power modes: no nvpmodel (Jetson), and no frequency governors",
        hint="leave out --power-modes; in a virtual machine the host decides",
    )


def of_kind(kind: str, machine: Machine) -> PowerModes:
    """Returns the modes of a kind, as a snapshot of earlier needs them."""
    return Nvpmodel(machine) if kind == Nvpmodel.kind else Governors(machine)
