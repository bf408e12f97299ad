"""The part of a file up to tensors of one's choice: what stands behind a network often has no place in ONNX."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from difflib import get_close_matches

from edgewright.errors import SourceError
from edgewright.formats.tflite.reader import TfliteGraph


def cut(graph: TfliteGraph, outputs: Sequence[str]) -> TfliteGraph:
    """Returns the part of `graph` that computes the tensors named `outputs`, which become its outputs.

    Raises:
        SourceError: No such tensor, or it is none that the file computes.
    """
    made = {number for op in graph.operators for number in op.outputs}
    numbers = tuple(_number(graph, name, made) for name in outputs)
    return replace(graph, operators=tuple(graph.operators[i] for i in needed(graph, numbers)), outputs=numbers)


def needed(graph: TfliteGraph, outputs: Sequence[int]) -> tuple[int, ...]:
    """Returns which operators, by position, the tensors `outputs` depend on."""
    wanted = set(outputs)
    kept = []
    for index in reversed(range(len(graph.operators))):
        op = graph.operators[index]
        if wanted.intersection(op.outputs):
            kept.append(index)
            wanted.update(op.inputs)
    return tuple(reversed(kept))


def _number(graph: TfliteGraph, name: str, made: set[int]) -> int:
    found = [number for number in sorted(made) if graph.tensors[number].name == name]
    if not found:
        near = get_close_matches(name, [graph.tensors[n].name for n in made], 3, 0.4)
        hint = f"did you mean {' or '.join(near)}?" if near else "take a name from the file, as a viewer shows it"
        raise SourceError(f'output "{name}": the file computes no tensor of that name', hint=hint)
    return found[-1]
