"""Gradients of every differentiable operator, against finite differences in float64."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper

from edgewright.graph.bridge import claims, to_torch

OPSET = 24


@dataclass(frozen=True)
class Case:
    """One node.

    Attributes:
        inputs: Shape of each differentiated input, or the array itself; an integer or boolean array is not
            differentiated, a `fixed` one neither.
        attributes: Of the node.
        fixed: Position -> array that the model fixes.
        outputs: How many.
        low: Inputs are uniform between `low` and `high`.
    """

    inputs: tuple[Any, ...] = ((2, 3),)
    attributes: dict[str, Any] = field(default_factory=dict)
    fixed: dict[int, Any] = field(default_factory=dict)
    outputs: int = 1
    low: float = -1.5
    high: float = 1.5
    opset: int = OPSET


X = (2, 3)
IMAGE = (1, 2, 5, 4)
POSITIVE = Case(low=0.5, high=2.0)
BETWEEN = Case(low=-0.9, high=0.9)
PAIR = Case((X, (3,)))
REDUCE = Case(((2, 3, 2),), {"keepdims": 0}, {1: [0, 2]})
POOL = {"kernel_shape": [2, 2], "strides": [1, 2], "pads": [1, 0, 0, 1]}
SEQUENCE = ((4, 2, 3), (2, 12, 3), (2, 12, 3), (2, 24))
CELL = {"hidden_size": 3, "direction": "bidirectional"}
WHERE = np.array([[0, 2, 1], [1, 0, 2]])

CASES = {
    **dict.fromkeys(
        ["Abs", "Asinh", "Atan", "Celu", "Cos", "Cosh", "Elu", "Erf", "Exp", "Gelu", "HardSigmoid"], Case()
    ),
    **dict.fromkeys(["HardSwish", "Identity", "LeakyRelu", "Mish", "Neg", "Relu", "Selu", "Shrink", "Sigmoid"], Case()),
    **dict.fromkeys(["Sin", "Sinh", "Softplus", "Softsign", "Swish", "Tan", "Tanh", "ThresholdedRelu"], Case()),
    **dict.fromkeys(["Softmax", "LogSoftmax"], Case()),
    **dict.fromkeys(["Log", "Sqrt", "Reciprocal"], POSITIVE),
    **dict.fromkeys(["Acos", "Asin", "Atanh"], BETWEEN),
    **dict.fromkeys(["Add", "Sub", "Mul", "Div", "Max", "Min", "Mean", "Sum", "PRelu"], PAIR),
    **dict.fromkeys(["ReduceL1", "ReduceL2", "ReduceLogSumExp", "ReduceMax", "ReduceMean", "ReduceMin"], REDUCE),
    **dict.fromkeys(["ReduceProd", "ReduceSum", "ReduceSumSquare"], REDUCE),
    **dict.fromkeys(
        ["GlobalAveragePool", "GlobalLpPool", "GlobalMaxPool", "MeanVarianceNormalization"], Case((IMAGE,))
    ),
    "Acosh": Case(low=1.5, high=3.0),
    "AffineGrid": Case(((1, 2, 3),), {}, {1: [1, 1, 2, 3]}),
    "Attention": Case(((1, 4, 3, 2), (1, 2, 3, 2), (1, 2, 3, 2)), {"is_causal": 1, "softcap": 2.0}),
    "AveragePool": Case((IMAGE,), {**POOL, "ceil_mode": 1}),
    "BatchNormalization": Case((IMAGE, (2,), (2,), (2,), (2,)), low=0.5),
    "Cast": Case(attributes={"to": TensorProto.DOUBLE}),
    "CastLike": Case((X, (1,))),
    "CenterCropPad": Case(((4, 3),), {}, {1: [3, 6]}),
    "Clip": Case(fixed={1: -0.5, 2: 0.7}),
    "Col2Im": Case(((1, 8, 6),), {}, {1: [3, 4], 2: [2, 2]}),
    "Compress": Case((X,), {"axis": 1}, {1: [True, False, True]}),
    "Concat": Case((X, (2, 2)), {"axis": 1}),
    "ConcatFromSequence": Case(),
    "Conv": Case((IMAGE, (4, 1, 3, 2), (4,)), {"group": 2, "pads": [1, 0, 0, 1], "dilations": [1, 2]}),
    "ConvTranspose": Case((IMAGE, (2, 1, 3, 2), (2,)), {"group": 2, "strides": [2, 1], "output_padding": [1, 0]}),
    "CumProd": Case((X,), {"exclusive": 1}, {1: 1}, opset=26),
    "CumSum": Case((X,), {"reverse": 1}, {1: 1}),
    "DepthToSpace": Case(((1, 4, 2, 2),), {"blocksize": 2}),
    "DequantizeLinear": Case(
        (np.array([[-3, 5, 7]], np.int8), (3,)), {"axis": 1}, {2: np.array([1, 0, 2], np.int8)}, low=0.1
    ),
    "DFT": Case(((1, 4, 2),), {"inverse": 1}),
    "Det": Case(((3, 3),)),
    "Dropout": Case(),
    "Einsum": Case((X, (3, 4)), {"equation": "ij, jk -> ki"}),
    "Expand": Case(((3, 1),), {}, {1: [2, 1, 4]}),
    "Flatten": Case(((2, 3, 2),), {"axis": 2}),
    "GRU": Case(((4, 2, 3), (2, 9, 3), (2, 9, 3), (2, 18)), {**CELL, "linear_before_reset": 1}, outputs=2),
    "Gather": Case((X, WHERE), {"axis": 1}),
    "GatherElements": Case((X, WHERE), {"axis": 1}),
    "GatherND": Case((X, np.array([[0, 1], [1, -1]]))),
    "Gemm": Case(((3, 2), (4, 3), (4,)), {"transA": 1, "transB": 1, "alpha": 0.5, "beta": 2.0}),
    "GridSample": Case((IMAGE, (1, 3, 3, 2)), {"mode": "linear"}, low=-0.8, high=0.8),
    "GroupNormalization": Case(((2, 4, 3), (4,), (4,)), {"num_groups": 2}),
    "InstanceNormalization": Case((IMAGE, (2,), (2,))),
    "LRN": Case(((1, 4, 2, 2),), {"size": 3}),
    "LSTM": Case((*SEQUENCE, np.array([4, 2], np.int32)), CELL, outputs=3),
    "LayerNormalization": Case((X, (3,), (3,)), outputs=3),
    "LpNormalization": Case(),
    "LpPool": Case((IMAGE,), {**POOL, "p": 3}, low=0.2),
    "MatMul": Case(((2, 2, 3), (3, 2))),
    "MaxPool": Case((IMAGE,), {**POOL, "ceil_mode": 1}),
    "MaxUnpool": Case(((1, 1, 2, 2), np.array([[[[0, 2], [9, 15]]]])), {"kernel_shape": [2, 2], "strides": [2, 2]}),
    "Mod": Case((X,), {"fmod": 1}, {1: 0.7}),
    "NegativeLogLikelihoodLoss": Case(((2, 3, 2), np.array([[0, 2], [1, 1]])), {}, {2: [0.5, 1.0, 2.0]}),
    "OneHot": Case((np.array([0, 2]), np.array(4), (2,))),
    "Pad": Case((X,), {"mode": "reflect"}, {1: [0, 1, 1, 2]}),
    "Pow": Case((X, (3,)), low=0.5),
    "RMSNormalization": Case((X, (3,))),
    "RNN": Case(((4, 2, 3), (2, 3, 3), (2, 3, 3), (2, 6)), CELL, outputs=2),
    "Range": Case(((),), fixed={1: 3.0, 2: 1.0}),
    "ReduceLogSum": Case(((2, 3),), {}, {1: [1]}, low=0.5),
    "Reshape": Case((X,), {}, {1: [3, -1]}),
    "Resize": Case((IMAGE,), {"mode": "cubic", "antialias": 1}, {2: [1.0, 1.0, 0.6, 1.5]}),
    "ReverseSequence": Case(((3, 2),), {}, {1: [1, 3]}),
    "RotaryEmbedding": Case(((1, 2, 3, 4), (5, 2), (5, 2), np.array([[0, 1, 2]])), {"interleaved": 1}),
    "STFT": Case(((1, 8, 1), (), (4,)), {}, {1: 2}),
    "Scatter": Case((X, WHERE, X), {"axis": 1}, opset=10),
    "ScatterElements": Case((X, WHERE, X), {"axis": 1, "reduction": "add"}),
    "ScatterND": Case((X, np.array([[1]]), (1, 3)), {"reduction": "max"}),
    "Slice": Case((X,), {}, {1: [2, 0], 2: [-5, 2], 3: [1, 0], 4: [-2, 1]}),
    "SoftmaxCrossEntropyLoss": Case(((3, 4), np.array([0, 3, 1])), outputs=2),
    "SpaceToDepth": Case(((1, 1, 4, 2),), {"blocksize": 2}),
    "Split": Case((X,), {"axis": 1}, {1: [1, 2]}, outputs=2),
    "Squeeze": Case(((1, 3, 1),), {}, {1: [0]}),
    "SwiGLU": Case((X, X), opset=28),
    "TensorScatter": Case(((2, 1, 4, 2), (2, 1, 2, 2), np.array([1, 3])), {"mode": "circular"}),
    "Tile": Case((X,), {}, {1: [2, 1]}),
    "TopK": Case((X,), {}, {1: [2]}),
    "Transpose": Case(((2, 3, 2),), {"perm": [2, 0, 1]}),
    "Trilu": Case(((3, 3),), {"upper": 0}),
    "Unsqueeze": Case((X,), {}, {1: [0, -1]}),
    "Upsample": Case((IMAGE,), {"mode": "linear"}, {1: [1.0, 1.0, 2.0, 1.5]}, opset=9),
    "Where": Case((np.array([True, False, True]), X, (3,))),
}

STEPS = "is constant between steps"
INTEGER = "works on integers or truth values"
CHOICE = "puts out positions, truth values or shapes"
LIST = "moves tensors in and out of lists; ConcatFromSequence is differentiated through it"
CONTROL = "holds or runs nodes that are differentiated themselves; tested on a loop below"
CONSTANT = "has no floating input"
NOT_DIFFERENTIABLE = {
    **dict.fromkeys(["Ceil", "Floor", "Round", "Sign", "Hardmax", "QuantizeLinear", "DynamicQuantizeLinear"], STEPS),
    **dict.fromkeys(["And", "BitCast", "BitShift", "BitwiseAnd", "BitwiseNot", "BitwiseOr", "BitwiseXor"], INTEGER),
    **dict.fromkeys(["ConvInteger", "MatMulInteger", "Not", "Or", "QLinearConv", "QLinearMatMul", "Xor"], INTEGER),
    **dict.fromkeys(["ArgMax", "ArgMin", "Equal", "Greater", "GreaterOrEqual", "IsInf", "IsNaN", "Less"], CHOICE),
    **dict.fromkeys(["LessOrEqual", "NonMaxSuppression", "NonZero", "Shape", "Size", "Unique"], CHOICE),
    **dict.fromkeys(["OptionalGetElement", "OptionalHasElement", "SequenceAt", "SequenceConstruct"], LIST),
    **dict.fromkeys(["SequenceEmpty", "SequenceErase", "SequenceInsert", "SequenceLength", "SplitToSequence"], LIST),
    **dict.fromkeys(["Constant", "If", "Loop", "Scan"], CONTROL),
    **dict.fromkeys(["BlackmanWindow", "ConstantOfShape", "EyeLike", "HammingWindow", "HannWindow"], CONSTANT),
}


def module_of(operator: str, case: Case) -> tuple[torch.fx.GraphModule, list[torch.Tensor]]:
    """The node as a module, and its inputs."""
    generator = torch.Generator().manual_seed(0)
    names, tensors, infos, weights = [], [], [], []
    for index in range(max([len(case.inputs), *(i + 1 for i in case.fixed)])):
        names.append(f"i{index}")
        if index in case.fixed:
            array = np.asarray(case.fixed[index])
            array = array.astype(np.float64) if array.dtype.kind == "f" and operator != "Resize" else array
            weights.append(numpy_helper.from_array(array, names[-1]))
            continue
        if index >= len(case.inputs):
            names[-1] = ""
            continue
        given = case.inputs[index]
        if isinstance(given, tuple):
            values = torch.rand(given, generator=generator, dtype=torch.float64) * (case.high - case.low) + case.low
            tensors.append(values.requires_grad_())
        else:
            tensors.append(torch.from_numpy(given))
        kind = helper.np_dtype_to_tensor_dtype(tensors[-1].detach().numpy().dtype)
        infos.append(helper.make_tensor_value_info(names[-1], kind, None))
    outputs = [f"o{i}" for i in range(case.outputs)]
    nodes = [helper.make_node(operator, names, outputs, **case.attributes)]
    if operator == "ConcatFromSequence":
        nodes = [
            helper.make_node("SplitToSequence", ["i0"], ["s"], axis=1),
            helper.make_node("SequenceInsert", ["s", "i0"], ["t"]),
            helper.make_node(operator, ["t"], outputs, axis=1),
        ]
    results = [helper.make_tensor_value_info(name, TensorProto.DOUBLE, None) for name in outputs]
    graph = helper.make_graph(nodes, "one", infos, results, weights)
    return to_torch(
        ir.from_proto(helper.make_model(graph, opset_imports=[helper.make_opsetid("", case.opset)]))
    ), tensors


def floating(results: tuple[torch.Tensor, ...]) -> tuple[torch.Tensor, ...]:
    return tuple(r for r in results if r.is_floating_point())


FAST = {"Add", "BatchNormalization", "Clip", "Concat", "Gemm", "MatMul", "Mul", "Relu", "Reshape", "Softmax"}
PARAMETERS = [pytest.param(name, marks=() if name in FAST else pytest.mark.slow) for name in sorted(CASES)]


@pytest.mark.sample(4)
@pytest.mark.parametrize("operator", PARAMETERS)
def test_gradients_are_those_of_finite_differences(operator: str) -> None:
    module, tensors = module_of(operator, CASES[operator])
    assert any(t.requires_grad for t in tensors)
    assert torch.autograd.gradcheck(lambda *x: floating(module(*x)), tensors)


def test_every_claimed_operator_has_gradients_or_a_reason_for_none() -> None:
    assert set(CASES).isdisjoint(NOT_DIFFERENTIABLE)
    assert claims() == {*CASES, *NOT_DIFFERENTIABLE}


def test_gradients_pass_a_loop() -> None:
    """x, three times multiplied by w."""
    product = helper.make_node("Mul", ["state", "w"], ["next"])
    go = helper.make_node("Identity", ["going"], ["still"])
    value = helper.make_tensor_value_info
    body = helper.make_graph(
        [product, go],
        "body",
        [value("i", TensorProto.INT64, []), value("going", TensorProto.BOOL, []), value("state", 11, [2])],
        [value("still", TensorProto.BOOL, []), value("next", 11, [2])],
    )
    loop = helper.make_node("Loop", ["trips", "", "x"], ["y"], body=body)
    trips = numpy_helper.from_array(np.array(3), "trips")
    graph = helper.make_graph([loop], "g", [value("x", 11, [2]), value("w", 11, [2])], [value("y", 11, [2])], [trips])
    module = to_torch(ir.from_proto(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)])))
    x = [torch.tensor([1.0, -2.0], dtype=torch.float64, requires_grad=True) for _ in range(2)]
    assert torch.autograd.gradcheck(module, x)


def quantised(*, straight_through: bool) -> torch.fx.GraphModule:
    nodes = [
        helper.make_node("QuantizeLinear", ["x", "s", "z"], ["q"]),
        helper.make_node("Relu", ["q"], ["r"]),
        helper.make_node("DequantizeLinear", ["r", "s", "z"], ["y"]),
    ]
    weights = [
        numpy_helper.from_array(np.array(0.5, np.float32), "s"),
        numpy_helper.from_array(np.array(0, np.int8), "z"),
    ]
    value = helper.make_tensor_value_info
    graph = helper.make_graph(nodes, "g", [value("x", 1, [4])], [value("y", 1, [4])], weights)
    proto = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)])
    return to_torch(ir.from_proto(onnx.shape_inference.infer_shapes(proto)), straight_through=straight_through)


def test_gradients_pass_rounding_straight_through_and_stop_where_it_saturates() -> None:
    x = torch.tensor([0.3, -0.4, 1.24, 90.0], requires_grad=True)
    (y,) = quantised(straight_through=True)(x)
    (exact,) = quantised(straight_through=False)(x)
    assert torch.equal(y, exact)
    assert not exact.requires_grad
    (gradient,) = torch.autograd.grad(y.sum(), x)
    assert gradient.tolist() == [1.0, 0.0, 1.0, 0.0]
