"""Broadcasting of ranks that kernels do not know, in fewer axes."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import numpy as np

from edgewright.targets._tflite.emission import Emission
from edgewright.targets._tflite.rules.typed import reshaped

RANK = 4
"""Ranks up to this broadcast in every kernel."""


def merged(shapes: Sequence[Sequence[int]]) -> tuple[list[list[int]], list[int]]:
    """Joins neighbouring axes that broadcast alike.

    Args:
        shapes: Of the operands.

    Returns:
        The shapes of the operands and of the result, in as few axes as broadcast the same elements.
    """
    out = list(np.broadcast_shapes(*map(tuple, shapes)))
    full = [[1] * (len(out) - len(shape)) + list(shape) for shape in shapes]
    whole = [[size == wanted for size, wanted in zip(shape, out, strict=True)] for shape in full]
    starts = [0] + [b for a, b in pairwise(range(len(out))) if any(w[a] != w[b] for w in whole)]
    spans = [(begin, end) for begin, end in pairwise([*starts, len(out)])]
    return [_joined(shape, spans) for shape in full], _joined(out, spans)


def fewer_axes(e: Emission, tensors: Sequence[int]) -> tuple[list[int], list[int]] | None:
    """Reshapes operands whose broadcasting needs more axes than kernels take.

    Returns:
        The operands and the shape of their result; None where nothing needs to be done.
    """
    shapes = [e.tensor(tensor).shape for tensor in tensors]
    if max(map(len, shapes)) <= RANK or len(set(shapes)) == 1:
        return None
    fewer, out = merged(shapes)
    if len(out) > RANK:
        return None
    return [reshaped(e, tensor, shape) for tensor, shape in zip(tensors, fewer, strict=True)], out


def _joined(shape: Sequence[int], spans: Sequence[tuple[int, int]]) -> list[int]:
    return [int(np.prod(shape[begin:end])) for begin, end in spans]
