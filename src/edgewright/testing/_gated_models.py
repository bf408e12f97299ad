"""A small detector-like network: gated convolutions (x * sigmoid(x)), a depthwise one, a branch and a join."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import onnx
import onnx_ir as ir
from numpy.typing import NDArray
from onnx import TensorProto

from edgewright.graph.names import name_nodes
from edgewright.graph.shapes import infer_shapes
from edgewright.testing._target_models import Builder

CHANNELS, SIZE = 8, 12
CONVOLUTIONS = ("stem_node", "depth_node", "point_node", "left_node", "right_node", "head_node")


def gated_network(spread: float = 1.0) -> onnx.ModelProto:
    """Returns the network; float32 [1, 3, 12, 12] to [1, 4, 12, 12].

    Args:
        spread: Ratio of the largest to the smallest channel that leaves the depthwise convolution: what one scale for
            all channels cannot hold.
    """
    build = Builder()
    stem = _gated(build, "stem", "x", (CHANNELS, 3, 3, 3))
    build.constant("w_depth", _spread_weights(spread))
    depth = _gate(build, "depth", build.add("Conv", [stem, "w_depth"], "depth", pads=[1, 1, 1, 1], group=CHANNELS))
    point = _gated(build, "point", depth, (CHANNELS, CHANNELS, 1, 1))
    left = _gated(build, "left", point, (CHANNELS, CHANNELS, 1, 1))
    right = _gated(build, "right", point, (CHANNELS, CHANNELS, 3, 3))
    build.add("Concat", [left, right], "joined", axis=1)
    build.weights("w_head", 4, 2 * CHANNELS, 1, 1)
    build.add("Conv", ["joined", "w_head"], "head")
    shapes = ("x", TensorProto.FLOAT, (1, 3, SIZE, SIZE)), ("head", TensorProto.FLOAT, (1, 4, SIZE, SIZE))
    return build.model(shapes[:1], shapes[1:], {})


def gated_model(spread: float = 1.0) -> ir.Model:
    """Returns `gated_network` with shapes inferred and nodes named."""
    model = infer_shapes(ir.from_proto(gated_network(spread)))
    name_nodes(model.graph)
    return model


def images(count: int, seed: int = 0) -> Iterator[NDArray[np.float32]]:
    """Yields random inputs."""
    generator = np.random.default_rng(seed)
    for _ in range(count):
        yield generator.standard_normal((1, 3, SIZE, SIZE)).astype(np.float32)


def _spread_weights(spread: float) -> NDArray[np.float32]:
    kernels = np.random.default_rng(3).standard_normal((CHANNELS, 1, 3, 3)) * 0.4
    return (kernels * np.geomspace(1.0, spread, CHANNELS).reshape(-1, 1, 1, 1)).astype(np.float32)


def _gated(build: Builder, name: str, source: str, shape: tuple[int, int, int, int]) -> str:
    pad = shape[2] // 2
    weights = build.weights(f"w_{name}", *shape)
    return _gate(build, name, build.add("Conv", [source, weights], name, pads=[pad] * 4))


def _gate(build: Builder, name: str, value: str) -> str:
    return build.add("Mul", [value, build.add("Sigmoid", [value], f"{name}_gate")], f"{name}_out")
