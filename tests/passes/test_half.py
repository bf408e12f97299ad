"""FP16 on graphs whose quantisers half precision must not touch."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import onnx_ir as ir
import pytest
from onnx import TensorProto, helper, numpy_helper

from edgewright.core.recipe import StepSpec
from edgewright.engine import registry
from edgewright.graph.load import load, save
from edgewright.testing._pass_models import stored


class Quiet:
    seed = 0
    scratch = Path()

    def progress(self, fraction: float, note: str = "") -> None:
        assert fraction <= 1


def halved(proto: onnx.ModelProto, folder: Path) -> ir.Model:
    save(ir.from_proto(proto), folder / "source")
    (folder / "out").mkdir()
    registry.make("passes", StepSpec("fp16")).run({"model": folder / "source"}, folder / "out", Quiet())
    onnx.checker.check_model(str(folder / "out" / "model.onnx"), full_check=True)
    return load(folder / "out")


def test_weights_stored_as_integers_become_float16(tmp_path: Path) -> None:
    """DequantizeLinear gives float16 only from opset 19 on."""
    model = halved(stored(), tmp_path)
    assert [n.op_type for n in model.graph] == ["Cast", "Conv", "Relu", "Conv", "Cast"]
    assert {v.dtype for v in model.graph.initializers.values()} == {ir.DataType.FLOAT16}


@pytest.mark.parametrize("opset", [17, 21])
def test_quantisers_that_cannot_be_folded_stay_float32(opset: int, tmp_path: Path) -> None:
    """The scale is computed, so the weights are no constant."""
    nodes = [
        helper.make_node("Add", ["s", "t"], ["scale"]),
        helper.make_node("DequantizeLinear", ["q", "scale"], ["w"]),
        helper.make_node("MatMul", ["x", "w"], ["y"]),
    ]
    scales = [numpy_helper.from_array(np.float32(0.1), name) for name in "st"]
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 4])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n", 4])],
        [*scales, numpy_helper.from_array(np.eye(4, dtype=np.int8), "q")],
    )
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=9)
    kept = next(n for n in halved(made, tmp_path).graph if n.op_type == "DequantizeLinear")
    assert kept.outputs[0].dtype == ir.DataType.FLOAT
