"""Which tensor of the candidate stands for which of the reference."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgewright.measure.layers.layouts import Layout, layouts
from edgewright.measure.layers.sides import Tap

Values = Mapping[str, NDArray[Any]]
SAMPLED = 1 << 12
"""How many values of a tensor a correlation is taken of: it is then right within a few hundredths."""
NAME, VALUES, ORDER = "name", "values", "order"
CERTAIN = 0.8
"""Least correlation at which values alone prove two tensors to be the same."""
ALIKE = 0.98
"""Correlation at which a name is not doubted."""
BETTER = 0.25
"""To what part of itself another tensor must bring the distance from 1 before a name is taken to mean that one."""


MOVES = "data movement"
_OTHER_WORDS = {
    "product": "CONV_2D DEPTHWISE_CONV_2D TRANSPOSE_CONV FULLY_CONNECTED BATCH_MATMUL Convolution GroupConvolution",
    "activation": "LOGISTIC RELU RELU6 LEAKY_RELU PRELU HARD_SWISH TANH SOFTMAX ELU GELU LOG_SOFTMAX",
    "arithmetic": "ADD SUB MUL DIV MAXIMUM MINIMUM POW SQRT EXP Multiply Subtract Divide",
    "pooling and reduction": "MAX_POOL_2D AVERAGE_POOL_2D MEAN SUM REDUCE_MAX REDUCE_MIN AvgPool",
    MOVES: "RESHAPE TRANSPOSE CONCATENATION PAD STRIDED_SLICE SLICE QUANTIZE DEQUANTIZE SPLIT GATHER",
}
_KINDS = {op: name for name, ops in _OTHER_WORDS.items() for op in ops.split()}


def kind(op: str) -> str:
    """Returns what an operator of any runtime does, in the words of `graph.kinds`."""
    from edgewright.graph.kinds import kind_of

    return _KINDS.get(op) or kind_of(op)


@dataclass(frozen=True, slots=True)
class Match:
    """A pair of tensors.

    Attributes:
        reference: Of the reference.
        candidate: Of the candidate.
        layout: From the candidate's layout to the reference's.
        how: `NAME`, `VALUES` or `ORDER`.
    """

    reference: Tap
    candidate: Tap
    layout: Layout
    how: str


def fit(reference: NDArray[Any], candidate: NDArray[Any]) -> tuple[float, Layout | None]:
    """Returns the best correlation over all layouts, and that layout; (0, None) where shapes do not fit."""
    best: tuple[float, Layout | None] = (0.0, None)
    x = sketch(reference, None, reference.shape)
    for layout in layouts(reference.shape, candidate.shape):
        found = float(x @ sketch(candidate, layout, reference.shape))
        if best[1] is None or found > best[0] + 1e-6:
            best = found, layout
    return best


def sketch(values: NDArray[Any], layout: Layout | None, shape: tuple[int, ...]) -> NDArray[np.float64]:
    """Returns values at fixed places of the reference's layout, less their mean, scaled to length 1.

    The product of two sketches is Pearson's correlation; it is 0 where a tensor is constant or not finite. Means are
    taken off because after a sigmoid any two tensors have a high cosine.

    Args:
        values: A tensor.
        layout: From its layout to the reference's; None for the reference itself.
        shape: Of the reference.
    """
    sizes = tuple(size for size in shape if size != 1)
    places = _places(sizes, tuple(range(len(sizes))) if layout is None else layout.order)
    flat = values.reshape(-1)[places].astype(np.float64)
    with np.errstate(invalid="ignore", over="ignore"):
        flat -= flat.mean() if flat.size else 0.0
        norm = float(np.sqrt((flat * flat).sum()))
    return flat / norm if np.isfinite(norm) and norm > 0 else np.zeros(flat.shape)


@cache
def _places(sizes: tuple[int, ...], order: tuple[int, ...]) -> NDArray[np.int64]:
    """Returns where a tensor of the candidate's layout holds the values sampled from the reference's `sizes`."""
    total = int(np.prod(sizes, dtype=np.int64))
    rng = np.random.default_rng(0)
    chosen = np.arange(total) if total <= SAMPLED else np.sort(rng.integers(0, total, SAMPLED))
    if order == tuple(range(len(order))) or not sizes:
        return chosen
    own = np.argsort(order)
    coordinates = np.unravel_index(chosen, sizes)
    return np.asarray(np.ravel_multi_index(tuple(coordinates[i] for i in own), tuple(sizes[i] for i in own)), np.int64)


def match(
    reference: Sequence[Tap], candidate: Sequence[Tap], values: tuple[Values, Values], hidden: Mapping[str, str]
) -> tuple[tuple[Match, ...], dict[str, str]]:
    """Pairs tensors: by name where the values do not speak against it, then by values, then by their place.

    Args:
        reference: Tensors of the reference, in order.
        candidate: Tensors of the candidate, in order.
        values: Of both on the same sample, by `Tap.source`.
        hidden: Tensor of the candidate -> why it cannot be read.

    Returns:
        Pairs in the reference's order, at most one per tensor; and tensor of the reference -> why it has none.
    """
    pairing = _Pairing(reference, candidate, values)
    pairing.by_name()
    pairing.by_values()
    pairing.by_node()
    pairing.by_order()
    found = tuple(pairing.found[i] for i in sorted(pairing.found))
    missing = {tap.tensor: pairing.reason(i, hidden) for i, tap in enumerate(reference) if i not in pairing.found}
    return found, missing


class _Pairing:
    def __init__(self, reference: Sequence[Tap], candidate: Sequence[Tap], values: tuple[Values, Values]) -> None:
        self.reference, self.candidate = reference, candidate
        self.left = [values[0][tap.source] for tap in reference]
        self.right = [values[1][tap.source] for tap in candidate]
        self.spread = [_spread(array) for array in self.left], [_spread(array) for array in self.right]
        self.found: dict[int, Match] = {}
        self.taken: dict[int, int] = {}
        self.nearest: dict[int, tuple[float, str]] = {}

    def by_name(self) -> None:
        """A name counts unless a neighbour of the same shape fits far better: folding moves names along a chain."""
        known = {tap.tensor: i for i, tap in reversed(list(enumerate(self.reference)))}
        for j, tap in enumerate(self.candidate):
            i = next((known[name] for name in tap.names if name in known), None)
            if i is None or i in self.found:
                continue
            near, layout = fit(self.left[i], self.right[j])
            if layout is not None and not self._better_neighbour(i, j, near):
                self._pair(i, j, layout, NAME)

    def by_node(self) -> None:
        """What is called after a node of the reference stands for its result, if shape and kind agree."""
        nodes = {tap.node: i for i, tap in reversed(list(enumerate(self.reference))) if tap.node}
        for j in self._open(self.right, self.taken):
            i = next((nodes[name] for name in self.candidate[j].names if name in nodes), None)
            if i is None or i in self.found or kind(self.reference[i].op) != kind(self.candidate[j].op):
                continue
            _, layout = fit(self.left[i], self.right[j])
            if layout is not None:
                self._pair(i, j, layout, NAME)

    def _better_neighbour(self, i: int, j: int, near: float) -> bool:
        if near >= ALIKE:
            return False
        around = (k for k in range(i - 3, i + 4) if 0 <= k < len(self.left) and k != i and k not in self.found)
        limit = max(1 - (1 - near) * BETTER, CERTAIN)
        return any(fit(self.left[k], self.right[j])[0] > limit for k in around)

    def by_values(self) -> None:
        """The best correlated first; of equals, the one that computes, then the nearest in place."""
        pairs = []
        for i, j, near, layout in self._products():
            if near > self.nearest.get(i, (0.0, ""))[0]:
                self.nearest[i] = near, self.candidate[j].tensor
            if near >= CERTAIN:
                apart = abs(i / len(self.left) - j / len(self.right))
                pairs.append((round(-near, 3), self._rank(i, j), apart, i, j, layout))
        for _, _, _, i, j, layout in sorted(pairs, key=lambda pair: pair[:5]):
            if i not in self.found and j not in self.taken:
                self._pair(i, j, layout, VALUES)

    def _products(self) -> Iterator[tuple[int, int, float, Layout]]:
        """Yields the correlation of every two open tensors of one shape, in every layout."""
        left, right = _by_shape(self.left, self.found), _by_shape(self.right, self.taken)
        for shape, ours in left.items():
            x = np.stack([sketch(self.left[i], None, shape) for i in ours])
            for other, theirs in right.items():
                for layout in layouts(shape, other):
                    y = np.stack([sketch(self.right[j], layout, shape) for j in theirs])
                    for (a, b), near in np.ndenumerate(x @ y.T):
                        if self._alike(ours[a], theirs[b]):
                            yield ours[a], theirs[b], float(near), layout

    def _alike(self, i: int, j: int) -> bool:
        """Whether two tensors have comparable spread: half of one tensor is not the same as the whole."""
        a, b = self.spread[0][i], self.spread[1][j]
        return a > 0 and b > 0 and 0.2 < a / b < 5

    def _rank(self, i: int, j: int) -> int:
        one, other = kind(self.reference[i].op), kind(self.candidate[j].op)
        return 0 if one == other else 2 if MOVES in (one, other) else 1

    def by_order(self) -> None:
        """Between two certain pairs, tensors of one shape and kind follow each other in the same order."""
        anchors = [(-1, -1), *_rising([(i, self.taken_by(i)) for i in sorted(self.found)])]
        anchors.append((len(self.left), len(self.right)))
        for (i0, j0), (i1, j1) in pairwise(anchors):
            spare = [j for j in range(j0 + 1, j1) if j not in self.taken]
            for i in range(i0 + 1, i1):
                chosen = next((j for j in spare if i not in self.found and self._same_place(i, j)), None)
                if chosen is not None:
                    _, layout = fit(self.left[i], self.right[chosen])
                    assert layout is not None
                    self._pair(i, chosen, layout, ORDER)
                    spare = [j for j in spare if j > chosen]

    def _same_place(self, i: int, j: int) -> bool:
        one, other = kind(self.reference[i].op), kind(self.candidate[j].op)
        fits = next(layouts(self.left[i].shape, self.right[j].shape), None) is not None
        return fits and one == other and one != MOVES

    def taken_by(self, i: int) -> int:
        """Returns the candidate's tensor paired with tensor `i` of the reference."""
        return next(j for j, found in self.taken.items() if found == i)

    def reason(self, i: int, hidden: Mapping[str, str]) -> str:
        """Says why tensor `i` of the reference has no partner."""
        tap = self.reference[i]
        if tap.tensor in hidden:
            return hidden[tap.tensor]
        if i in self.nearest:
            near, other = self.nearest[i]
            if near >= CERTAIN:
                return f'"{other}" agrees with it, but stands for another tensor of the same values'
            return f'nothing of its shape is left that agrees with it; the nearest, "{other}", correlates by {near:.2f}'
        shape = "x".join(map(str, self.left[i].shape)) or "scalar"
        return f"the candidate has no tensor of its shape left ({shape})"

    def _pair(self, i: int, j: int, layout: Layout, how: str) -> None:
        self.found[i] = Match(self.reference[i], self.candidate[j], layout, how)
        self.taken[j] = i

    def _open(self, arrays: Sequence[NDArray[Any]], taken: Mapping[int, Any]) -> list[int]:
        return [k for k in range(len(arrays)) if k not in taken]


def _by_shape(arrays: Sequence[NDArray[Any]], taken: Mapping[int, Any]) -> dict[tuple[int, ...], list[int]]:
    found: dict[tuple[int, ...], list[int]] = {}
    for k, array in enumerate(arrays):
        if k not in taken and array.size > 1:
            found.setdefault(array.shape, []).append(k)
    return found


def _spread(values: NDArray[Any]) -> float:
    flat = values.reshape(-1)[:: max(values.size // SAMPLED, 1)]
    return float(np.std(flat, dtype=np.float64)) if flat.size > 1 else 0.0


def _rising(pairs: Sequence[tuple[int, int]]) -> list[tuple[int, int]]:
    """Returns the longest selection of `pairs`, sorted by their first, whose seconds rise too."""
    if not pairs:
        return []
    length, before = [1] * len(pairs), [-1] * len(pairs)
    for k in range(len(pairs)):
        for m in range(k):
            if pairs[m][1] < pairs[k][1] and length[m] + 1 > length[k]:
                length[k], before[k] = length[m] + 1, m
    k = max(range(len(pairs)), key=length.__getitem__)
    found: list[tuple[int, int]] = []
    while k >= 0:
        found.append(pairs[k])
        k = before[k]
    return found[::-1]
