"""Rules for recurrent layers.

ONNX stacks the gates in the order input, output, forget, cell; TensorFlow Lite keeps a tensor for each.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from edgewright.errors import SourceError
from edgewright.formats.tflite.emitter import Emitter
from edgewright.formats.tflite.layouts import Rule, ints
from edgewright.formats.tflite.reader import TfliteGraph, TfliteOperator

VARIABLES = ("UNIDIRECTIONAL_SEQUENCE_LSTM", "BIDIRECTIONAL_SEQUENCE_LSTM", "UNIDIRECTIONAL_SEQUENCE_RNN")
"""Operators whose variable tensors are states that start from zero."""
_ACTIVATIONS = {1: "Relu", 4: "Tanh"}
_INPUT, _FORGET, _CELL, _OUTPUT = range(4)
_ONNX_ORDER = (_INPUT, _OUTPUT, _FORGET, _CELL)


def lstm(e: Emitter, op: TfliteOperator) -> None:
    """UNIDIRECTIONAL_SEQUENCE_LSTM (Hochreiter and Schmidhuber, 1997; peepholes: Gers and Schmidhuber, 2000)."""
    _check(e, op, (16, 17, *range(20, len(op.inputs))))
    weights = [_stacked([part]) for part in _direction(e, op, 1, 9, 12)]
    _sequence(e, op, "LSTM", weights, op.inputs[18:20])


def bidirectional_lstm(e: Emitter, op: TfliteOperator) -> None:
    """BIDIRECTIONAL_SEQUENCE_LSTM without auxiliary input."""
    _check(e, op, (16, 17, 33, 34, *range(39, len(op.inputs))))
    both = (_direction(e, op, 1, 9, 12), _direction(e, op, 18, 26, 29))
    _sequence(e, op, "LSTM", [_stacked(parts) for parts in zip(*both, strict=True)], ())


def rnn(e: Emitter, op: TfliteOperator) -> None:
    """UNIDIRECTIONAL_SEQUENCE_RNN."""
    if op.options["activation"] not in _ACTIVATIONS:
        raise SourceError(
            f'tensor "{e.tensor(op.outputs[0]).name}": {op.op} with fused activation {op.options["activation"]}',
            hint="use tanh or ReLU",
        )
    weights, recurrent, bias = (e.need_array(n).astype(np.float32) for n in op.inputs[1:4])
    both = np.concatenate([bias, np.zeros_like(bias)])
    _sequence(e, op, "RNN", [weights[None], recurrent[None], both[None], None], op.inputs[4:5])


def _direction(e: Emitter, op: TfliteOperator, weights: int, peepholes: int, biases: int) -> list[NDArray[Any] | None]:
    """Returns weights [4H, I], recurrent weights [4H, H], bias [8H] and peepholes [3H] of one direction."""
    given = [_four(e, op, start) for start in (weights, weights + 4, biases)]
    assert given[0] is not None
    size = given[0][_FORGET].shape[0]
    bias = given[2] or [np.zeros(size, np.float32)] * 4
    stacked = [np.concatenate([part[gate] for gate in _ONNX_ORDER]) for part in (given[0], given[1] or [], bias)]
    stacked[2] = np.concatenate([stacked[2], np.zeros(4 * size, np.float32)])
    return [*stacked, _peepholes(e, op, peepholes)]


def _four(e: Emitter, op: TfliteOperator, start: int) -> list[NDArray[Any]] | None:
    """Returns what belongs to the four gates; without an input gate that one is 1 - the forget gate."""
    numbers = op.inputs[start : start + 4]
    if numbers[_FORGET] < 0:
        return None
    found = [None if n < 0 else e.need_array(n).astype(np.float32) for n in numbers]
    forget = found[_FORGET]
    assert forget is not None
    coupled = -forget  # 1 - sigmoid(z) = sigmoid(-z)
    return [coupled if part is None else part for part in found]


def _peepholes(e: Emitter, op: TfliteOperator, start: int) -> NDArray[Any] | None:
    numbers = op.inputs[start : start + 3]
    if numbers[1] < 0:
        return None
    forget, output = (e.need_array(n).astype(np.float32) for n in numbers[1:])
    entering = -forget if numbers[0] < 0 else e.need_array(numbers[0]).astype(np.float32)
    return np.concatenate([entering, output, forget])


def _stacked(parts: Sequence[NDArray[Any] | None]) -> NDArray[Any] | None:
    present = [part for part in parts if part is not None]
    return np.stack(present) if len(present) == len(parts) else None


def _sequence(
    e: Emitter, op: TfliteOperator, kind: str, weights: Sequence[NDArray[Any] | None], states: Sequence[int]
) -> None:
    """Adds the layer: ONNX puts time first, and directions behind it."""
    name, time_first = e.tensor(op.outputs[0]).name, bool(op.options["time_major"])
    value = e.last(op.inputs[0])
    if not time_first:
        value = e.node("Transpose", [value], f"{name}_time_first", perm=(1, 0, 2))
    constants = [
        w if w is None else e.constant(w, f"{name}_{letter}") for letter, w in zip("wrbp", weights, strict=True)
    ]
    given = [_state(e, number) for number in states]
    inputs = [value, *constants[:3], None, *given, *[None] * (2 - len(given)), constants[3]]
    recurrent = weights[1]
    assert recurrent is not None
    both = len(recurrent) == 2
    activations = (["Sigmoid", "Tanh"] if kind == "LSTM" else []) + [_ACTIVATIONS[op.options["activation"]]]
    made = e.node(
        kind,
        inputs if kind == "LSTM" else inputs[:6],
        f"{name}_{kind.lower()}",
        hidden_size=recurrent.shape[2],
        direction="bidirectional" if both else "forward",
        activations=activations * (2 if both else 1),
    )
    if both and op.options["merge"]:
        made = e.node("Transpose", [made], f"{name}_joined", perm=(0, 2, 1, 3) if time_first else (2, 0, 1, 3))
        made = e.node("Reshape", [made, ints(e, [0, 0, -1], name)], name)
        e.store(op.outputs[0], made, first=False)
        return
    ways = e.node_of_many("Split", [made], [f"{name}_way"] * 2, axis=1, num_outputs=2) if both else [made]
    for number, way in zip(op.outputs, ways, strict=False):
        _store(e, number, way, time_first=time_first)


def _store(e: Emitter, number: int, way: ir.Value, *, time_first: bool) -> None:
    name = e.tensor(number).name
    made = e.node("Squeeze", [way, ints(e, [1], name)], name if time_first else f"{name}_steps")
    if not time_first:
        made = e.node("Transpose", [made], name, perm=(1, 0, 2))
    e.store(number, made, first=False)


def _state(e: Emitter, number: int) -> ir.Value | None:
    """Returns a state that is given, with an axis for the direction; None for one that starts from zero."""
    if number < 0 or e.tensor(number).variable:
        return None
    value, name = e.array(number), e.tensor(number).name
    if value is not None and not value.any():
        return None
    return e.node("Unsqueeze", [e.last(number), ints(e, [0], name)], f"{name}_given")


def clipped(graph: TfliteGraph) -> tuple[str, ...]:
    """Returns the LSTM layers whose cell state the file clips where ONNX does not, by their output.

    A cell state grows by at most 1 in a step, so no shorter sequence reaches the limit.
    """
    layers = (op for op in graph.operators if op.op in VARIABLES and op.options.get("cell_clip", 0) > 0)
    return tuple(graph.tensors[op.outputs[0]].name for op in layers if _steps(graph, op) > op.options["cell_clip"])


def _steps(graph: TfliteGraph, op: TfliteOperator) -> int:
    axis, tensor = 0 if op.options["time_major"] else 1, graph.tensors[op.inputs[0]]
    return 2**31 if tensor.dynamic[axis] else tensor.shape[axis]


def _check(e: Emitter, op: TfliteOperator, unknown: Sequence[int]) -> None:
    what = next(
        (
            words
            for wrong, words in (
                (any(op.inputs[n] >= 0 for n in unknown if n < len(op.inputs)), "a projection or layer normalisation"),
                (op.options["activation"] not in _ACTIVATIONS, f"fused activation {op.options['activation']}"),
            )
            if wrong
        ),
        None,
    )
    if what:
        raise SourceError(
            f'tensor "{e.tensor(op.outputs[0]).name}": {op.op} with {what} is not supported',
            hint="convert the layer without it, or import the model from PyTorch or ONNX",
        )


RULES: dict[str, Rule] = {
    "UNIDIRECTIONAL_SEQUENCE_LSTM": lstm,
    "BIDIRECTIONAL_SEQUENCE_LSTM": bidirectional_lstm,
    "UNIDIRECTIONAL_SEQUENCE_RNN": rnn,
}
