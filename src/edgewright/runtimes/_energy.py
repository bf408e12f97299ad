"""Energy counters of the processor package: Linux powercap (RAPL)."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

POWERCAP = Path("/sys/class/powercap")


@dataclass(frozen=True, slots=True)
class Counter:
    """One package: its running count in microjoules, which starts again at zero after `wraps_at`."""

    file: Path
    wraps_at: int


@dataclass(frozen=True, slots=True)
class EnergyMeter:
    """All packages of this machine. Without a readable one `counters` is empty and `note` says why."""

    counters: tuple[Counter, ...]
    note: str

    def read(self) -> tuple[int, ...]:
        """Returns the counts in microjoules."""
        return tuple(int(counter.file.read_text()) for counter in self.counters)

    def used(self, before: tuple[int, ...], after: tuple[int, ...]) -> int:
        """Returns the microjoules between two readings less than one wrap-around apart."""
        pairs = zip(before, after, self.counters, strict=True)
        return sum(b - a if b >= a else b - a + counter.wraps_at for a, b, counter in pairs)


def open_meter(root: Path = POWERCAP) -> EnergyMeter:
    """Returns the meter of this machine; `intel-rapl:N` are packages, their sub-zones are part of them."""
    zones = sorted(z for z in root.glob("intel-rapl:*") if z.name.count(":") == 1) if root.is_dir() else []
    if not zones:
        return EnergyMeter((), "no RAPL energy counter on this machine")
    counters = []
    for zone in zones:
        try:
            int((zone / "energy_uj").read_text())
            counters.append(Counter(zone / "energy_uj", int((zone / "max_energy_range_uj").read_text())))
        except PermissionError:
            return EnergyMeter(
                (), "the RAPL counter may only be read by root: chmod a+r /sys/class/powercap/*/energy_uj"
            )
        except (OSError, ValueError) as error:
            return EnergyMeter((), f"the RAPL counter {zone.name} cannot be read: {error}")
    return EnergyMeter(tuple(counters), "RAPL, whole processor package: everything else that ran is included")
