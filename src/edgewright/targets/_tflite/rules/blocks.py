"""Channels that become space, and space that becomes channels."""

from __future__ import annotations

import math

import numpy as np
import onnx_ir as ir

from edgewright.graph.channels_last import DOMAIN
from edgewright.targets._tflite.emission import Emission
from edgewright.targets._tflite.rules import Rules
from edgewright.targets._tflite.rules.images import reshape_into, reshaped


def depth_to_space(e: Emission, node: ir.Node) -> None:
    """DEPTH_TO_SPACE, which reads channels as [block, block, C]; in the mode CRD they are transposed before."""
    size = node.attributes.get_int("blocksize", 1) or 1
    data = e.input(node, 0)
    if node.attributes.get_string("mode", "DCR") == "CRD":
        shape, name = e.tensor(data).shape, node.name or "blocks"
        data = reshaped(e, _swapped(e, data, shape[3] // size**2, size * size, name), shape, f"{name}/joined")
    e.op("DEPTH_TO_SPACE", [data], [e.output(node)], "DepthToSpaceOptions", blockSize=size)


def space_to_depth(e: Emission, node: ir.Node) -> None:
    """SPACE_TO_DEPTH, which writes channels as [block, block, C]; in the mode CRD they are transposed after."""
    size = node.attributes.get_int("blocksize", 1) or 1
    last = e.output(node)
    turned = node.attributes.get_string("mode", "DCR") == "CRD"
    made = e.temp(last, e.tensor(last).shape, f"{node.name}/blocks_first") if turned else last
    e.op("SPACE_TO_DEPTH", [e.input(node, 0)], [made], "SpaceToDepthOptions", blockSize=size)
    if turned:
        swapped = _swapped(e, made, size * size, e.tensor(last).shape[3] // size**2, node.name or "blocks")
        reshape_into(e, swapped, last)


def _swapped(e: Emission, data: int, first: int, second: int, name: str) -> int:
    """Returns channels of [first, second] as [second, first]: [pixels, second, first]."""
    pixels = math.prod(e.tensor(data).shape[:3])
    split = reshaped(e, data, (pixels, first, second), f"{name}/split")
    turned = e.temp(data, (pixels, second, first), f"{name}/turned")
    e.op("TRANSPOSE", [split, e.const(np.asarray([0, 2, 1], np.int32), "perm")], [turned], "TransposeOptions")
    return turned


RULES: Rules = {(DOMAIN, "DepthToSpace"): depth_to_space, (DOMAIN, "SpaceToDepth"): space_to_depth}
