"""LSTM, GRU and RNN written out step by step.

The projection of the inputs is one product over all steps; a step then is one product with the state and element-wise
operators, all of which XNNPACK and TensorFlow Lite Micro run, with any initial state, any activations and exact
results. A fused UNIDIRECTIONAL_SEQUENCE_LSTM starts from zeros, keeps its cell state to itself, and no delegate takes
it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from edgewright.errors import StepFailed
from edgewright.targets._tflite.lowering.apply import Lowering, Rule
from edgewright.targets._tflite.lowering.arithmetic import Made, Maths, number
from edgewright.targets._tflite.stored import real

_GATES = {"LSTM": 4, "GRU": 3, "RNN": 1}
_DEFAULTS = {"LSTM": ("Sigmoid", "Tanh", "Tanh"), "GRU": ("Sigmoid", "Tanh"), "RNN": ("Tanh",)}
_LONGEST = 2048


@dataclass(frozen=True, slots=True)
class _Activation:
    name: str
    alpha: float | None
    beta: float | None

    def __call__(self, m: Maths, x: ir.Value) -> ir.Value:
        name = self.name.lower()
        if name in _PLAIN:
            return m(_PLAIN[name], x)
        if name == "affine":
            return m("Add", m("Mul", x, number(self._alpha(1.0))), number(self.beta or 0.0))
        if name == "scaledtanh":
            return m("Mul", m("Tanh", m("Mul", x, number(self.beta or 1.0))), number(self._alpha(1.0)))
        if name == "hardsigmoid":
            return m("HardSigmoid", x, alpha=self._alpha(0.2), beta=0.5 if self.beta is None else self.beta)
        if name in _ONE_ALPHA:
            op, default = _ONE_ALPHA[name]
            return m(op, x, alpha=self._alpha(default))
        raise StepFailed(f'LiteRT: recurrent activation "{self.name}" is not supported', hint="use Sigmoid or Tanh")

    def _alpha(self, default: float) -> float:
        return default if self.alpha is None else self.alpha


_PLAIN = {"sigmoid": "Sigmoid", "tanh": "Tanh", "relu": "Relu", "softsign": "Softsign", "softplus": "Softplus"}
_ONE_ALPHA = {"leakyrelu": ("LeakyRelu", 0.01), "thresholdedrelu": ("ThresholdedRelu", 1.0), "elu": ("Elu", 1.0)}


@dataclass(frozen=True, slots=True)
class _Weights:
    """Of one direction: inputs [I, gates x H], state [H, gates x H], biases [gates x H] and peepholes [3, H]."""

    inputs: NDArray[Any]
    state: NDArray[Any]
    input_bias: NDArray[Any]
    state_bias: NDArray[Any]
    peepholes: NDArray[Any] | None


class _Layer:
    """One direction of one node."""

    def __init__(self, lowering: Lowering, node: ir.Node, index: int, weights: _Weights) -> None:
        self.m, self.node, self.weights = Maths(lowering), node, weights
        self.hidden = weights.state.shape[0]
        count = len(_DEFAULTS[node.op_type])
        self.activations = _activations(node)[index * count : (index + 1) * count]
        self.limit = node.attributes.get_float("clip", 0.0) or 0.0
        self.before_reset = bool(node.attributes.get_int("linear_before_reset", 0))
        self.coupled = bool(node.attributes.get_int("input_forget", 0))

    def act(self, index: int, x: ir.Value) -> ir.Value:
        """Applies an activation behind the clipping that the node asks for."""
        if self.limit:
            x = self.m("Clip", x, number(-self.limit), number(self.limit))
        return self.activations[index](self.m, x)

    def projected(self, x: ir.Value) -> ir.Value:
        """The share of the inputs in all gates of all steps, with the biases that do not wait for the state."""
        bias = self.weights.input_bias
        if not (self.node.op_type == "GRU" and self.before_reset):
            bias = bias + self.weights.state_bias
        else:
            early = self.weights.state_bias.copy()
            early[2 * self.hidden :] = 0
            bias = bias + early
        return self.m("Add", self.m("MatMul", x, self.weights.inputs), bias)

    def step(self, x: ir.Value, h: ir.Value, c: ir.Value | None) -> tuple[ir.Value, ir.Value | None]:
        """Returns the state after a step: x is the projected input [B, gates x H]."""
        if self.node.op_type == "LSTM":
            assert c is not None
            return self._lstm(x, h, c)
        return (self._gru(x, h) if self.node.op_type == "GRU" else self._rnn(x, h)), None

    def _rnn(self, x: ir.Value, h: ir.Value) -> ir.Value:
        return self.act(0, self.m("Add", self.m("MatMul", h, self.weights.state), x))

    def _lstm(self, x: ir.Value, h: ir.Value, c: ir.Value) -> tuple[ir.Value, ir.Value]:
        m, peep = self.m, self.weights.peepholes
        i, o, f, g = self._parts(m("Add", m("MatMul", h, self.weights.state), x), 4)
        if peep is not None:
            i, f = m("Add", i, m("Mul", c, peep[0])), m("Add", f, m("Mul", c, peep[2]))
        i = self.act(0, i)
        f = m("Sub", number(1), i) if self.coupled else self.act(0, f)
        cell = m("Add", m("Mul", f, c), m("Mul", i, self.act(1, g)))
        if peep is not None:
            o = m("Add", o, m("Mul", cell, peep[1]))
        return m("Mul", self.act(0, o), self.activations[2](m, cell)), cell

    def _gru(self, x: ir.Value, h: ir.Value) -> ir.Value:
        m, size = self.m, self.hidden
        late = self.weights.state[:, 2 * size :]
        if self.before_reset:
            shares = self._parts(m("MatMul", h, self.weights.state), 3)
            z, r, n = self._parts(x, 3)
            z, r = self.act(0, m("Add", z, shares[0])), self.act(0, m("Add", r, shares[1]))
            held = m("Add", shares[2], self.weights.state_bias[2 * size :])
            new = self.act(1, m("Add", n, m("Mul", r, held)))
        else:
            z, r, n = self._parts(x, 3)
            early = self._parts(m("MatMul", h, np.ascontiguousarray(self.weights.state[:, : 2 * size])), 2)
            z, r = self.act(0, m("Add", z, early[0])), self.act(0, m("Add", r, early[1]))
            new = self.act(1, m("Add", n, m("MatMul", m("Mul", r, h), np.ascontiguousarray(late))))
        return m("Add", new, m("Mul", z, m("Sub", h, new)))

    def _parts(self, x: ir.Value, count: int) -> Sequence[ir.Value]:
        return split(self.m.lowering, x, count, 1)


def split(lowering: Lowering, x: ir.Value, count: int, axis: int) -> Sequence[ir.Value]:
    """Returns equal parts of `x`."""
    if count == 1:
        return [x]
    if lowering.model.opset_imports.get("", 18) >= 18:
        return lowering.add_many("Split", [x], count, axis=axis, num_outputs=count)
    return lowering.add_many("Split", [x], count, axis=axis)


def _activations(node: ir.Node) -> list[_Activation]:
    said = node.attributes.get("activations")
    names = list(said.as_strings()) if said is not None else []
    directions = 2 if node.attributes.get_string("direction", "forward") == "bidirectional" else 1
    names = names or list(_DEFAULTS[node.op_type]) * directions
    alphas = list(node.attributes.get_floats("activation_alpha") or ())
    betas = list(node.attributes.get_floats("activation_beta") or ())
    return [
        _Activation(name, alphas[i] if i < len(alphas) else None, betas[i] if i < len(betas) else None)
        for i, name in enumerate(names)
    ]


def _weights(node: ir.Node, direction: int) -> _Weights:
    gates = _GATES[node.op_type]
    inputs, state = _constant(node, 1), _constant(node, 2)
    assert inputs is not None
    assert state is not None
    width = state.shape[1]
    bias = _constant(node, 3)
    row = np.zeros(2 * width, np.float32) if bias is None else bias[direction]
    peepholes = _constant(node, 7) if node.op_type == "LSTM" else None
    return _Weights(
        np.ascontiguousarray(inputs[direction].T),
        np.ascontiguousarray(state[direction].T),
        row[:width],
        row[width:],
        None if peepholes is None else peepholes[direction].reshape(3, width // gates),
    )


def _constant(node: ir.Node, index: int) -> NDArray[Any] | None:
    value = node.inputs[index] if index < len(node.inputs) else None
    if value is None:
        return None
    found = real(value)
    if found is None:
        raise StepFailed(
            f'LiteRT: {node.op_type} of node {node.name} computes its weights "{value.name}" while the model runs',
            hint="make them constants of the model",
        )
    return found


@dataclass(frozen=True, slots=True)
class _Sequence:
    """Inputs of a node: x is [steps, batch, inputs]; lengths is [batch] where sequences differ."""

    x: ir.Value
    steps: int
    batch: int
    lengths: ir.Value | None


def unroll(lowering: Lowering, node: ir.Node) -> Made:
    """Writes the node out; None where its sizes are not known."""
    shape = lowering.shape(0)
    if shape is None or node.inputs[0] is None:
        return None
    m, batch_first = Maths(lowering), node.attributes.get_int("layout", 0) == 1
    x = m("Transpose", node.inputs[0], perm=[1, 0, 2]) if batch_first else node.inputs[0]
    steps, batch = (shape[1], shape[0]) if batch_first else (shape[0], shape[1])
    if steps > _LONGEST:
        raise StepFailed(
            f"LiteRT: {node.op_type} of node {node.name} has {steps} steps, at most {_LONGEST} are written out",
            hint="export with a shorter sequence",
        )
    sequence = _Sequence(x, steps, batch, _lengths(lowering, node, steps))
    direction = node.attributes.get_string("direction", "forward")
    backward = {"forward": [False], "reverse": [True]}.get(direction or "forward", [False, True])
    ends = [_direction(lowering, node, i, sequence, back) for i, back in enumerate(backward)]
    return _outputs(lowering, node, ends, batch_first=batch_first)


def _lengths(lowering: Lowering, node: ir.Node, steps: int) -> ir.Value | None:
    value = node.inputs[4] if len(node.inputs) > 4 else None
    fixed = lowering.number(4)
    return None if value is None or (fixed is not None and bool((fixed >= steps).all())) else value


@dataclass(frozen=True, slots=True)
class _End:
    """What a direction gives: all outputs [steps, 1, batch, H], the last states [1, batch, H]."""

    outputs: ir.Value
    h: ir.Value
    c: ir.Value | None


def _direction(lowering: Lowering, node: ir.Node, index: int, sequence: _Sequence, back: bool) -> _End:
    layer = _Layer(lowering, node, index, _weights(node, index))
    m, lengths = layer.m, sequence.lengths
    x = sequence.x
    if back and lengths is not None:
        x = m("ReverseSequence", x, lengths, time_axis=0, batch_axis=1)
    rows = split(lowering, layer.projected(x), sequence.steps, 0)
    order = range(sequence.steps)[:: -1 if back and lengths is None else 1]
    h, c = _initial(lowering, node, 5, index, layer, sequence), None
    if node.op_type == "LSTM":
        c = _initial(lowering, node, 6, index, layer, sequence)
    outputs: dict[int, ir.Value] = {}
    width = rows_width(layer)
    for at in order:
        row = m("Reshape", rows[at], np.asarray([sequence.batch, width], np.int64))
        new_h, new_c = layer.step(row, h, c)
        outputs[at] = new_h
        if lengths is not None:
            on = _running(m, lengths, at)
            outputs[at] = m("Where", on, new_h, number(0))
            new_h = m("Where", on, new_h, h)
            new_c = None if new_c is None or c is None else m("Where", on, new_c, c)
        h, c = new_h, new_c
    made = _stacked(m, [outputs[at] for at in range(sequence.steps)], sequence.batch, layer.hidden)
    if back and lengths is not None:
        made = m("ReverseSequence", made, lengths, time_axis=0, batch_axis=2)
    one = np.asarray([1, sequence.batch, layer.hidden], np.int64)
    return _End(made, m("Reshape", h, one), None if c is None else m("Reshape", c, one))


def rows_width(layer: _Layer) -> int:
    """Returns the size of the projected input of one step."""
    return int(layer.weights.inputs.shape[1])


def _running(m: Maths, lengths: ir.Value, at: int) -> ir.Value:
    return m("Reshape", m("Greater", lengths, np.asarray(at, np.int32)), np.asarray([-1, 1], np.int64))


def _stacked(m: Maths, values: Sequence[ir.Value], batch: int, hidden: int) -> ir.Value:
    whole = values[0] if len(values) == 1 else m("Concat", *values, axis=0)
    return m("Reshape", whole, np.asarray([len(values), 1, batch, hidden], np.int64))


def _initial(
    lowering: Lowering, node: ir.Node, index: int, direction: int, layer: _Layer, sequence: _Sequence
) -> ir.Value:
    value = node.inputs[index] if index < len(node.inputs) else None
    size = (sequence.batch, layer.hidden)
    if value is None:
        return lowering.constant(np.zeros(size, np.float32), "zeros")
    axis = 1 if node.attributes.get_int("layout", 0) == 1 else 0
    count = 2 if node.attributes.get_string("direction", "forward") == "bidirectional" else 1
    part = split(lowering, value, count, axis)[direction]
    return lowering.add("Reshape", [part, np.asarray(size, np.int64)])


def _outputs(lowering: Lowering, node: ir.Node, ends: Sequence[_End], *, batch_first: bool) -> Sequence[ir.Value]:
    m = Maths(lowering)
    cells = [end.c for end in ends if end.c is not None]
    groups = [(1, [end.outputs for end in ends]), (0, [end.h for end in ends]), (0, cells)]
    made = []
    for index in range(len(node.outputs)):
        axis, values = groups[index]
        whole = values[0] if len(values) == 1 else m("Concat", *values, axis=axis)
        if batch_first:
            whole = m("Transpose", whole, perm=[2, 0, 1, 3] if index == 0 else [1, 0, 2])
        made.append(whole)
    return made


RULES: Mapping[str, Rule] = dict.fromkeys(_GATES, unroll)
