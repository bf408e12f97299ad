"""Operators mean what they meant in the model's opset: attributes that became inputs, defaults that moved."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper

from edgewright.errors import SourceError
from edgewright.graph.bridge import run, to_torch

RNG = np.random.default_rng(0)


def values(*shape: int) -> Any:
    return RNG.standard_normal(shape).astype(np.float32)


@dataclass(frozen=True)
class Old:
    """One node in one opset: shape of its first input, further inputs that the model fixes or gives, attributes."""

    opset: int
    operator: str
    shape: tuple[int, ...] = (2, 3, 4)
    fixed: tuple[Any, ...] = ()
    attributes: dict[str, Any] = field(default_factory=dict)
    outputs: int = 1

    def __str__(self) -> str:
        return f"{self.operator}-{self.opset}"


IMAGE = (1, 2, 4, 5)
NONE = np.array([], np.float32)
SCALES = np.array([0.1, 0.2, 0.4], np.float32)
REDUCTIONS = {"ReduceMean": 7, "ReduceSum": 11, "ReduceMax": 12, "ReduceL2": 17, "ReduceLogSumExp": 17}
STATISTICS = (values(2), values(2), values(2), np.abs(values(2)) + 1)
CASES = [
    *(Old(n, op, IMAGE) for n in (7, 11, 12, 13, 17) for op in ("Softmax", "LogSoftmax")),
    *(Old(n, "Softmax", IMAGE, (), {"axis": 2}) for n in (11, 13)),
    *(Old(n, "Hardmax", (2, 3)) for n in (11, 13)),
    Old(7, "Squeeze", (1, 3, 1), (), {"axes": [0]}),
    Old(12, "Squeeze", (1, 3, 1), (), {"axes": [-1]}),
    Old(13, "Squeeze", (1, 3, 1), (np.array([0, 2]),)),
    Old(13, "Squeeze", (1, 3, 1)),
    Old(11, "Unsqueeze", (2, 3), (), {"axes": [0, -1]}),
    Old(13, "Unsqueeze", (2, 3), (np.array([0, -1]),)),
    Old(7, "Clip", (), (), {"min": -0.2, "max": 0.3}),
    Old(10, "Clip", (2, 3), (), {"max": 0.3}),
    Old(11, "Clip", (2, 3), (np.array(-0.2, np.float32),)),
    Old(12, "Clip", (2, 3), (None, np.array(0.1, np.float32))),
    Old(7, "Pad", (2, 3), (), {"pads": [0, 1, 2, 0], "value": 1.5}),
    Old(10, "Pad", (2, 4), (), {"pads": [0, 1, 0, 2], "mode": "reflect"}),
    Old(11, "Pad", (2, 3), (np.array([0, 1, -1, 0]), np.array(2.5, np.float32))),
    Old(18, "Pad", (2, 3), (np.array([1, 2]), None, np.array([-1])), {"mode": "edge"}),
    Old(19, "Pad", (2, 3), (np.array([0, 2, 0, 2]),), {"mode": "wrap"}),
    Old(9, "Slice", (3, 4), (), {"starts": [1, -3], "ends": [100, -1], "axes": [0, 1]}),
    Old(9, "Slice", (3, 4), (), {"starts": [1], "ends": [2]}),
    Old(10, "Slice", (3, 4), (np.array([-1]), np.array([-100]), np.array([1]), np.array([-2]))),
    Old(13, "Slice", (3, 4), (np.array([0, 3]), np.array([2, 3]))),
    *(Old(n, op, (2, 3, 4), (), {"axes": [1, -1], "keepdims": 0}) for op, n in REDUCTIONS.items()),
    Old(13, "ReduceSum", (2, 3), (np.array([1]),)),
    Old(13, "ReduceSum", (2, 3), (np.array([], np.int64),), {"noop_with_empty_axes": 1}),
    Old(18, "ReduceMean", (2, 3), (np.array([-1]),), {"keepdims": 0}),
    Old(18, "ReduceProd", (2, 3)),
    Old(7, "Split", (2, 6), (), {"axis": 1, "split": [1, 5]}, 2),
    Old(11, "Split", (2, 6), (), {"axis": -1}, 3),
    Old(13, "Split", (2, 6), (np.array([4, 2]),), {"axis": 1}, 2),
    Old(18, "Split", (2, 7), (), {"axis": 1, "num_outputs": 3}, 3),
    *(Old(n, "Dropout", (2, 3), (), {"ratio": 0.3}) for n in (7, 10)),
    Old(12, "Dropout", (2, 3), (np.array(0.3, np.float32),)),
    *(Old(n, "BatchNormalization", IMAGE, STATISTICS, {"epsilon": 1e-3}) for n in (7, 9, 14, 15)),
    Old(7, "Upsample", IMAGE, (), {"scales": [1.0, 1.0, 2.0, 3.0]}),
    Old(9, "Upsample", IMAGE, (np.array([1, 1, 2, 1.5], np.float32),)),
    Old(9, "Upsample", IMAGE, (np.array([1, 1, 2, 2], np.float32),), {"mode": "linear"}),
    Old(10, "Resize", IMAGE, (np.array([1, 1, 2, 1.5], np.float32),)),
    Old(10, "Resize", IMAGE, (np.array([1, 1, 0.5, 0.6], np.float32),), {"mode": "linear"}),
    *(
        Old(n, "Resize", IMAGE, (None if n > 11 else NONE, np.array([1, 1, 2, 3], np.float32)), {"mode": m, **more})
        for n in (11, 13, 18, 19)
        for m, more in (
            ("nearest", {"coordinate_transformation_mode": "asymmetric", "nearest_mode": "floor"}),
            ("nearest", {}),
            ("linear", {"coordinate_transformation_mode": "pytorch_half_pixel"}),
            ("linear", {"coordinate_transformation_mode": "align_corners"}),
            ("cubic", {"coordinate_transformation_mode": "half_pixel", "cubic_coeff_a": -0.5}),
        )
        if n > 11 or m != "nearest"
    ),
    Old(13, "Resize", IMAGE, (None, None, np.array([1, 2, 7, 9])), {"mode": "linear"}),
    Old(18, "Resize", IMAGE, (None, None, np.array([2, 3])), {"mode": "linear", "antialias": 1, "axes": [2, 3]}),
    Old(9, "TopK", (3, 4), (), {"k": 2}, 2),
    Old(10, "TopK", (3, 4), (np.array([2]),), {"axis": 0}, 2),
    Old(11, "TopK", (3, 4), (np.array([2]),), {"largest": 0}, 2),
    *(Old(n, "ArgMax", (3, 4), (), {"axis": 1, "keepdims": 0}) for n in (7, 11, 13)),
    Old(12, "ArgMin", (3, 4), (), {"axis": -1, "select_last_index": 1}),
    *(Old(n, "Flatten", (2, 3, 4), (), {"axis": 2}) for n in (7, 9, 13)),
    Old(11, "Flatten", (2, 3, 4), (), {"axis": -1}),
    *(Old(n, "Gemm", (2, 3), (values(4, 3), values(4)), {"transB": 1, "alpha": 0.5}) for n in (7, 9, 13)),
    Old(11, "Gemm", (2, 3), (values(3, 4),)),
    *(Old(n, "AveragePool", IMAGE, (), {"kernel_shape": [3, 3], "pads": [1, 1, 1, 1]}) for n in (7, 10, 11, 19)),
    Old(11, "AveragePool", IMAGE, (), {"kernel_shape": [2, 2], "auto_pad": "SAME_UPPER", "strides": [2, 2]}),
    *(Old(n, "MaxPool", IMAGE, (), {"kernel_shape": [2, 2], "strides": [2, 2]}, 2) for n in (8, 10, 12)),
    Old(12, "MaxPool", IMAGE, (), {"kernel_shape": [2, 2], "auto_pad": "SAME_LOWER"}),
    *(Old(n, "OneHot", (0,), (np.array([4.0], np.float32), np.array([0.0, 1.0], np.float32))) for n in (9, 11)),
    Old(9, "Scatter", (3, 3), (np.array([[0, 2, 1]]), values(1, 3))),
    *(Old(n, "ScatterElements", (3, 3), (np.array([[0, -1, 1]]), values(1, 3))) for n in (11, 16)),
    *(Old(n, "Gather", (3, 4), (np.array([[0, -1]]),), {"axis": 1}) for n in (11, 13)),
    Old(16, "GridSample", (1, 1, 4, 4), (values(1, 2, 3, 2),), {"mode": "bilinear", "padding_mode": "border"}),
    Old(20, "GridSample", (1, 1, 4, 4), (values(1, 2, 3, 2),), {"mode": "linear"}),
    Old(18, "GroupNormalization", (1, 4, 3), (values(2), values(2)), {"num_groups": 2}),
    Old(21, "GroupNormalization", (1, 4, 3), (values(4), values(4)), {"num_groups": 2}),
    *(Old(n, "PRelu", (2, 3, 4), (values(3, 1),)) for n in (7, 9, 16)),
    *(Old(n, "CumSum", (2, 3), (np.array(1),), {"exclusive": 1}) for n in (11, 14)),
    *(Old(n, "Reshape", (2, 3, 4), (np.array([0, -1]),)) for n in (7, 13, 14)),
    *(Old(n, "Expand", (3, 1), (np.array([2, 1, 4]),)) for n in (8, 13)),
    *(Old(n, "Mod", (3, 4), (values(4),), {"fmod": 1}) for n in (10, 13)),
    *(Old(n, "Pow", (3, 4), (np.array(2.0, np.float32),)) for n in (7, 12, 13)),
    Old(12, "Pow", (3, 4), (np.array(3, np.int64),)),
    Old(10, "QuantizeLinear", (3, 4), (np.array(0.1, np.float32), np.array(3, np.uint8))),
    Old(13, "QuantizeLinear", (2, 3), (SCALES, np.array([0, 1, 2], np.int8)), {"axis": 1}),
    *(Old(n, "LSTM", (4, 2, 3), (values(1, 20, 3), values(1, 20, 5)), {"hidden_size": 5}, 3) for n in (7, 14)),
    Old(9, "Cast", (3, 4), (), {"to": TensorProto.INT32}),
    Old(9, "Where", (0,), (values(3), values(2, 3))),
]  # fmt: skip


def model_of(case: Old) -> tuple[onnx.ModelProto, dict[str, Any]]:
    first = {"OneHot": np.array([1, -2, 9]), "Where": np.array([[True], [False]])}.get(case.operator)
    x = values(*case.shape) if first is None else first
    names = ["x", *("" if array is None else f"w{i}" for i, array in enumerate(case.fixed))]
    weights = [numpy_helper.from_array(a, f"w{i}") for i, a in enumerate(case.fixed) if a is not None]
    outputs = [f"y{i}" for i in range(case.outputs)]
    node = helper.make_node(case.operator, names, outputs, **case.attributes)
    kind = helper.np_dtype_to_tensor_dtype(x.dtype)
    inputs = [helper.make_tensor_value_info("x", kind, x.shape)]
    if case.opset < 9:
        inputs += [helper.make_tensor_value_info(w.name, w.data_type, list(w.dims)) for w in weights]
    results = [helper.make_empty_tensor_value_info(name) for name in outputs]
    graph = helper.make_graph([node], "one", inputs, results, weights)
    opsets = [helper.make_opsetid("", case.opset)]
    return helper.make_model(graph, opset_imports=opsets, ir_version=helper.find_min_ir_version_for(opsets)), {"x": x}


@pytest.mark.sample(7)
@pytest.mark.parametrize("case", CASES, ids=str)
def test_each_opset_means_what_onnx_runtime_takes_it_for(case: Old) -> None:
    proto, feeds = model_of(case)
    session = onnxruntime.InferenceSession(proto.SerializeToString(), providers=["CPUExecutionProvider"])
    found = run(to_torch(ir.from_proto(proto)), feeds)
    for name, expected in zip((o.name for o in proto.graph.output), session.run(None, feeds), strict=True):
        assert found[name].dtype == expected.dtype
        np.testing.assert_allclose(found[name], expected, rtol=2e-5, atol=2e-6)


@pytest.mark.parametrize(("version", "said"), [(6, "opset 6"), (99, "opset 99")])
def test_opsets_out_of_reach_are_named(version: int, said: str) -> None:
    proto, _ = model_of(Old(13, "Relu"))
    proto.opset_import[0].version = version
    with pytest.raises(SourceError, match=said):
        to_torch(ir.from_proto(proto))
