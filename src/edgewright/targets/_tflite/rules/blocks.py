"""Channels that become space, and space that becomes channels."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from edgewright.graph.channels_last import DOMAIN
from edgewright.targets._tflite.emission import Emission
from edgewright.targets._tflite.rules import Rules
from edgewright.targets._tflite.rules.images import reshaped


def depth_to_space(e: Emission, node: ir.Node) -> None:
    """DEPTH_TO_SPACE, which reads channels as [block, block, C]; in the mode CRD they are transposed before."""
    size = node.attributes.get_int("blocksize", 1) or 1
    data = e.input(node, 0)
    if node.attributes.get_string("mode", "DCR") == "CRD":
        data = _blocks_first(e, data, size * size, node.name or "blocks")
    e.op("DEPTH_TO_SPACE", [data], [e.output(node)], "DepthToSpaceOptions", blockSize=size)


def space_to_depth(e: Emission, node: ir.Node) -> None:
    """SPACE_TO_DEPTH."""
    size = node.attributes.get_int("blocksize", 1) or 1
    e.op("SPACE_TO_DEPTH", [e.input(node, 0)], [e.output(node)], "SpaceToDepthOptions", blockSize=size)


def _blocks_first(e: Emission, data: int, blocks: int, name: str) -> int:
    n, height, width, channels = e.tensor(data).shape
    split = reshaped(e, data, (n * height * width, channels // blocks, blocks), f"{name}/split")
    turned = e.temp(data, (n * height * width, blocks, channels // blocks), f"{name}/turned")
    e.op("TRANSPOSE", [split, e.const(np.asarray([0, 2, 1], np.int32), "perm")], [turned], "TransposeOptions")
    return reshaped(e, turned, (n, height, width, channels), f"{name}/joined")


RULES: Rules = {(DOMAIN, "DepthToSpace"): depth_to_space, (DOMAIN, "SpaceToDepth"): space_to_depth}
