"""What is left out while a program is lowered changes not one byte of it, and is back in its place afterwards."""

from __future__ import annotations

from contextlib import nullcontext
from typing import Any

import onnx_ir as ir
import pytest
from onnx import parser

from edgewright.targets._executorch import lower as lowering
from edgewright.targets._executorch.lower import Program, examples, quiet
from edgewright.targets._executorch.prepare import prepare

QUANTISED = """<ir_version: 9, opset_import: ["" : 17]>
net (float[1,4,8,8] x) => (float[1,8,8,8] y)
<float s = {0.05}, int8 z = {3}, float t = {0.07},
 float[8] ws = {0.01,0.02,0.01,0.02,0.01,0.02,0.01,0.02}, int8[8] wz = {0,0,0,0,0,0,0,0},
 int8[8,4,1,1] w = {1,-2,3,4,5,6,-7,8,1,2,3,4,5,6,7,8,1,2,-3,4,5,6,7,8,-1,2,3,4,5,6,7,8}>
{
  xq = QuantizeLinear(x, s, z)
  xd = DequantizeLinear(xq, s, z)
  wd = DequantizeLinear<axis = 0>(w, ws, wz)
  c = Conv(xd, wd)
  r = Relu(c)
  rq = QuantizeLinear(r, s, z)
  rd = DequantizeLinear(rq, s, z)
  a = Add(rd, rd)
  aq = QuantizeLinear(a, t, z)
  y = DequantizeLinear(aq, t, z)
}"""
SEARCHED = """<ir_version: 9, opset_import: ["" : 17]>
net (float[1,2,4,4] x) => (float[1,2,8,8] y, float[1,2,4,4] p)
<float[4] scales = {1, 1, 2, 2}, float half = {0.5}>
{
  y = Resize<mode = "linear", coordinate_transformation_mode = "half_pixel">(x, , scales)
  t = Transpose<perm = [0, 1, 3, 2]>(x)
  m = MatMul(x, t)
  h = Mul(m, half)
  s = Softmax<axis = -1>(h)
  p = MatMul(s, x)
}"""


def lowered(text: str) -> Program:
    from edgewright.targets._executorch.steps import to_steps

    model = prepare(ir.from_proto(parser.parse_model(text)), 1)
    return lowering.lower(to_steps(model), examples(model))


@pytest.mark.slow
@pytest.mark.parametrize("text", [QUANTISED, SEARCHED], ids=["quantised", "searched"])
def test_the_program_is_the_same_without_shortcuts(text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    short = lowered(text)
    kinds = {operator.op for operator in short.operators}
    assert text is QUANTISED or {"aten.upsample_bilinear2d", "aten._softmax"} <= kinds
    monkeypatch.setattr(lowering, "shortcuts", nullcontext)
    assert short == lowered(text)


@pytest.mark.slow
def test_only_what_holds_these_operators_can_match_a_pattern() -> None:
    with quiet():
        from executorch.backends.xnnpack.partition.graphs import bilinear_2d, sdpa

        found = {"ConvertToUpsampleBilinear2d": bilinear_2d.get_graphs(), "ConvertToSDPAPass": sdpa.get_graphs()}
        from edgewright.targets._executorch.shortcuts import _SEARCHES

    for _, name, word in _SEARCHES:
        graphs = found[name]
        assert graphs
        assert all(any(word in str(node.target) for node in module.graph.nodes) for module in graphs)


@pytest.mark.slow
def test_everything_is_put_back() -> None:
    with quiet():
        from executorch.exir.pass_base import _ExportPassBase
        from torch._export import utils
        from torch.fx.traceback import NodeSource

        from edgewright.targets._executorch.shortcuts import shortcuts

        def now() -> list[Any]:
            return [_ExportPassBase.call, utils._materialize_cpp_cia_ops, getattr(NodeSource, "__deepcopy__", None)]

        before = now()
        with shortcuts():
            within = now()
        assert all(a is not b for a, b in zip(before, within, strict=True))
        assert now() == before
