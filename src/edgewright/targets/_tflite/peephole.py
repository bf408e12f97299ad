"""Operators of the file being written that neighbours make needless: seen when everything is emitted, types and all."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from edgewright.targets._tflite.file import Tensor, TfliteFile
from edgewright.targets._tflite.versions import version_of

_REDUCTIONS = frozenset({"MEAN", "SUM", "REDUCE_MAX", "REDUCE_MIN"})
_WINDOWS = ("CONV_2D", "DEPTHWISE_CONV_2D")
_ELEMENTWISE = frozenset({
    "ABS", "ADD", "DEQUANTIZE", "DIV", "ELU", "EXP", "GELU", "HARD_SWISH", "LEAKY_RELU", "LOG", "LOGISTIC", "MAXIMUM",
    "MINIMUM", "MUL", "NEG", "QUANTIZE", "RELU", "RELU6", "RELU_N1_TO_1", "RSQRT", "SQRT", "SQUARE", "SUB", "TANH",
})  # fmt: skip
_PASSED = _ELEMENTWISE | {"PAD"}
_SAME, _VALID = 0, 1
_ROUNDS = 20
_MOST_PARTS, _DELEGATED = 4, frozenset({"float32", "int8", "uint8"})


@dataclass(slots=True, eq=False)
class Operator:
    """An operator to write.

    Attributes:
        op: Name in the schema.
        inputs: Tensor numbers.
        outputs: Likewise.
        options: Table of options in the schema.
        version: Of the operator.
        fields: Of the options.
        sources: Nodes of the model it comes from.
    """

    op: str
    inputs: list[int]
    outputs: list[int]
    options: str
    version: int
    fields: dict[str, Any]
    sources: tuple[str, ...]


def simplified(file: TfliteFile, operators: Sequence[Operator], kept: frozenset[int]) -> list[Operator]:
    """Returns the operators that are left, in order, changed in place.

    Args:
        file: Holds their tensors; new ones are added.
        operators: In the order of computing.
        kept: Inputs and outputs of the file.
    """
    found = _Listing(file, list(operators), kept)
    for _ in range(_ROUNDS):
        if not sum(rule(found) for rule in _RULES):
            break
    return found.operators


@dataclass(slots=True)
class _Listing:
    file: TfliteFile
    operators: list[Operator]
    kept: frozenset[int]
    makers: dict[int, Operator] = field(default_factory=dict)
    readers: dict[int, list[Operator]] = field(default_factory=dict)

    def refresh(self) -> None:
        """Looks up again who makes and who reads each tensor; operators that nobody reads are dropped."""
        self.readers = {}
        left = []
        for operator in reversed(self.operators):
            if any(n in self.readers or n in self.kept for n in operator.outputs):
                left.append(operator)
                for number in operator.inputs:
                    self.readers.setdefault(number, []).append(operator)
        self.operators = left[::-1]
        self.makers = {n: operator for operator in self.operators for n in operator.outputs}

    def tensor(self, number: int) -> Tensor:
        return self.file.tensors[number]

    def sole(self, number: int) -> bool:
        """Says whether one operator alone reads a tensor."""
        return len(self.readers.get(number, ())) == 1 and number not in self.kept

    def each(self, *ops: str) -> Iterator[Operator]:
        """Yields operators of some kinds that are still there; looks around anew before."""
        self.refresh()
        for operator in [operator for operator in self.operators if operator.op in ops]:
            if operator.outputs and self.makers.get(operator.outputs[0]) is operator:
                yield operator

    def before(self, number: int, op: str) -> Operator | None:
        """Returns the maker of a tensor if it is of one kind."""
        maker = self.makers.get(number)
        return maker if maker is not None and maker.op == op else None

    def reshape(self, data: int, made: int, sources: tuple[str, ...]) -> Operator:
        """Returns a RESHAPE; its target shape is a constant like those of the rules."""
        shape = list(self.tensor(made).shape)
        to = self.file.tensor("shape", "int32", [len(shape)], data=np.asarray(shape, np.int32))
        return self.made("RESHAPE", [data, to], [made], "ReshapeOptions", sources, newShape=shape)

    def made(
        self, op: str, inputs: list[int], outputs: list[int], options: str, sources: tuple[str, ...], **fields: Any
    ) -> Operator:
        """Returns an operator in the lowest version that knows its types."""
        taken, given = ([self.tensor(n) for n in side] for side in (inputs, outputs))
        return Operator(op, inputs, outputs, options, version_of(op, taken, given, fields), fields, sources)


def _chains(found: _Listing) -> int:
    """RESHAPE of a RESHAPE reads what the first one reads."""
    count = 0
    for operator in found.each("RESHAPE"):
        first = found.before(operator.inputs[0], "RESHAPE")
        if first is not None:
            operator.inputs[0] = first.inputs[0]
            count += 1
    return count


def _identities(found: _Listing) -> int:
    """RESHAPE to the same shape: its readers read what it reads, or its maker writes what it writes."""
    count = 0
    for operator in found.each("RESHAPE"):
        data, made = operator.inputs[0], operator.outputs[0]
        before, after = found.tensor(data), found.tensor(made)
        if (before.shape, before.dtype, before.quantisation) != (after.shape, after.dtype, after.quantisation):
            continue
        maker = found.makers.get(data)
        if made not in found.kept:
            _reread(found.operators, made, data)
        elif data not in found.kept and maker is not None:
            _reread(found.operators, data, made)
            maker.outputs = [made if n == data else n for n in maker.outputs]
            operator.outputs = []
        else:
            continue
        count += 1
        found.refresh()
    return count


def _reread(operators: Sequence[Operator], old: int, new: int) -> None:
    for operator in operators:
        operator.inputs = [new if n == old else n for n in operator.inputs]


def _reductions(found: _Listing) -> int:
    """A reduction that keeps its axes, and a RESHAPE that drops them: the reduction drops them."""
    count = 0
    for operator in found.each("RESHAPE"):
        data, made = operator.inputs[0], operator.outputs[0]
        source = found.makers.get(data)
        if source is None or source.op not in _REDUCTIONS or not source.fields.get("keepDims") or not found.sole(data):
            continue
        rank = len(found.tensor(source.inputs[0]).shape)
        axes = {int(axis) % rank for axis in found.file.array(source.inputs[1]).reshape(-1)}
        shape = tuple(n for axis, n in enumerate(found.tensor(data).shape) if axis not in axes)
        if shape == found.tensor(made).shape:
            source.fields["keepDims"], source.outputs = False, [made]
            source.sources = _joined(source, operator)
            operator.outputs = []
            count += 1
    return count


def _pads(found: _Listing) -> int:
    """PAD of a PAD pads once; PAD before a convolution that SAME does is left out."""
    count = 0
    for operator in found.each("PAD"):
        first = found.before(operator.inputs[0], "PAD")
        if first is not None and found.sole(operator.inputs[0]):
            amounts = found.file.array(first.inputs[1]) + found.file.array(operator.inputs[1])
            operator.inputs = [first.inputs[0], found.file.tensor("pads", "int32", amounts.shape, data=amounts)]
            operator.sources = _joined(first, operator)
            count += 1
            found.refresh()
    for operator in found.each(*_WINDOWS):
        pad = found.before(operator.inputs[0], "PAD")
        if pad is not None and operator.fields["padding"] == _VALID and _is_same(found, operator, pad):
            operator.inputs[0], operator.fields["padding"] = pad.inputs[0], _SAME
            operator.sources = _joined(pad, operator)
            count += 1
    return count


def _is_same(found: _Listing, operator: Operator, pad: Operator) -> bool:
    amounts = found.file.array(pad.inputs[1])
    if amounts.shape[0] != 4 or amounts[[0, 3]].any() or (amounts < 0).any():
        return False
    size, out = found.tensor(pad.inputs[0]).shape, found.tensor(operator.outputs[0]).shape
    kernel = found.tensor(operator.inputs[1]).shape
    for axis, letter in ((1, "H"), (2, "W")):
        stride, dilation = operator.fields[f"stride{letter}"], operator.fields[f"dilation{letter}Factor"]
        total = max((out[axis] - 1) * stride + (kernel[axis] - 1) * dilation + 1 - size[axis], 0)
        if out[axis] != -(-size[axis] // stride) or amounts[axis][0] != total // 2:
            return False
    return True


def _sink(found: _Listing) -> int:
    """RESHAPE before what works element by element moves behind it, where it may meet another one."""
    count = 0
    for operator in found.each(*_ELEMENTWISE):
        made = operator.outputs[0]
        changed = [(i, n) for i, n in enumerate(operator.inputs) if n >= 0 and not found.tensor(n).constant]
        sources = [found.before(n, "RESHAPE") for _, n in changed]
        fewer = len(sources) > 1 and all(found.sole(number) for _, number in changed)
        if not sources or None in sources or not (fewer or _meets_reshape(found, made)):
            continue
        shapes = {found.tensor(source.inputs[0]).shape for source in sources if source is not None}
        outs = {found.tensor(n).shape for _, n in changed} | {found.tensor(made).shape}
        if len(shapes) != 1 or len(outs) != 1 or not _broadcasts(found, operator, outs.pop(), inner := shapes.pop()):
            continue
        for (index, _), source in zip(changed, sources, strict=True):
            assert source is not None
            operator.inputs[index] = source.inputs[0]
        _move_behind(found, operator, inner)
        count += 1
        found.refresh()
    return count


def _meets_reshape(found: _Listing, number: int) -> bool:
    """Says whether every way on from a tensor leads through element by element operators to RESHAPE or PAD."""
    if number in found.kept:
        return False
    readers = found.readers.get(number, ())
    return bool(readers) and all(
        reader.op == "RESHAPE" or (reader.op in _PASSED and _meets_reshape(found, reader.outputs[0]))
        for reader in readers
    )


def _broadcasts(found: _Listing, operator: Operator, outer: Sequence[int], inner: Sequence[int]) -> bool:
    """Says whether the constants among the inputs mean the same beside `inner`: at most as many as channels."""
    constants = [found.tensor(n) for n in operator.inputs if n >= 0 and found.tensor(n).constant]
    sizes = [int(np.prod(tensor.shape)) for tensor in constants]
    return all(
        n == 1 or (len(tensor.shape) == 1 and outer[-1] == inner[-1] == n)
        for n, tensor in zip(sizes, constants, strict=True)
    )


def _move_behind(found: _Listing, operator: Operator, shape: Sequence[int]) -> None:
    made = operator.outputs[0]
    like = found.tensor(made)
    within = found.file.tensor(f"{like.name}/within", like.dtype, shape, quantisation=like.quantisation)
    operator.outputs = [within]
    place = found.operators.index(operator)
    found.operators.insert(place + 1, found.reshape(within, made, operator.sources))


def _unit_pads(found: _Listing) -> int:
    """PAD between RESHAPEs that take an axis of size 1 out and in again pads with that axis there."""
    count = 0
    for operator in found.each("PAD"):
        data, made = operator.inputs[0], operator.outputs[0]
        source = found.before(data, "RESHAPE")
        if source is None or not _meets_reshape(found, made):
            continue
        outer, inner = found.tensor(source.inputs[0]).shape, found.tensor(data).shape
        if len(outer) != 4 or outer != (inner[0], 1, *inner[1:]):
            continue
        amounts = np.insert(found.file.array(operator.inputs[1]), 1, 0, axis=0)
        operator.inputs = [source.inputs[0], found.file.tensor("pads", "int32", amounts.shape, data=amounts)]
        shape = found.tensor(made).shape
        _move_behind(found, operator, (shape[0], 1, *shape[1:]))
        count += 1
        found.refresh()
    return count


def _joined(*operators: Operator) -> tuple[str, ...]:
    return tuple(dict.fromkeys(name for operator in operators for name in operator.sources))


def _splits(found: _Listing) -> int:
    """SPLIT into unequal or many parts becomes SLICE: the XNNPACK delegate splits into two to four equal parts only."""
    count = 0
    for operator in found.each("SPLIT", "SPLIT_V"):
        if operator.op == "SPLIT" and len(operator.outputs) <= _MOST_PARTS:
            continue
        data = operator.inputs[0 if operator.op == "SPLIT_V" else 1]
        whole, begin = found.tensor(data).shape, [0] * len(found.tensor(data).shape)
        if found.tensor(data).dtype not in _DELEGATED:
            continue
        place = found.operators.index(operator)
        for number in operator.outputs:
            part = found.tensor(number).shape
            bounds = [
                found.file.tensor("part", "int32", [len(part)], data=np.asarray(b, np.int32)) for b in (begin, part)
            ]
            place += 1
            found.operators.insert(
                place, found.made("SLICE", [data, *bounds], [number], "SliceOptions", operator.sources)
            )
            begin = [low + (n if n != size else 0) for low, n, size in zip(begin, part, whole, strict=True)]
        operator.outputs = []
        count += 1
        found.refresh()
    return count


_RULES: Sequence[Callable[[_Listing], int]] = (_splits, _chains, _identities, _reductions, _sink, _unit_pads, _pads)
