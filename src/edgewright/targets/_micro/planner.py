"""Where tensors lie in the arena: the greedy-by-size planner of TensorFlow Lite Micro, line by line.

Source: tensorflow/lite/micro/memory_planner/greedy_memory_planner.cc and micro_allocation_info.cc (lifetimes).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from edgewright.formats.tflite.reader import TfliteGraph
from edgewright.targets._micro.layout import up

ALIGNMENT = 16
"""Of every buffer in the arena (micro_arena_constants.h)."""


@dataclass(frozen=True, slots=True)
class Buffer:
    """Room in the arena that is shared over time.

    Attributes:
        name: Of the tensor, or what the scratch is for.
        size: Bytes, a multiple of `ALIGNMENT`.
        first: Step in which it is written; step 0 sets the inputs, step n is operator n - 1.
        last: Last step that reads it.
        offset: Byte position from the start of the arena.
        scratch: Working memory of a kernel.
    """

    name: str
    size: int
    first: int
    last: int
    offset: int = 0
    scratch: bool = False

    @property
    def end(self) -> int:
        """First byte behind it."""
        return self.offset + self.size

    def lives_with(self, other: Buffer) -> bool:
        """Says whether both are needed in some step."""
        return self.first <= other.last and other.first <= self.last


def lifetimes(graph: TfliteGraph, sizes: Sequence[int]) -> list[Buffer]:
    """Returns the tensors that need room, with the steps in which they do.

    Args:
        graph: The operators.
        sizes: Bytes per tensor; 0 for those that need none.
    """
    first: dict[int, int] = {}
    last: dict[int, int] = {}
    for number in (*graph.inputs, *graph.outputs):
        first[number] = last[number] = 0
    for step, op in enumerate(graph.operators, 1):
        first.update(dict.fromkeys(op.outputs, step))
        last.update(dict.fromkeys((*op.inputs, *op.outputs), step))
    last.update(dict.fromkeys(graph.outputs, len(graph.operators)))
    return [
        Buffer(graph.tensors[n].name, up(size, ALIGNMENT), first.get(n, -1), last.get(n, -1))
        for n, size in enumerate(sizes)
        if size
    ]


def plan(buffers: Sequence[Buffer]) -> tuple[Buffer, ...]:
    """Returns the buffers with their offsets, in the order given.

    The largest is placed first; each next one goes into the first gap that is wide enough between those that live at
    the same time. Of two equal sizes the one added later goes first, as there.
    """
    order = sorted(range(len(buffers)), key=lambda number: (-buffers[number].size, -number))
    placed: list[Buffer] = []
    found: dict[int, Buffer] = {}
    for number in order:
        wanted = buffers[number]
        made = replace(wanted, offset=_gap(wanted, placed))
        at = next((i for i, other in enumerate(placed) if other.offset > made.offset), len(placed))
        placed.insert(at, made)
        found[number] = made
    return tuple(found[number] for number in range(len(buffers)))


def _gap(wanted: Buffer, placed: Sequence[Buffer]) -> int:
    """Returns the lowest offset where it fits; `placed` is in the order of offsets."""
    offset = 0
    for other in placed:
        if wanted.lives_with(other):
            if other.offset - offset >= wanted.size:
                break
            offset = max(offset, other.end)
    return offset


def height(buffers: Sequence[Buffer]) -> int:
    """Returns the bytes that planned buffers need together."""
    return max((buffer.end for buffer in buffers), default=0)


def peak(buffers: Sequence[Buffer]) -> tuple[int, tuple[Buffer, ...]]:
    """Returns the step that needs most, and what lives then, the largest first."""
    steps = {buffer.first for buffer in buffers}
    alive = {step: [b for b in buffers if b.first <= step <= b.last] for step in steps}
    if not alive:
        return 0, ()
    step = max(sorted(alive), key=lambda s: sum(b.size for b in alive[s]))
    return step, tuple(sorted(alive[step], key=lambda b: -b.size))
