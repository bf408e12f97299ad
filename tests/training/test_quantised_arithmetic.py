"""Fake quantisation: forward is ONNX's, bit for bit; backward is the formula of LSQ and LSQ+."""

from __future__ import annotations

import numpy as np
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from torch import Tensor

from edgewright.graph.affine import Grid, dequantise, quantise
from edgewright.training.quantised.arithmetic import fake_quantise, rounded_through
from edgewright.training.quantised.steps import QuantiseBias, Start, StepSize

LIMITS = {"uint8": (0, 255), "int8": (-128, 127), "uint16": (0, 65535), "int16": (-32768, 32767)}
VALUES = arrays(np.float32, (3, 8), elements=st.floats(-1e4, 1e4, width=32))
SCALES = arrays(np.float32, (3,), elements=st.floats(2.0**-20, 2.0**10, width=32))
KINDS = st.sampled_from(sorted(LIMITS))


def onnx_round_trip(x: np.ndarray, scale: np.ndarray, zero: np.ndarray) -> np.ndarray:
    """QuantizeLinear and DequantizeLinear along axis 0; `affine` is held against ONNX Runtime in its own tests."""
    integers = quantise(x, scale, zero, Grid(str(zero.dtype), *LIMITS[str(zero.dtype)]), 0)
    return dequantise(integers, scale, zero, 0)


def tensors(x: np.ndarray, scale: np.ndarray, zero: np.ndarray) -> tuple[Tensor, Tensor, Tensor]:
    return (
        torch.from_numpy(x).clone().requires_grad_(),
        torch.from_numpy(scale).clone().reshape(-1, 1).requires_grad_(),
        torch.from_numpy(zero.astype(np.float32)).reshape(-1, 1).requires_grad_(),
    )


@settings(max_examples=40)
@given(VALUES, SCALES, KINDS, st.data())
def test_forward_is_that_of_onnx_bit_for_bit(x: np.ndarray, scale: np.ndarray, kind: str, data: st.DataObject) -> None:
    low, high = LIMITS[kind]
    zero = np.array([data.draw(st.integers(low, high)) for _ in range(3)], kind)
    found = fake_quantise(*tensors(x, scale, zero), low, high, torch.ones(()))
    assert np.array_equal(found.detach().numpy(), onnx_round_trip(x, scale, zero))


@settings(max_examples=40)
@given(st.integers(-254, 254), st.sampled_from([0.5, 0.25, 2.0]))
def test_halves_go_to_the_even_integer(twice: int, scale: float) -> None:
    x = torch.tensor([twice * scale / 2])
    found = fake_quantise(x, torch.tensor(scale), torch.zeros(()), -127, 127, torch.ones(())) / scale
    assert float(found) == float(np.clip(np.rint(twice / 2), -127, 127))


@settings(max_examples=40)
@given(VALUES, SCALES, KINDS, st.data())
def test_gradients_are_those_of_lsq(x: np.ndarray, scale: np.ndarray, kind: str, data: st.DataObject) -> None:
    low, high = LIMITS[kind]
    zero = np.array([data.draw(st.integers(low, high)) for _ in range(3)], kind)
    inputs = tensors(x, scale, zero)
    upstream = torch.linspace(-1, 2, x.size).reshape(x.shape)
    fake_quantise(*inputs, low, high, torch.tensor(0.5)).backward(upstream)
    wanted = by_the_formula(x, scale, zero, upstream.numpy(), low, high)
    for tensor, expected, gain in zip(inputs, wanted, (1.0, 0.5, 0.5), strict=True):
        assert tensor.grad is not None
        size = np.abs(expected).max() + (high - low)
        np.testing.assert_allclose(tensor.grad.numpy(), gain * expected.reshape(tensor.shape), atol=2e-5 * size)


def by_the_formula(
    x: np.ndarray, scale: np.ndarray, zero: np.ndarray, upstream: np.ndarray, low: int, high: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Esser et al. 2020, equations 3 and 5; Bhalgat et al. 2020, equation 5, in steps of the zero point."""
    s, z = scale.reshape(-1, 1).astype(np.float64), zero.reshape(-1, 1).astype(np.float64)
    below, above = x <= ((low - z) * s).astype(np.float32), x >= ((high - z) * s).astype(np.float32)
    inside = ~below & ~above
    integers = np.rint(x / scale.reshape(-1, 1))  # in single precision, as ONNX rounds: it decides ties
    of_scale = np.where(below, low - z, np.where(above, high - z, integers - x / s))
    of_zero = np.where(inside, 0.0, -s)
    return upstream * inside, (upstream * of_scale).sum(1), (upstream * of_zero).sum(1)


def test_gradients_do_not_depend_on_the_layout_in_memory() -> None:
    x = torch.randn(4, 3, 5, 5, generator=torch.Generator().manual_seed(0))
    grads = []
    for layout in (torch.contiguous_format, torch.channels_last):
        scale = torch.tensor(0.01, requires_grad=True)
        value = x.clone(memory_format=layout).requires_grad_()
        fake_quantise(value, scale, torch.zeros(()), -127, 127, torch.ones(())).square().sum().backward()
        grads.append((value.grad, scale.grad))
    assert torch.equal(grads[0][0], grads[1][0])
    torch.testing.assert_close(grads[0][1], grads[1][1])


@settings(max_examples=40)
@given(st.floats(-300, 300, width=32))
def test_a_zero_point_is_an_integer_whose_gradient_passes_between_its_limits(value: float) -> None:
    x = torch.tensor(value, requires_grad=True)
    found = rounded_through(x, -128, 127)
    found.backward()
    assert float(found.detach()) == np.clip(np.rint(value), -128, 127)
    assert x.grad is not None
    assert float(x.grad) == float(-128 <= value <= 127)


def step(scale: list[float], zero: list[int], *, learns: bool = True, shifts: bool = False) -> StepSize:
    axis = 0 if len(scale) > 1 else None
    shape = (-1,) if axis == 0 else ()
    numbers = np.array(scale, np.float32).reshape(shape), np.array(zero, np.int64).reshape(shape)
    return StepSize(Start(*numbers, -128, 127, axis, learns, shifts))


def test_a_step_starts_exactly_where_the_plan_is_and_stays_there_if_fixed() -> None:
    given = step([1 / 3], [5], shifts=True)
    assert float(given.scale().detach()) == float(np.float32(1 / 3))
    assert float(given.zero().detach()) == 5
    assert len(list(given.parameters())) == 2
    assert not list(step([1 / 256], [-128], learns=False).parameters())


def test_channels_that_are_zero_do_not_learn() -> None:
    given = step([0.01, 1e-12], [0, 0])
    assert (given.gain(9) > 0).tolist() == [True, False]


def test_the_scale_of_a_bias_follows_input_and_weights_and_has_no_gradient() -> None:
    data, weights = step([0.5], [0]), step([0.25, 0.125], [0, 0])
    module = QuantiseBias(data, weights)
    bias = torch.tensor([0.3, 0.3], requires_grad=True)
    found = module(bias)
    assert torch.equal(found, torch.tensor([0.25, 0.3125]))
    found.sum().backward()
    assert data.growth.grad is None
    assert torch.equal(bias.grad, torch.ones(2))
    with torch.no_grad():
        data.growth.fill_(np.log(2))
    torch.testing.assert_close(module.scale(), torch.tensor([0.25, 0.125]))
