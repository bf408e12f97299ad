"""Operators that work channels-last: what asks for the layout in the first place."""

from __future__ import annotations

from edgewright.graph.channels_last.layouts import channels_last
from edgewright.graph.channels_last.sites import Site, State, standing

MOVED = frozenset({
    "Conv", "ConvTranspose", "MaxPool", "AveragePool", "LpPool", "GlobalAveragePool", "GlobalMaxPool", "Resize",
    "DepthToSpace", "SpaceToDepth", "InstanceNormalization", "BatchNormalization", "LRN",
})  # fmt: skip
RANKS = (3, 4, 5)


def spatial_state(site: Site) -> State | None:
    """Returns the state [N, spatial..., C] of an operator that is moved, None for all others."""
    node = site.node
    if node.op_type not in MOVED or node.domain not in ("", "ai.onnx"):
        return None
    shapes = site.data()
    if shapes is None or len(shapes[0]) not in RANKS or len(shapes[1]) != len(shapes[0]):
        return None
    if any(value.uses() or value.is_graph_output() for value in node.outputs[1:]):
        return None
    last = channels_last(len(shapes[0]))
    here = standing(site)
    return State((last, *here.takes[1:]), (last, *here.gives[1:]))
