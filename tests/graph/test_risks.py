"""Every rule of `edgewright check` has a graph that triggers it and nothing else, and one beside it that does not."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import onnx_ir as ir
import pytest
from onnx import TensorProto, helper, numpy_helper

from edgewright.core.target import Scheme
from edgewright.graph.risks import RULES, Layers, free_axes, look, risks
from edgewright.graph.schemes import find
from edgewright.graph.shapes import bind_axes, infer_shapes

RNG = np.random.default_rng(4)


@dataclass(frozen=True)
class Graph:
    """A graph to check: nodes from `x` to `y`, and for whom."""

    nodes: list[Any]
    weights: Mapping[str, Any] = field(default_factory=dict)
    shape: tuple[Any, ...] = (1, 8, 8, 8)
    target: str = "onnxruntime"
    scheme: str = "onnxruntime-u8s8"
    opset: int = 17
    kind: int = TensorProto.FLOAT

    def model(self) -> ir.Model:
        constants = [numpy_helper.from_array(np.asarray(v), k) for k, v in self.weights.items()]
        x = helper.make_tensor_value_info("x", self.kind, self.shape)
        y = helper.make_tensor_value_info("y", TensorProto.FLOAT, None)
        graph = helper.make_graph(self.nodes, "g", [x], [y], constants)
        opsets = [helper.make_opsetid("", self.opset)]
        return infer_shapes(ir.from_proto(helper.make_model(graph, opset_imports=opsets, ir_version=8)))

    def found(self) -> dict[str, tuple[str, ...]]:
        model = self.model()
        scheme: Scheme | None = find(self.scheme) if self.scheme else None
        sight = look(bind_axes(model, {}), self.target, scheme, self.opset, free_axes(model), "x86_64")
        return {risk.rule: risk.nodes for risk in risks(sight)}


def node(op: str, inputs: str, output: str, name: str = "", **attributes: Any) -> Any:
    return helper.make_node(op, inputs.split(), output.split(), name or op.lower(), **attributes)


def f32(*shape: int) -> Any:
    return (RNG.standard_normal(shape) / 4).astype(np.float32)


PLAIN: Mapping[str, Any] = {"w0": f32(8, 8, 1, 1), "w1": f32(8, 8, 1, 1)}


def between(*nodes: Any, weights: Mapping[str, Any] | None = None, **options: Any) -> Graph:
    """Puts nodes from `a` to `b` between two convolutions."""
    first, last = node("Conv", "x w0", "a", "conv0"), node("Conv", "b w1", "y", "conv1")
    return Graph([first, *nodes, last], {**PLAIN, **(weights or {})}, **options)


def norm(**options: Any) -> Graph:
    parts = [node("LayerNormalization", "a s", "b", "norm", axis=-1)]
    return between(*parts, weights={"s": np.ones(8, np.float32)}, **options)


ANCHORS = {"shape": (1, 8)}
LITERT = {"target": "litert", "scheme": "litert-s8s8"}
TENSORRT = {"target": "tensorrt", "scheme": ""}
NMS = [
    node("Slice", "x zero four two", "boxes", "cut0"),
    node("Slice", "x four five two", "raw", "cut1"),
    node("Transpose", "raw", "scores", "turn", perm=[0, 2, 1]),
    node("NonMaxSuppression", "boxes scores", "kept", "nms"),
    node("Cast", "kept", "y", "cast", to=TensorProto.FLOAT),
]
NMS_CONSTANTS = {k: np.array([v], np.int64) for k, v in {"zero": 0, "four": 4, "five": 5, "two": 2}.items()}
HEAD = {"wb": f32(4, 8, 1, 1), "ws": f32(3, 8, 1, 1)}
BOXES, LOGITS = node("Conv", "x wb", "boxes", "conv_b"), node("Conv", "x ws", "logits", "conv_s")
SCORES = node("Sigmoid", "logits", "scores", "sigmoid")
UP = {"roi": np.zeros(0, np.float32), "twice": np.array([1, 1, 2, 2], np.float32)}
NO_SCHEME = {"scheme": ""}

TRIGGERS: Mapping[str, tuple[Graph, tuple[str, ...]]] = {
    "dynamic-axes": (Graph([node("Relu", "x", "y")], shape=("batch", "tokens", 8), **LITERT), ()),
    "old-opset": (Graph([node("Relu", "x", "y")], opset=11, **NO_SCHEME), ()),
    "new-opset": (Graph([node("Relu", "x", "y")], opset=22, **NO_SCHEME), ()),
    "nms-in-graph": (Graph(NMS, NMS_CONSTANTS, (1, 6, 5), **NO_SCHEME), ("nms",)),
    "data-dependent": (
        Graph([node("NonZero", "x", "n"), node("Cast", "n", "y", to=TensorProto.FLOAT)], **NO_SCHEME),
        ("nonzero",),
    ),
    "control-flow": (
        Graph(
            [
                node("ReduceMax", "x", "m", keepdims=0),
                node("Cast", "m", "c", to=TensorProto.BOOL),
                helper.make_node(
                    "If",
                    ["c"],
                    ["y"],
                    "if",
                    then_branch=helper.make_graph(
                        [node("Relu", "x", "t")], "t", [], [helper.make_tensor_value_info("t", 1, None)]
                    ),
                    else_branch=helper.make_graph(
                        [node("Neg", "x", "e")], "e", [], [helper.make_tensor_value_info("e", 1, None)]
                    ),
                ),
            ],
            **NO_SCHEME,
        ),
        ("if",),
    ),
    "high-rank": (Graph([node("Relu", "x", "y")], shape=(1, 2, 2, 2, 2), target="litert", scheme=""), ("relu",)),
    "resize-mode": (
        Graph([node("Resize", "x roi twice", "y", mode="cubic")], UP, **NO_SCHEME),
        ("resize",),
    ),
    "boxes-and-scores": (
        Graph([BOXES, LOGITS, SCORES, node("Concat", "boxes scores", "y", axis=1)], HEAD, **LITERT),
        ("concat",),
    ),
    "batch-norm": (
        Graph(
            [node("Relu", "x", "r"), node("BatchNormalization", "r s b m v", "y", "bn")],
            {k: np.ones(8, np.float32) for k in "sbmv"},
            **NO_SCHEME,
        ),
        ("bn",),
    ),
    "softmax-axis": (Graph([node("Softmax", "x", "y", axis=1)], **NO_SCHEME), ("softmax",)),
    "narrow-groups": (
        Graph([node("Conv", "x w", "y", group=4)], {"w": f32(8, 2, 1, 1)}, **NO_SCHEME),
        ("conv",),
    ),
    "narrow-channels": (
        Graph(
            [node("Conv", "x w0", "a", "conv0"), node("Conv", "a w", "y", "conv1")],
            {"w0": PLAIN["w0"], "w": f32(12, 8, 1, 1)},
            **TENSORRT,
        ),
        ("conv1",),
    ),
    "embedding": (
        Graph([node("Gather", "table x", "y")], {"table": f32(70000, 16)}, (1, 8), kind=TensorProto.INT64, **NO_SCHEME),
        ("gather",),
    ),
    "large-constant": (
        Graph([node("Add", "x c", "y")], {"c": np.array(-1e9, np.float32)}, **TENSORRT),
        ("add",),
    ),
    "half-overflow": (Graph([node("Exp", "x", "y")], **TENSORRT), ("exp",)),
    "delegate": (
        Graph([node("ArgMax", "x", "n", axis=1), node("Cast", "n", "y", to=1)], target="litert", scheme=""),
        ("argmax",),
    ),
    "scheme": (between(node("Relu", "a", "b"), scheme="litert-s16s8", target="litert"), ()),
    "silu": (between(node("Sigmoid", "a", "s"), node("Mul", "a s", "b"), **LITERT), ("mul",)),
}
"""Rule -> a graph that triggers that rule alone, and the nodes it names."""
AMID: Mapping[str, tuple[Graph, tuple[str, ...]]] = {
    "gelu": (between(node("Gelu", "a", "b"), opset=20), ("gelu",)),
    "hard-swish": (between(node("HardSwish", "a", "b")), ("hardswish",)),
    "activation": (between(node("Softplus", "a", "b")), ("softplus",)),
    "normalisation": (norm(), ("norm",)),
    "resize-float": (
        between(node("Resize", "a roi twice", "b", mode="linear"), weights=UP),
        ("resize",),
    ),
    "float-island": (between(node("Neg", "a", "b")), ("neg",)),
    "recurrent": (
        Graph(
            [
                node("MatMul", "x w0", "a", "matmul0"),
                node("GRU", "a w r", "h", "gru", hidden_size=4),
                node("Squeeze", "h one", "b"),
                node("MatMul", "b w1", "y", "matmul1"),
            ],
            {"w0": f32(8, 8), "w": f32(1, 12, 8), "r": f32(1, 12, 4), "w1": f32(4, 4), "one": np.array([1], np.int64)},
            shape=(3, 1, 8),
        ),
        ("gru",),
    ),
}
"""The same for rules about operators in float between integer ones, which are a float island too."""


@pytest.mark.parametrize("rule", TRIGGERS)
def test_a_graph_triggers_its_rule_alone(rule: str) -> None:
    graph, nodes = TRIGGERS[rule]
    assert graph.found() == {rule: nodes}


@pytest.mark.parametrize("rule", AMID)
def test_an_operator_without_an_integer_kernel_is_named(rule: str) -> None:
    graph, nodes = AMID[rule]
    found = graph.found()
    assert found[rule] == nodes
    assert set(found) <= {rule, "float-island"}


def depthwise(scheme: str) -> Graph:
    weights = {"w": f32(8, 1, 3, 3)}
    return between(node("Conv", "a w", "b", "depth", group=8, pads=[1] * 4), weights=weights, scheme=scheme)


def test_depthwise_that_stays_float_or_shares_a_scale() -> None:
    assert depthwise("openvino-u8s8-avx2").found()["depthwise"] == ("depth",)
    assert "depthwise" not in depthwise("openvino-u8s8").found()


def transposed(scheme: str) -> Graph:
    weights = {"w": f32(8, 8, 2, 2)}
    return between(node("ConvTranspose", "a w", "b", "up", strides=[2, 2]), weights=weights, scheme=scheme)


def test_transposed_convolutions_by_scheme() -> None:
    assert transposed("onnxruntime-u8s8").found()["transposed-convolution"] == ("up",)
    assert "transposed-convolution" not in transposed("openvino-u8s8").found()


def attention(scheme: str) -> Graph:
    nodes = [
        node("MatMul", "x q", "a", "query"),
        node("MatMul", "x k", "b", "key"),
        node("Neg", "a", "c"),
        node("Einsum", "c b", "s", "product", equation="bij,bkj->bik"),
        node("MatMul", "s v", "y", "value"),
    ]
    return Graph(nodes, {"q": f32(8, 8), "k": f32(8, 8), "v": f32(5, 5)}, (1, 5, 8), scheme=scheme)


def test_a_product_of_two_activations_in_float() -> None:
    assert attention("onnxruntime-u8s8").found()["attention"] == ("product",)


def test_the_share_in_integers_is_told_where_it_is_low() -> None:
    mostly_float = Graph(
        [node("Conv", "x w", "a", "small"), node("ConvTranspose", "a t", "y", "large", strides=[4, 4])],
        {"w": f32(8, 8, 1, 1), "t": f32(8, 32, 4, 4)},
    )
    assert mostly_float.found()["float-products"] == ("large",)
    assert "float-products" not in between(node("Relu", "a", "b")).found()


CLEAN: Mapping[str, Callable[[], Graph]] = {
    "a plain network": lambda: between(node("Relu", "a", "b")),
    "softmax over the last axis": lambda: Graph([node("Softmax", "x", "y")], **NO_SCHEME),
    "two outputs of one kind": lambda: Graph(
        [BOXES, LOGITS, node("Concat", "boxes logits", "y", axis=1)], HEAD, **LITERT
    ),
    "nearest upsampling": lambda: between(node("Resize", "a roi twice", "b"), weights=UP),
    "a small table": lambda: Graph(
        [node("Gather", "table x", "y")], {"table": f32(70, 16)}, (1, 8), kind=TensorProto.INT64, **NO_SCHEME
    ),
    "depthwise is no narrow group": lambda: Graph(
        [node("Conv", "x w", "y", group=8)], {"w": f32(8, 1, 1, 1)}, **NO_SCHEME
    ),
    "a free batch": lambda: Graph([node("Relu", "x", "y")], shape=("batch", 8), target="litert", scheme=""),
    "a mask of -1e4": lambda: Graph([node("Add", "x c", "y")], {"c": np.array(-1e4, np.float32)}, **TENSORRT),
    "minus infinity": lambda: Graph([node("Add", "x c", "y")], {"c": np.array(-np.inf, np.float32)}, **TENSORRT),
    "HardSwish where there is a kernel": lambda: between(node("HardSwish", "a", "b"), **LITERT),
}


@pytest.mark.parametrize("name", CLEAN)
def test_nothing_is_found_where_nothing_is(name: str) -> None:
    assert CLEAN[name]().found() == {}


def test_every_rule_has_a_graph() -> None:
    tested = {*TRIGGERS, *AMID, "depthwise", "transposed-convolution", "attention", "float-products"}
    assert tested == {rule.name for rule in RULES}
    assert len(tested) == len(RULES)


SCOPES, TRACE = "pkg.torch.onnx.name_scopes", "pkg.torch.onnx.stack_trace"


def noted(model: ir.Model, notes: Mapping[str, tuple[str, int]]) -> ir.Model:
    for each in model.graph:
        path, line = notes.get(each.name or "", ("", 0))
        if path:
            each.metadata_props[SCOPES] = repr(["", path.split(".")[0], path, "aten"])
            frames = f'File "/home/me/net.py", line {line}, in forward\n    x\nFile "/v/site-packages/torch/nn/a.py"'
            each.metadata_props[TRACE] = f"{frames}, line 9, in forward"
    return model


def test_layers_are_found_by_name_and_behind_what_was_folded() -> None:
    graph = Graph(
        [
            node("Conv", "x w", "c", "conv"),
            node("BatchNormalization", "c s b m v", "n", "bn"),
            node("Relu", "n", "y", "relu"),
        ],
        {"w": f32(8, 8, 1, 1), **{k: np.ones(8, np.float32) for k in "sbmv"}},
    )
    model = noted(graph.model(), {"conv": ("back.conv1", 7), "bn": ("back.bn1", 8), "relu": ("back.act", 9)})
    layers = Layers(model.graph)
    folded = Graph(
        [node("Conv", "x w b", "n", "node_Conv_0"), node("Relu", "n", "y", "relu")], {"w": f32(8, 8, 1, 1), "b": f32(8)}
    )
    conv, relu = (layers.of(each) for each in folded.model().graph)
    assert (conv.path, conv.line) == ("back.conv1", "net.py:7")
    assert (relu.path, relu.line) == ("back.act", "net.py:9")
    foreign = Graph([node("Neg", "x", "y", "/head/box/Neg")], **NO_SCHEME).model()
    assert Layers(foreign.graph).of(next(iter(foreign.graph))).path == "head.box"


def test_integers_pass_through_where_the_scheme_says_so() -> None:
    pooled = between(
        node("MaxPool", "a", "p", "pool", kernel_shape=[3, 3], pads=[1] * 4),
        node("Resize", "p roi twice", "b"),
        weights=UP,
        target="tensorrt",
        scheme="tensorrt-s8s8",
    )
    assert pooled.found() == {}
    between_floats = between(node("Sigmoid", "a", "b"), target="tensorrt", scheme="tensorrt-s8s8")
    assert between_floats.found() == {"float-island": ("sigmoid",)}
