"""The LiteRT runner: borders of the file, blocks of a free batch axis, states, times, the delegate's switch."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx.parser
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from onnx.reference import ReferenceEvaluator

pytest.importorskip("ai_edge_litert.interpreter")

from edgewright.core.codec import encode_json
from edgewright.core.target import Artifact, RunOptions
from edgewright.core.tensors import TensorSpec
from edgewright.errors import ConfigError, Corrupt, DataError
from edgewright.runtimes import open_runner
from edgewright.runtimes._litert_io import IO_KEY, Border, Borders, entries, read_borders
from edgewright.targets._tflite.file import Quantisation, TfliteFile

RNG = np.random.default_rng(5)
WEIGHTS = RNG.normal(0, 0.4, (4, 6)).astype(np.float32)
INT8 = Quantisation((0.05,), (3,))


def dense(batch: int = 2) -> bytes:
    """relu(x . w') in float32, for `batch` rows."""
    file = TfliteFile()
    x = file.tensor("x", "float32", (batch, 6))
    y = file.tensor("y", "float32", (batch, 4))
    r = file.tensor("r", "float32", (batch, 4))
    w = file.tensor("w", "float32", WEIGHTS.shape, data=WEIGHTS)
    file.operator("FULLY_CONNECTED", [x, w, -1], [y], "FullyConnectedOptions")
    file.operator("RELU", [y], [r])
    return file.finish({"x": x}, {"r": r})


def pooled() -> bytes:
    """The largest value of each channel of [1, 2, 3, 4] int8 images in NHWC."""
    file = TfliteFile()
    x = file.tensor("x", "int8", (1, 2, 3, 4), quantisation=INT8)
    y = file.tensor("y", "int8", (1, 1, 1, 4), quantisation=INT8)
    options: dict[str, Any] = {"padding": 1, "strideW": 1, "strideH": 1, "filterWidth": 3, "filterHeight": 2}
    file.operator("MAX_POOL_2D", [x], [y], "Pool2DOptions", version=2, **options)
    return file.finish({"x": x}, {"y": y})


@pytest.fixture
def artifact(tmp_path: Path) -> Callable[..., Path]:
    def make(
        content: bytes, inputs: list[TensorSpec], outputs: list[TensorSpec], session: Mapping[str, str] | None = None
    ) -> Path:
        (tmp_path / "model.tflite").write_bytes(content)
        described = Artifact(
            "litert", "litert", "2", ">=2", ("model.tflite",), tuple(inputs), tuple(outputs), "float32", session or {}
        )
        (tmp_path / "artifact.json").write_bytes(encode_json(described))
        return tmp_path

    return make


def free(name: str, size: int) -> TensorSpec:
    return TensorSpec(name, "float32", ("batch", size))


@pytest.mark.parametrize("count", [1, 2, 3, 5, 8])
def test_a_free_batch_axis_is_run_in_blocks_of_the_files(artifact: Callable[..., Path], count: int) -> None:
    x = RNG.normal(size=(count, 6)).astype(np.float32)
    with open_runner(artifact(dense(), [free("x", 6)], [free("r", 4)])) as runner:
        found = runner.run({"x": x})["r"]
    assert found.shape == (count, 4)
    np.testing.assert_allclose(found, np.maximum(x @ WEIGHTS.T, 0), atol=1e-5)


def test_a_fixed_batch_axis_is_held(artifact: Callable[..., Path]) -> None:
    fixed = [TensorSpec("x", "float32", (2, 6))], [TensorSpec("r", "float32", (2, 4))]
    with (
        open_runner(artifact(dense(), *fixed)) as runner,
        pytest.raises(DataError, match=r"expected shape \[2, 6\], got \[3, 6\]"),
    ):
        runner.run({"x": np.zeros((3, 6), np.float32)})


def test_an_output_without_batch_axis_cannot_be_put_together(artifact: Callable[..., Path]) -> None:
    path = artifact(dense(), [free("x", 6)], [TensorSpec("r", "float32", (2, 4))])
    with open_runner(path) as runner:
        runner.run({"x": np.zeros((2, 6), np.float32)})
        with pytest.raises(DataError, match='"r" has no batch axis'):
            runner.run({"x": np.zeros((3, 6), np.float32)})


def test_transposed_and_quantised_borders(artifact: Callable[..., Path]) -> None:
    session = entries(
        Borders(
            {"x": Border((0, 2, 3, 1), "int8", 0.05, 3)},
            {"y": Border((0, 2, 3, 1), "int8", 0.05, 3)},
        )
    )
    shapes = [TensorSpec("x", "float32", (1, 4, 2, 3))], [TensorSpec("y", "float32", (1, 4, 1, 1))]
    x = RNG.normal(0, 2, (1, 4, 2, 3)).astype(np.float32)
    stored = np.clip(np.rint(x / np.float32(0.05)) + 3, -128, 127)
    with open_runner(artifact(pooled(), *shapes, session)) as runner:
        found = runner.run({"x": x})["y"]
    assert (found.dtype.name, found.shape) == ("float32", (1, 4, 1, 1))
    assert found.flags.c_contiguous
    wanted = (stored.max(axis=(2, 3), keepdims=True) - 3) * np.float32(0.05)
    np.testing.assert_allclose(found, wanted.astype(np.float32), rtol=1e-6)


@pytest.fixture(scope="module")
def quantize_linear() -> Any:
    graph = "g (float[3, 4] x, float s, int8 z) => (int8[3, 4] y) { y = QuantizeLinear(x, s, z) }"
    opsets = [onnx.helper.make_opsetid("", 21)]
    return ReferenceEvaluator(onnx.helper.make_model(onnx.parser.parse_graph(graph), opset_imports=opsets))


@settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(real=arrays(np.float32, (3, 4), elements=st.floats(-40, 40, width=32)), zero=st.integers(-128, 127))
def test_quantising_is_onnx_quantize_linear(quantize_linear: Any, real: Any, zero: int) -> None:
    scale = np.float32(0.11)
    (wanted,) = quantize_linear.run(None, {"x": real, "s": scale, "z": np.int8(zero)})
    into = np.empty((3, 4), np.int8)
    Border((), "int8", float(scale), zero).write(real, into)
    np.testing.assert_array_equal(into, wanted)


def test_borders_survive_the_session() -> None:
    borders = Borders({"x": Border((0, 2, 3, 1), "uint8", 0.25, 128)}, {"y": Border(dtype="int32")})
    assert read_borders(entries(borders), "here") == borders
    assert entries(Borders()) == {}
    assert read_borders({}, "here") == Borders()
    with pytest.raises(Corrupt, match=IO_KEY):
        read_borders({IO_KEY: '{"inputs": 3}'}, "here")


def test_integers_of_another_width_are_cast() -> None:
    into = np.empty((3,), np.int32)
    Border(dtype="int32").write(np.array([1, 2, 3], np.int64), into)
    assert into.tolist() == [1, 2, 3]
    assert Border(dtype="int32").read(into, "int64").dtype == np.int64


def test_times_of_every_operator(artifact: Callable[..., Path]) -> None:
    path = artifact(dense(), [free("x", 6)], [free("r", 4)])
    x = {"x": RNG.normal(size=(3, 6)).astype(np.float32)}
    with open_runner(path, RunOptions(profile=True)) as runner, open_runner(path) as plain:
        np.testing.assert_array_equal(runner.run(x)["r"], plain.run(x)["r"])
        times = runner.operator_times()
        assert plain.operator_times() == ()
    assert [(time.node, time.op) for time in times] == [("y", "FULLY_CONNECTED"), ("r", "RELU")]
    assert all(time.microseconds > 0 for time in times)


def test_the_delegate_has_a_switch(artifact: Callable[..., Path]) -> None:
    path = artifact(dense(), [free("x", 6)], [free("r", 4)])
    x = {"x": RNG.normal(size=(2, 6)).astype(np.float32)}
    with open_runner(path) as with_delegate, open_runner(path, RunOptions(session={"xnnpack": "false"})) as without:
        np.testing.assert_allclose(with_delegate.run(x)["r"], without.run(x)["r"], atol=1e-5)
    for session in ({"xnnpack": "no"}, {"xnpack": "true"}):
        with pytest.raises(ConfigError, match=next(iter(session))), open_runner(path, RunOptions(session=session)):
            pass


def test_states_do_not_survive_a_run(artifact: Callable[..., Path]) -> None:
    """An accumulator in a variable tensor starts from zero every time: samples are independent."""
    file = TfliteFile()
    x = file.tensor("x", "float32", (1, 2))
    weights = file.tensor("w", "float32", (2, 2), data=np.eye(2, dtype=np.float32))
    recurrent = file.tensor("u", "float32", (2, 2), data=np.eye(2, dtype=np.float32))
    bias = file.tensor("b", "float32", (2,), data=np.zeros(2, np.float32))
    state, y = file.tensor("h", "float32", (1, 2)), file.tensor("y", "float32", (1, 2))
    file._stored[state].isVariable = True
    file.operator("RNN", [x, weights, recurrent, bias, state], [y], "RNNOptions", fusedActivationFunction=1)
    path = artifact(file.finish({"x": x}, {"y": y}), [free("x", 2)], [free("y", 2)])
    ones = {"x": np.ones((1, 2), np.float32)}
    with open_runner(path, RunOptions(profile=True)) as runner:
        for _ in range(3):
            np.testing.assert_array_equal(runner.run(ones)["y"], [[1, 1]])


def test_a_description_that_does_not_fit_is_corrupt(artifact: Callable[..., Path]) -> None:
    path = artifact(dense(), [free("x", 6), free("z", 6)], [free("r", 4)])
    with pytest.raises(Corrupt, match="declares other inputs"), open_runner(path):
        pass
