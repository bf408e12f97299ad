"""What follows an operator that is kept in float stays in float up to the next quantiser."""

from __future__ import annotations

from edgewright.graph.placement import decide
from edgewright.graph.schemes import find
from edgewright.testing._gated_models import gated_model


def test_the_gate_of_a_convolution_kept_in_float_is_not_rounded() -> None:
    graph = gated_model().graph
    scheme = find("onnxruntime-u8s7")
    everything = {v.name for v in decide(graph, scheme).values}
    assert {"depth", "depth_gate", "depth_out"} <= everything
    placement = decide(graph, scheme, ["depth_node"])
    assert {v.name for v in placement.values} == everything - {"stem_gate", "stem_out", "depth", "depth_gate"}
    assert placement.kept_float["depth_gate_node"] == 'it follows "depth_node", which stays float'
    assert placement.kept_float["depth_out_node"] == 'it follows "depth_node", which stays float'


def test_a_join_of_float_and_integers_still_joins_integers() -> None:
    graph = gated_model().graph
    placement = decide(graph, find("onnxruntime-u8s7"), ["left_node"])
    names = {v.name for v in placement.values}
    assert {"joined", "left_out", "right_out"} <= names
    assert not {"left", "left_gate"} & names
