"""A fixed batch axis is made free where the graph allows it, and refused where it does not."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir
import pytest
from onnx import TensorProto, helper, numpy_helper

from edgewright.graph import bridge
from edgewright.graph.batch import batch_of, free_batch


def _model(shape: list[int], width: int, *, opset: int = 17) -> ir.Model:
    """A convolution and a Reshape to `shape` by a constant; one sample of [2, 4, 4]."""
    weights = np.arange(8, dtype=np.float32).reshape(4, 2, 1, 1) / 8
    graph = helper.make_graph(
        [helper.make_node("Conv", ["x", "w"], ["y"], name="conv"), helper.make_node("Reshape", ["y", "s"], ["z"])],
        "fixed",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 2, 4, 4])],
        [helper.make_tensor_value_info("z", TensorProto.FLOAT, [1, 64 // width, width])],
        [numpy_helper.from_array(weights, "w"), numpy_helper.from_array(np.array(shape), "s")],
    )
    return ir.from_proto(helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)]))


@pytest.mark.parametrize("shape", [[1, 4, 16], [1, 4, -1], [1, -1, 16]])
def test_many_samples_give_what_single_ones_give(shape: list[int]) -> None:
    model = _model(shape, 16)
    free = free_batch(model)
    assert free is not None
    assert batch_of(model) == 1
    assert batch_of(free) is None
    samples = np.random.default_rng(0).normal(size=(3, 2, 4, 4)).astype(np.float32)
    alone = [bridge.run(bridge.to_torch(model), {"x": samples[i : i + 1]})["z"] for i in range(3)]
    together = bridge.run(bridge.to_torch(free), {"x": samples})["z"]
    np.testing.assert_allclose(together, np.concatenate(alone), rtol=1e-6)


def test_the_model_given_is_left_as_it_is() -> None:
    model = _model([1, 4, 16], 16)
    before = ir.to_proto(model).SerializeToString()
    free_batch(model)
    assert ir.to_proto(model).SerializeToString() == before


def test_a_batch_that_the_graph_folds_into_another_axis_is_refused() -> None:
    assert free_batch(_model([64, 1], 1)) is None


def test_a_free_batch_stays_free() -> None:
    free = free_batch(_model([1, 4, 16], 16))
    assert free is not None
    again = free_batch(free)
    assert again is not None
    assert batch_of(again) is None
