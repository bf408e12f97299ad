"""Identities of channels: every index of every axis is an atom or stands still, and operators tie atoms together.

An axis of n indices is labelled by an array of n numbers: an atom, or `STILL` where nothing can ever be removed (batch,
positions, inputs of the model). Atoms that must go together are one class of a union-find; a class that may not go at
all is fixed, with the reason.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Labels = NDArray[np.int64]
STILL = -1


class Atoms:
    """A union-find over atoms, with the reason for every class that has to stay."""

    def __init__(self) -> None:
        self._parent: Labels = np.zeros(0, np.int64)
        self._count = 0
        self._fixed: dict[int, str] = {}

    def fresh(self, count: int) -> Labels:
        """Returns `count` new atoms; a single one could never be removed and stands still."""
        if count <= 1:
            return still(count)
        first, self._count = self._count, self._count + count
        if self._count >= self._parent.size:  # one place more than atoms, for what stands still
            known = self._parent.size
            self._parent = np.concatenate([self._parent, np.arange(known, 2 * self._count + 1, dtype=np.int64)])
        return np.arange(first, self._count, dtype=np.int64)

    def roots(self, labels: Labels) -> Labels:
        """Returns the class of every label; `STILL` where there is none."""
        if not moves(labels):
            return labels
        found = self._parent[labels]
        above = self._parent[found]
        while not (above == found).all():
            found, above = above, self._parent[above]
        self._parent[labels] = found  # STILL is the last place, which is never an atom
        return np.where(labels < 0, STILL, found)

    def tie(self, first: Labels, second: Labels, where: str) -> None:
        """Makes `first[i]` and `second[i]` one class for every i; beside `STILL` an atom is fixed, `where` says why."""
        pairs = np.unique(np.stack([self.roots(first).ravel(), self.roots(second).ravel()]), axis=1)
        for one, other in pairs.T.tolist():
            self._join(one, other, where)

    def tie_rows(self, table: Labels, where: str) -> None:
        """Makes the labels of every row of `table` [rows, columns] one class."""
        for column in range(1, table.shape[1]):
            self.tie(table[:, 0], table[:, column], where)

    def fix(self, labels: Labels, reason: str) -> None:
        """Says that these may not be removed; the first reason stays."""
        for root in np.unique(self.roots(labels)).tolist():
            if root != STILL:
                self._fixed.setdefault(root, reason)

    def reason(self, label: int) -> str | None:
        """Returns why `label` has to stay, None where it may go."""
        root = int(self.roots(np.array([label]))[0])
        return "it is no channel" if root == STILL else self._fixed.get(root)

    def free(self, labels: Labels) -> Labels:
        """Returns the classes of `labels`, `STILL` for those that have to stay."""
        return among(self.roots(labels), np.fromiter(self._fixed, np.int64, len(self._fixed)), STILL)

    def _join(self, one: int, other: int, where: str) -> None:
        if one == other:
            return
        if STILL in (one, other):
            self.fix(np.array([max(one, other)]), where)
            return
        first, second = sorted((self._root(one), self._root(other)))
        if first == second:
            return
        self._parent[second] = first
        reason = self._fixed.pop(second, None)
        if reason is not None:
            self._fixed.setdefault(first, reason)

    def _root(self, label: int) -> int:
        above = int(self._parent[label])
        while above != label:
            label, above = above, int(self._parent[above])
        return label


def still(count: int) -> Labels:
    """Returns labels of an axis of which nothing can be removed."""
    return np.full(count, STILL, np.int64)


def among(labels: Labels, chosen: Labels, instead: int) -> Labels:
    """Returns `labels` with `instead` in place of those that are among `chosen`."""
    if not chosen.size or not moves(labels):
        return labels
    table = np.arange(max(int(labels.max()), int(chosen.max())) + 2)
    table[chosen] = instead
    table[STILL] = STILL
    return np.asarray(table[labels], np.int64)


def moves(labels: Labels) -> bool:
    """Says whether anything of the axis could be removed."""
    return bool((labels >= 0).any())
