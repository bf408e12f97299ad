"""The interpreter of TensorFlow Lite Micro as a runtime: answers, refusals and its account of memory."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("tflite_micro")
pytest.importorskip("ai_edge_litert")

from edgewright.errors import Corrupt, DataError, StepFailed
from edgewright.runtimes.litert import LiteRtRunner
from edgewright.runtimes.tflm import TflmRunner
from edgewright.testing import _micro_models as models
from edgewright.testing._micro_operators import OneOperator


@pytest.fixture(scope="module")
def content() -> bytes:
    return models.ds_cnn(blocks=1, channels=8)


def test_answers_are_those_of_litert_kernels(content: bytes) -> None:
    """Same integers, but for the last bit where LiteRT's delegate rounds otherwise."""
    small, large = TflmRunner(content, "m", (("input",), ("output",))), LiteRtRunner(content, "m", delegate=False)
    assert small.inputs[0].shape == large.inputs[0].shape
    fed = np.random.default_rng(3).integers(-128, 128, (1, 49, 10, 1), np.int8)
    found = small.run({"input": fed})["output"].astype(int)
    wanted = large.run({large.inputs[0].name: fed})[large.outputs[0].name].astype(int)
    assert np.abs(found - wanted).max() <= 1


def test_arena_is_told_with_its_parts(content: bytes) -> None:
    arena = TflmRunner(content, "m").arena()
    assert arena.total == arena.head + arena.tail
    assert arena.parts["NodeAndRegistration struct"][2] == 7
    assert sum(used for used, _, _ in arena.parts.values()) < arena.tail


def test_an_operator_without_a_kernel_is_told_in_the_interpreters_words() -> None:
    net = OneOperator("float32")
    net.emit("GELU", [net.first], [(1, 8, 8, 4)], "GeluOptions")
    with pytest.raises(StepFailed, match="opcode 'GELU'"):
        TflmRunner(net.packed(), "model.tflite")


@pytest.mark.parametrize("share", [0.2, 0.5, 0.9])
def test_a_truncated_file_is_corrupt(content: bytes, share: float) -> None:
    with pytest.raises(Corrupt, match=r"model\.tflite"):
        TflmRunner(content[: int(len(content) * share)], "model.tflite")


def test_wrong_inputs_are_refused(content: bytes) -> None:
    runner = TflmRunner(content, "m", (("input",), ("output",)))
    for fed in ({}, {"input": np.zeros((1, 49, 10, 1), np.float32)}, {"input": np.zeros((2, 49, 10, 1), np.int8)}):
        with pytest.raises(DataError):
            runner.run(fed)
