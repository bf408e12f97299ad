"""One artifact for every kind of machine, or one per kind: which machine runs which."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from edgewright.core.measurement import Device

_MACHINES = {"amd64": "x86_64", "x64": "x86_64", "arm64": "aarch64"}

VNNI = ("avx512_vnni", "avx_vnni")
"""Instruction sets with which x86 adds products of 8-bit integers in 32 bits."""


def adds_in_32_bits(device: Device) -> bool:
    """Says whether the processor adds products of 8-bit integers in 32 bits: x86 needs VNNI for that."""
    return device.machine != "x86_64" or not set(VNNI).isdisjoint(device.isa)


@dataclass(frozen=True, slots=True)
class Condition:
    """A kind of machine; the empty condition is every machine.

    Attributes:
        machines: Its architecture is one of these, by their Linux names (`x86_64`, `aarch64`); any when empty.
        isa: It has at least one of these instruction sets, as `Device.isa` names them; whatever when empty.
    """

    machines: tuple[str, ...] = ()
    isa: tuple[str, ...] = ()

    def fits(self, device: Device) -> bool:
        """Says whether `device` is of this kind; Windows' and macOS' names of architectures count too."""
        name = device.machine.lower()
        machine = not self.machines or _MACHINES.get(name, name) in self.machines
        return machine and (not self.isa or not set(self.isa).isdisjoint(device.isa))

    def __str__(self) -> str:
        parts = [" or ".join(self.machines), ("with " + " or ".join(self.isa)) if self.isa else ""]
        return " ".join(filter(None, parts)) or "any machine"


@dataclass(frozen=True, slots=True)
class Choice:
    """One candidate of a study and the machines that shall run it.

    Attributes:
        name: Of the variant: letters, digits and dashes, e.g. `x86-vnni`.
        candidate: Id in the study.
        when: Which machines.
        session: Options of the runtime on top of those of its artifact.
        why: Why these machines run it, for a reader.
    """

    name: str
    candidate: str
    when: Condition = field(default_factory=Condition)
    session: Mapping[str, str] = field(default_factory=dict)
    why: str = ""
