"""A fixed batch axis made free, so that a model exported for single samples trains on many at once."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from edgewright.errors import SourceError
from edgewright.graph.initializers import add_initializer
from edgewright.graph.shapes import bind_axes, infer_shapes

AXIS = "batch"
_TRIED = (7, 11)
_STANDARD = ("", "ai.onnx")


def free_batch(model: ir.Model) -> ir.Model | None:
    """Returns a copy of `model` that takes any number of samples, None where its graph does not allow that.

    The first axis of every input is the batch. Constant shapes of Reshape that repeat it are rewritten to keep what
    they are given; then shape inference has to find the batch in every output. Names of tensors and
    initialisers stay, so that a module trained on the copy is written back into `model`.

    Args:
        model: Left as it is. One whose batch is free already comes back as a copy.
    """
    free = infer_shapes(model.clone())
    inputs = [value for value in free.graph.inputs if value.name not in free.graph.initializers]
    sizes = {_first(value) for value in inputs}
    if len(sizes) != 1:
        return None
    size = sizes.pop()
    if not isinstance(size, int):
        return free
    for node in free.graph.all_nodes():
        if node.op_type == "Reshape" and node.domain in _STANDARD:
            _keep_batch(free.graph, node, size)
    for value in inputs:
        assert value.shape is not None
        value.shape = ir.Shape([AXIS, *tuple(value.shape)[1:]])
    if not _follows(free):
        return None
    for value in free.graph.outputs:
        assert value.shape is not None
        value.shape = ir.Shape([AXIS, *tuple(value.shape)[1:]])
    return infer_shapes(free)


def _follows(model: ir.Model) -> bool:
    """Whether every output has as many samples as the inputs; symbols get lost in Resize, so sizes are tried."""
    try:
        return all(
            value.shape is not None and _first(value) == size
            for size in _TRIED
            for value in bind_axes(model, {AXIS: size}, computed=False).graph.outputs
        )
    except SourceError:
        return False


def batch_of(model: ir.Model) -> int | None:
    """Returns the size that the batch axis of the first input is fixed to, None where it is free."""
    inputs = [value for value in model.graph.inputs if value.name not in model.graph.initializers]
    size = _first(inputs[0]) if inputs else None
    return size if isinstance(size, int) else None


def _first(value: ir.Value) -> int | str | None:
    if value.shape is None or not len(value.shape):
        return None
    axis = value.shape[0]
    return axis if isinstance(axis, int) else axis.value


def _keep_batch(graph: ir.Graph, node: ir.Node, size: int) -> None:
    """Rewrites the constant shape of a Reshape whose first axis is the batch, or a multiple of it, in place."""
    given, shape = node.inputs[0], node.inputs[1]
    constant = _constant(shape)
    if given is None or constant is None or not constant.size or constant[0] < 1 or constant[0] % size:
        return
    whole = constant.copy()
    if constant[0] == size and _first(given) == size and not node.attributes.get_int("allowzero", 0):
        whole[0] = 0  # Reshape copies the axis of its input
    elif -1 not in constant:
        whole[0] = -1
    else:
        return
    assert shape is not None
    node.replace_input_with(1, add_initializer(graph, f"{shape.name}/any_batch", whole))


def _constant(value: ir.Value | None) -> np.ndarray[tuple[int], np.dtype[np.int64]] | None:
    if value is None:
        return None
    if value.const_value is not None:
        return np.asarray(value.const_value.numpy(), dtype=np.int64)
    node = value.producer()
    if node is None or node.op_type != "Constant":
        return None
    attribute = node.attributes.get("value")
    if attribute is not None:
        return np.asarray(attribute.as_tensor().numpy(), dtype=np.int64).reshape(-1)
    integers = node.attributes.get_ints("value_ints")
    return None if integers is None else np.asarray(integers, dtype=np.int64)
