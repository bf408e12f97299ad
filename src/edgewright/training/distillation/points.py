"""Where inside two models the student is compared with the teacher: pairs of tensors, found by name, size or depth."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import onnx_ir as ir

from edgewright.errors import ConfigError
from edgewright.training.distillation.settings import AUTO, Comparison, pair

MOST_SIZES = 4
"""Coarsest spatial sizes that `auto` compares: finer ones hold edges, and most of the memory."""
_WEIGHTED = ("Conv", "ConvTranspose", "Gemm", "MatMul")
_STANDARD = ("", "ai.onnx")


@dataclass(frozen=True, slots=True)
class Point:
    """Two tensors that are compared.

    Attributes:
        student: Name of the tensor.
        teacher: Name of the tensor.
        kind: `features`, `map` (attention of convolutional features), `probabilities` (attention of a transformer).
        weight: Of the loss.
        channels: Of the student's and the teacher's tensor; 0 where they do not matter.
        axis: Of the channels.
    """

    student: str
    teacher: str
    kind: str
    weight: float
    channels: tuple[int, int] = (0, 0)
    axis: int = 1


def points_of(student: ir.Model, teacher: ir.Model, comparison: Comparison) -> tuple[Point, ...]:
    """Returns what of the inside is compared.

    Args:
        student: With inferred shapes.
        teacher: With inferred shapes.
        comparison: Which pairs.

    Raises:
        ConfigError: A tensor is not there, a pair does not fit, or `auto` finds none.
    """
    features = _pairs(student, teacher, comparison.features, _alike, "features")
    attention = _pairs(student, teacher, comparison.attention, _attending, "attention")
    return (
        *(_feature(a, b, comparison.feature_weight) for a, b in features),
        *(_attention(a, b, comparison.attention_weight) for a, b in attention),
    )


Pair = tuple[ir.Value, ir.Value]


def _pairs(
    student: ir.Model,
    teacher: ir.Model,
    named: Sequence[str],
    found: Callable[[ir.Model, ir.Model], list[Pair]],
    field: str,
) -> list[Pair]:
    if list(named) == [AUTO]:
        pairs = found(student, teacher)
        if not pairs:
            hint = f'name pairs of tensors: {field} = ["student_tensor -> teacher_tensor"]'
            raise ConfigError(f'{field} = "auto": no tensors of the two models belong together', hint=hint)
        return pairs
    ours, theirs = _tensors(student), _tensors(teacher)
    return [(_named(ours, a, "student"), _named(theirs, b, "teacher")) for a, b in map(pair, named)]


def _named(tensors: Mapping[str, ir.Value], name: str, whose: str) -> ir.Value:
    if name not in tensors:
        raise ConfigError(f"the {whose} has no tensor {name!r}", hint="name a tensor of its graph, as Netron shows it")
    return tensors[name]


def _feature(student: ir.Value, teacher: ir.Value, weight: float) -> Point:
    ours, theirs = _shape(student), _shape(teacher)
    axis = 1 if len(ours) == 4 else len(ours) - 1
    rest = [[size for i, size in enumerate(shape) if i not in (0, axis)] for shape in (ours, theirs)]
    channels = [shape[axis] if len(shape) > axis else None for shape in (ours, theirs)]
    known = [channel for channel in channels if isinstance(channel, int)]
    if len(ours) != len(theirs) or _differ(*rest) or len(known) != 2:
        raise ConfigError(
            f"features {student.name} {_said(ours)} of the student and {teacher.name} {_said(theirs)} of the teacher "
            "cannot be compared",
            hint="name tensors of the same spatial size and known channels",
        )
    return Point(str(student.name), str(teacher.name), "features", weight, (known[0], known[1]), axis)


def _attention(student: ir.Value, teacher: ir.Value, weight: float) -> Point:
    soft = [_is(value, "Softmax") for value in (student, teacher)]
    ours, theirs = _shape(student), _shape(teacher)
    if soft[0] != soft[1] or len(ours) != 4 or len(theirs) != 4 or _differ(ours[2:], theirs[2:]):
        raise ConfigError(
            f"the attention of {student.name} {_said(ours)} and {teacher.name} {_said(theirs)} cannot be compared",
            hint="name two feature maps of the same size, or two outputs of Softmax over as many tokens",
        )
    return Point(str(student.name), str(teacher.name), "probabilities" if soft[0] else "map", weight)


def _alike(student: ir.Model, teacher: ir.Model) -> list[Pair]:
    """Returns the ends of residual blocks in models of sequences, else the last tensors of each spatial size."""
    blocks = _by_depth(_blocks(student), _blocks(teacher))
    if blocks:
        return blocks
    ours, theirs = _last_of_sizes(student), _last_of_sizes(teacher)
    sizes = [size for size in ours if size in theirs]
    sizes.sort(key=lambda size: size[0] * size[1])
    return [_same_name(ours[size], theirs[size]) for size in sizes[:MOST_SIZES]]


def _same_name(ours: list[ir.Value], theirs: list[ir.Value]) -> Pair:
    """Returns the last tensors of one size that have the same name, else the last of each."""
    names = {value.name: value for value in theirs}
    return next(((value, names[value.name]) for value in reversed(ours) if value.name in names), (ours[-1], theirs[-1]))


def _attending(student: ir.Model, teacher: ir.Model) -> list[Pair]:
    """Returns the attention probabilities of transformers, else the pairs that features would take."""
    ours, theirs = _probabilities(student), _probabilities(teacher)
    if ours and theirs:
        return _by_depth(ours, theirs)
    return [(a, b) for a, b in _alike(student, teacher) if len(_shape(a)) == 4]


def _by_depth(ours: Sequence[ir.Value], theirs: Sequence[ir.Value]) -> list[Pair]:
    """Pairs layers evenly, the last with the last (Jiao et al. 2020, TinyBERT)."""
    if not theirs:
        return []
    return [(value, theirs[round((i + 1) * len(theirs) / len(ours)) - 1]) for i, value in enumerate(ours)]


def _probabilities(model: ir.Model) -> list[ir.Value]:
    return [n.outputs[0] for n in model.graph if n.op_type == "Softmax" and len(_shape(n.outputs[0])) == 4]


def _blocks(model: ir.Model) -> list[ir.Value]:
    """Returns where residual branches of a sequence meet again."""
    return [
        node.outputs[0]
        for node in model.graph
        if node.op_type == "Add"
        and len(_shape(node.outputs[0])) == 3
        and isinstance(_shape(node.outputs[0])[2], int)
        and all(v is not None and v.const_value is None and len(_shape(v)) == 3 for v in node.inputs)
    ]


def _last_of_sizes(model: ir.Model) -> dict[tuple[int, int], list[ir.Value]]:
    """Returns, per spatial size, the feature maps that lead to another layer with weights, in the graph's order."""
    leading = _leading(model)
    found: dict[tuple[int, int], list[ir.Value]] = {}
    for node in model.graph:
        for value in node.outputs:
            shape = _shape(value)
            sides = [side for side in shape[1:] if isinstance(side, int) and side > 0]
            if value in leading and len(shape) == 4 and len(sides) == 3 and not _is(value, "Softmax"):
                found.setdefault((sides[1], sides[2]), []).append(value)
    return {size: values for size, values in found.items() if min(size) > 1}


def _leading(model: ir.Model) -> set[ir.Value]:
    """Returns the values between layers with weights: what lies before the first of them teaches nothing."""
    computed: set[ir.Value] = set(model.graph.inputs) - set(model.graph.initializers.values())
    learnt: set[ir.Value] = set()
    for node in model.graph:
        if any(value in computed for value in node.inputs if value is not None):
            computed.update(node.outputs)
            if _weighted(node) or any(value in learnt for value in node.inputs if value is not None):
                learnt.update(node.outputs)
    found: set[ir.Value] = set()
    for node in reversed(list(model.graph)):
        if _weighted(node) or any(value in found for value in node.outputs):
            found.update(value for value in node.inputs if value is not None and value in learnt)
    return found


def _weighted(node: ir.Node) -> bool:
    return node.op_type in _WEIGHTED and node.domain in _STANDARD


def _tensors(model: ir.Model) -> dict[str, ir.Value]:
    return {str(value.name): value for node in model.graph for value in node.outputs}


def _is(value: ir.Value, operator: str) -> bool:
    node = value.producer()
    return node is not None and node.op_type == operator


def _shape(value: ir.Value) -> tuple[int | str | None, ...]:
    if value.shape is None:
        return ()
    return tuple(axis if isinstance(axis, int) else axis.value for axis in value.shape)


def _differ(ours: Sequence[int | str | None], theirs: Sequence[int | str | None]) -> bool:
    known = [(a, b) for a, b in zip(ours, theirs, strict=False) if isinstance(a, int) and isinstance(b, int)]
    return len(ours) != len(theirs) or any(a != b for a, b in known)


def _said(shape: Sequence[int | str | None]) -> str:
    return f"[{', '.join('?' if size is None else str(size) for size in shape)}]"
