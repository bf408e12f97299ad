"""What a Core ML package is made with."""

from __future__ import annotations

from dataclasses import dataclass

PLAN, INT8 = "plan", "int8"
PALETTES = {f"palettised{bits}": bits for bits in (1, 2, 3, 4, 6, 8)}
WEIGHTS = (PLAN, INT8, *PALETTES)
COMPUTE_UNITS = ("ALL", "CPU_ONLY", "CPU_AND_GPU", "CPU_AND_NE")
MINIMUMS = ("iOS15", "iOS16", "iOS17", "iOS18", "iOS26", "macOS12", "macOS13", "macOS14", "macOS15", "macOS26")
_IOS_OF_MACOS = {12: 15, 13: 16, 14: 17, 15: 18, 26: 26}
CONSTEXPR, QUANTISERS, BLOCKS = 16, 17, 18
"""Releases of iOS that introduced compressed weights, quantisers of activations, and weights scaled by block."""


@dataclass(frozen=True, slots=True)
class Options:
    """See the fields of `edgewright.targets.coreml.CoreMlTarget`.

    Attributes:
        precision: `float32` or `float16`.
        weights: One of `WEIGHTS`.
        minimum: One of `MINIMUMS`.
        batch: Size of a free batch axis.
        keep_float: Names of nodes that compute in float32 although `precision` is `float16`.
    """

    precision: str
    weights: str
    minimum: str
    batch: int
    keep_float: frozenset[str] = frozenset()

    @property
    def release(self) -> int:
        """The release of iOS that `minimum` stands for: macOS 14 has what iOS 17 has."""
        return release(self.minimum)


def release(minimum: str) -> int:
    """Returns the release of iOS with the same Core ML as `minimum`, one of `MINIMUMS`."""
    number = int(minimum.removeprefix("iOS").removeprefix("macOS"))
    return number if minimum.startswith("iOS") else _IOS_OF_MACOS[number]
