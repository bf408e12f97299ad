"""Recurrent layers: LSTM, GRU and RNN over [time, batch, features], one or both directions."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Protocol

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor

_Function = Callable[[Tensor, "float | None", "float | None"], Tensor]
_FUNCTIONS: dict[str, _Function] = {
    "relu": lambda x, a, b: torch.relu(x),
    "tanh": lambda x, a, b: torch.tanh(x),
    "sigmoid": lambda x, a, b: torch.sigmoid(x),
    "affine": lambda x, a, b: _or(a, 1.0) * x + _or(b, 0.0),
    "leakyrelu": lambda x, a, b: F.leaky_relu(x, _or(a, 0.01)),
    "thresholdedrelu": lambda x, a, b: torch.where(x >= _or(a, 1.0), x, torch.zeros_like(x)),
    "scaledtanh": lambda x, a, b: _or(a, 1.0) * torch.tanh(_or(b, 1.0) * x),
    "hardsigmoid": lambda x, a, b: torch.clamp(_or(a, 0.2) * x + _or(b, 0.5), 0, 1),
    "elu": lambda x, a, b: F.elu(x, _or(a, 1.0)),
    "softsign": lambda x, a, b: F.softsign(x),
    "softplus": lambda x, a, b: torch.logaddexp(x, torch.zeros_like(x)),
}
_Activation = Callable[[Tensor], Tensor]


class _Cell(Protocol):
    """One step: gates of the input (with their bias) and the states before -> the states after."""

    def __call__(self, gates: Tensor, states: tuple[Tensor, ...]) -> tuple[Tensor, ...]: ...


def rnn(
    x: Tensor,
    w: Tensor,
    r: Tensor,
    b: Tensor | None = None,
    sequence_lens: Tensor | None = None,
    initial_h: Tensor | None = None,
    *,
    activation_alpha: Sequence[float] = (),
    activation_beta: Sequence[float] = (),
    activations: Sequence[str] = ("Tanh", "Tanh"),
    clip: float | None = None,
    direction: str = "forward",
    hidden_size: int | None = None,
    layout: int = 0,
) -> tuple[Tensor, ...]:
    functions = _activations(activations, activation_alpha, activation_beta, clip)

    def cell(index: int) -> tuple[Tensor, _Cell]:
        bias = _bias(b, index, w, w.shape[1])

        def step(gates: Tensor, states: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
            return (functions[index](gates + states[0] @ r[index].mT + bias[1]),)

        return bias[0], step

    return _run(x, w, cell, sequence_lens, (initial_h,), direction, layout, r.shape[-1])


def gru(
    x: Tensor,
    w: Tensor,
    r: Tensor,
    b: Tensor | None = None,
    sequence_lens: Tensor | None = None,
    initial_h: Tensor | None = None,
    *,
    activation_alpha: Sequence[float] = (),
    activation_beta: Sequence[float] = (),
    activations: Sequence[str] = ("Sigmoid", "Tanh") * 2,
    clip: float | None = None,
    direction: str = "forward",
    hidden_size: int | None = None,
    layout: int = 0,
    linear_before_reset: int = 0,
) -> tuple[Tensor, ...]:
    """Gates in the order update, reset, hidden."""
    functions = _activations(activations, activation_alpha, activation_beta, clip)

    def cell(index: int) -> tuple[Tensor, _Cell]:
        bias = _bias(b, index, w, w.shape[1])
        f, g = functions[2 * index : 2 * index + 2]
        update, reset, hidden = r[index].chunk(3)
        bias_u, bias_r, bias_h = bias[1].chunk(3)

        def step(gates: Tensor, states: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
            (h,), (gate_u, gate_r, gate_h) = states, gates.chunk(3, -1)
            z = f(gate_u + h @ update.mT + bias_u)
            kept = f(gate_r + h @ reset.mT + bias_r)
            inner = kept * (h @ hidden.mT + bias_h) if linear_before_reset else (kept * h) @ hidden.mT + bias_h
            return ((1 - z) * g(gate_h + inner) + z * h,)

        return bias[0], step

    return _run(x, w, cell, sequence_lens, (initial_h,), direction, layout, r.shape[-1])


def lstm(
    x: Tensor,
    w: Tensor,
    r: Tensor,
    b: Tensor | None = None,
    sequence_lens: Tensor | None = None,
    initial_h: Tensor | None = None,
    initial_c: Tensor | None = None,
    p: Tensor | None = None,
    *,
    activation_alpha: Sequence[float] = (),
    activation_beta: Sequence[float] = (),
    activations: Sequence[str] = ("Sigmoid", "Tanh", "Tanh") * 2,
    clip: float | None = None,
    direction: str = "forward",
    hidden_size: int | None = None,
    input_forget: int = 0,
    layout: int = 0,
) -> tuple[Tensor, ...]:
    """Gates in the order input, output, forget, cell; peepholes input, output, forget."""
    functions = _activations(activations, activation_alpha, activation_beta, clip)

    def cell(index: int) -> tuple[Tensor, _Cell]:
        bias = _bias(b, index, w, w.shape[1])
        f, g, h = functions[3 * index : 3 * index + 3]
        peeps = (0.0, 0.0, 0.0) if p is None else p[index].chunk(3)

        def step(gates: Tensor, states: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
            hidden, c = states
            gate_i, gate_o, gate_f, gate_c = (gates + hidden @ r[index].mT + bias[1]).chunk(4, -1)
            taken = f(gate_i + peeps[0] * c)
            kept = 1 - taken if input_forget else f(gate_f + peeps[2] * c)
            after = kept * c + taken * g(gate_c)
            return f(gate_o + peeps[1] * after) * h(after), after

        return bias[0], step

    return _run(x, w, cell, sequence_lens, (initial_h, initial_c), direction, layout, r.shape[-1])


def _run(
    x: Tensor,
    w: Tensor,
    cell: Callable[[int], tuple[Tensor, _Cell]],
    lengths: Tensor | None,
    initial: Sequence[Tensor | None],
    direction: str,
    layout: int,
    hidden: int,
) -> tuple[Tensor, ...]:
    """Returns all hidden states [time, directions, batch, hidden] and the last of each state [directions, ...].

    With `layout` 1 the batch comes first, in the input too.
    """
    x = x.transpose(0, 1) if layout else x
    starts = [None if s is None else s.transpose(0, 1) if layout else s for s in initial]
    sequences, lasts = [], []
    for index in range(w.shape[0]):
        bias, step = cell(index)
        states = tuple(x.new_zeros(x.shape[1], hidden) if s is None else s[index] for s in starts)
        backward = direction == "reverse" or index == 1
        outputs, last = _scan(F.linear(x, w[index]) + bias, step, states, lengths, backward=backward)
        sequences.append(outputs)
        lasts.append(last)
    whole = torch.stack(sequences, 1)
    ends = [torch.stack(state) for state in zip(*lasts, strict=True)]
    if layout:
        return whole.permute(2, 0, 1, 3), *(end.transpose(0, 1) for end in ends)
    return whole, *ends


def _scan(
    gates: Tensor, step: _Cell, states: tuple[Tensor, ...], lengths: Tensor | None, *, backward: bool
) -> tuple[Tensor, tuple[Tensor, ...]]:
    """Runs over time; a sequence that has ended keeps its state and puts out zeros."""
    count = gates.shape[0]
    outputs: list[Tensor] = [gates] * count
    for time in reversed(range(count)) if backward else range(count):
        after = step(gates[time], states)
        if lengths is None:
            states, outputs[time] = after, after[0]
            continue
        alive = (time < lengths).unsqueeze(-1)
        states = tuple(torch.where(alive, new, old) for new, old in zip(after, states, strict=True))
        outputs[time] = torch.where(alive, after[0], torch.zeros_like(after[0]))
    return torch.stack(outputs), states


def _activations(
    names: Sequence[str], alphas: Sequence[float], betas: Sequence[float], clip: float | None
) -> list[_Activation]:
    """Alphas and betas belong, in order, to the functions that take them."""
    alpha, beta = iter(alphas), iter(betas)
    made = []
    for name in (n.lower() for n in names):
        a = next(alpha, None) if name in _WITH_ALPHA else None
        b = next(beta, None) if name in _WITH_BETA else None
        made.append(_bound(_FUNCTIONS[name], a, b, clip))
    return made


_WITH_BETA = ("affine", "scaledtanh", "hardsigmoid")
_WITH_ALPHA = (*_WITH_BETA, "leakyrelu", "thresholdedrelu", "elu")


def _bound(function: _Function, a: float | None, b: float | None, clip: float | None) -> _Activation:
    return lambda x: function(x if clip is None else x.clamp(-clip, clip), a, b)


def _bias(b: Tensor | None, index: int, like: Tensor, size: int) -> tuple[Tensor, Tensor]:
    """Bias of the input's gates and of the recurrent ones."""
    if b is None:
        zero = like.new_zeros(size)
        return zero, zero
    first, second = b[index].chunk(2)
    return first, second


def _or(value: float | None, default: float) -> float:
    return default if value is None else value


OPERATORS: dict[str, Callable[..., Any]] = {"GRU": gru, "LSTM": lstm, "RNN": rnn}
