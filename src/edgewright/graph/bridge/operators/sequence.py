"""Sequences and optional values, held as Python lists and None."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from edgewright.graph.bridge.operators.values import Ints, ints


def sequence_empty(*, dtype: int = 1) -> list[Tensor]:
    return []


def sequence_construct(*inputs: Tensor) -> list[Tensor]:
    return list(inputs)


def sequence_insert(sequence: Sequence[Tensor], tensor: Tensor, position: Ints | None = None) -> list[Tensor]:
    """At the end when no position is given."""
    result = list(sequence)
    result.insert(len(result) if position is None else ints(position)[0], tensor)
    return result


def sequence_erase(sequence: Sequence[Tensor], position: Ints | None = None) -> list[Tensor]:
    result = list(sequence)
    del result[-1 if position is None else ints(position)[0]]
    return result


def sequence_at(sequence: Sequence[Tensor], position: Ints) -> Tensor:
    return sequence[ints(position)[0]]


def sequence_length(sequence: Sequence[Tensor]) -> Tensor:
    return torch.tensor(len(sequence))


def concat_from_sequence(sequence: Sequence[Tensor], *, axis: int, new_axis: int = 0) -> Tensor:
    return torch.stack(list(sequence), axis) if new_axis else torch.cat(list(sequence), axis)


def split_to_sequence(x: Tensor, split: Ints | None = None, *, axis: int = 0, keepdims: int = 1) -> list[Tensor]:
    """Into single elements without `split`, into equal parts by a scalar."""
    if split is None:
        return list(x.split(1, axis) if keepdims else x.unbind(axis))  # type: ignore[no-untyped-call]
    scalar = isinstance(split, int) or (isinstance(split, Tensor) and split.dim() == 0)
    return list(x.split(ints(split)[0] if scalar else ints(split), axis))  # type: ignore[no-untyped-call]


def optional_get_element(value: Any) -> Any:
    return value


def optional_has_element(value: Any = None) -> Tensor:
    return torch.tensor(value is not None)


OPERATORS: dict[str, Callable[..., Any]] = {
    "ConcatFromSequence": concat_from_sequence,
    "OptionalGetElement": optional_get_element,
    "OptionalHasElement": optional_has_element,
    "SequenceAt": sequence_at,
    "SequenceConstruct": sequence_construct,
    "SequenceEmpty": sequence_empty,
    "SequenceErase": sequence_erase,
    "SequenceInsert": sequence_insert,
    "SequenceLength": sequence_length,
    "SplitToSequence": split_to_sequence,
}
