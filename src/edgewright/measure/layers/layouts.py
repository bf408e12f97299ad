"""One tensor in two layouts: axes moved, axes of one element dropped or added."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import permutations
from typing import Any

import numpy as np
from numpy.typing import NDArray

_MOST_AXES = 5
"""Of more than one element; beyond, only the same order is tried."""


@dataclass(frozen=True, slots=True)
class Layout:
    """How the candidate's tensor becomes the reference's: its axes of more than one element, moved.

    Attributes:
        order: Axis of the candidate (axes of one element left out) for each axis of the reference.
    """

    order: tuple[int, ...]

    def to_reference(self, candidate: NDArray[Any], shape: Sequence[int]) -> NDArray[Any]:
        """Returns `candidate` in the reference's layout and `shape`."""
        return np.asarray(candidate.reshape(_long(candidate.shape)).transpose(self.order).reshape(shape))

    def to_candidate(self, reference: NDArray[Any], shape: Sequence[int]) -> NDArray[Any]:
        """Returns `reference` in the candidate's layout and `shape`."""
        back = np.argsort(self.order) if self.order else ()
        turned = reference.reshape(_long(reference.shape)).transpose(tuple(int(i) for i in back))
        return np.asarray(turned.reshape(shape))


def layouts(reference: Sequence[int], candidate: Sequence[int]) -> Iterator[Layout]:
    """Yields every layout that turns shape `candidate` into shape `reference`, the plainest first."""
    have, want = _long(candidate), _long(reference)
    if sorted(have) != sorted(want):
        return
    natural = tuple(range(len(have)))
    orders = permutations(natural) if len(have) <= _MOST_AXES else iter([natural])
    for order in orders:
        if tuple(have[i] for i in order) == want:
            yield Layout(order)


def _long(shape: Sequence[int]) -> tuple[int, ...]:
    return tuple(size for size in shape if size != 1)
