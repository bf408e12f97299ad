"""Layers of a transformer found in its graph, and taken out."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
import onnxruntime
import pytest
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from edgewright.errors import ConfigError
from edgewright.graph.encoders import encoder_layers, keep_layers
from edgewright.graph.shapes import infer_shapes

WIDTH, TOKENS, VOCABULARY = 8, 5, 20
Ids = NDArray[Any]


class Text:
    """A transformer written node by node, so that PyTorch is not needed."""

    def __init__(self, layers: int, *, post_norm: bool = False, masked: bool = True, odd: int = -1) -> None:
        self.rng = np.random.default_rng(0)
        self.nodes: list[onnx.NodeProto] = []
        self.weights: dict[str, NDArray[Any]] = {"table": self.rng.normal(size=(VOCABULARY, WIDTH)).astype(np.float32)}
        self.masked = masked
        if masked:
            self._mask()
        self.add("Gather", ["table", "ids"], "hidden")
        state = "hidden"
        for index in range(layers):
            state = self._layer(index, state, post_norm=post_norm, wider=index == odd)
        self.add("ReduceMean", [state, self.keep("axis", np.array([1]))], "mean", keepdims=0)
        self.add("MatMul", ["mean", self.weight("head", WIDTH, 3)], "y")

    def add(self, op: str, inputs: list[str], output: str, **attributes: Any) -> str:
        self.nodes.append(helper.make_node(op, inputs, [output], name=output, **attributes))
        return output

    def keep(self, name: str, values: NDArray[Any]) -> str:
        self.weights[name] = values
        return name

    def weight(self, name: str, *shape: int) -> str:
        return self.keep(name, self.rng.normal(size=shape).astype(np.float32) * 0.3)

    def _mask(self) -> None:
        self.add("Equal", ["ids", self.keep("pad", np.array(0))], "padded")
        self.add("Cast", ["padded"], "far", to=TensorProto.FLOAT)
        self.add("Mul", ["far", self.keep("minus", np.array(-1e4, np.float32))], "away")
        self.add("Unsqueeze", ["away", self.keep("middle", np.array([1]))], "bias")

    def _layer(self, index: int, x: str, *, post_norm: bool, wider: bool) -> str:
        p = f"l{index}_"
        inside = x if post_norm else self._norm(p + "n1", x)
        x = self.add("Add", [x, self._attention(p, inside)], p + "a")
        x = self._norm(p + "n1", x) if post_norm else x
        inside = x if post_norm else self._norm(p + "n2", x)
        wide = self.add("MatMul", [inside, self.weight(p + "w1", WIDTH, 12)], p + "wide")
        wide = self.add("Relu", [wide], p + "relu")
        wide = self.add("Relu", [wide], p + "relu2") if wider else wide
        x = self.add("Add", [x, self.add("MatMul", [wide, self.weight(p + "w2", 12, WIDTH)], p + "narrow")], p + "b")
        return self._norm(p + "n2", x) if post_norm else x

    def _norm(self, name: str, x: str) -> str:
        scale = self.keep(name + "_s", np.ones(WIDTH, np.float32))
        return self.add("LayerNormalization", [x, scale, self.keep(name + "_b", np.zeros(WIDTH, np.float32))], name)

    def _attention(self, p: str, x: str) -> str:
        q, k, v = (self.add("MatMul", [x, self.weight(p + n, WIDTH, WIDTH)], p + n + "x") for n in "qkv")
        scores = self.add("MatMul", [q, self.add("Transpose", [k], p + "kt", perm=[0, 2, 1])], p + "scores")
        scores = self.add("Add", [scores, "bias"], p + "biased") if self.masked else scores
        shares = self.add("Softmax", [scores], p + "softmax", axis=-1)
        return self.add("MatMul", [shares, v], p + "mixed")

    def model(self) -> ir.Model:
        graph = helper.make_graph(
            self.nodes,
            "text",
            [helper.make_tensor_value_info("ids", TensorProto.INT64, ["n", TOKENS])],
            [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n", 3])],
            [numpy_helper.from_array(value, name) for name, value in self.weights.items()],
        )
        proto = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)
        return infer_shapes(ir.from_proto(proto))


def run(model: ir.Model, ids: Ids) -> NDArray[Any]:
    session = onnxruntime.InferenceSession(ir.to_proto(model).SerializeToString())
    found: NDArray[Any] = session.run(None, {"ids": ids})[0]
    return found


IDS = np.array([[3, 4, 5, 0, 0], [7, 1, 2, 9, 11]])


@pytest.mark.parametrize("post_norm", [False, True])
@pytest.mark.parametrize("masked", [False, True])
def test_finds_every_layer_whatever_the_norm_and_the_mask(post_norm: bool, masked: bool) -> None:
    layers = encoder_layers(Text(4, post_norm=post_norm, masked=masked).model())
    assert [layer.operators.count("Softmax") for layer in layers] == [1, 1, 1, 1]
    assert all(one.exit is other.entry for one, other in pairwise(layers))
    assert layers[0].entry.name == "hidden"
    assert layers[3].exit.name == ("l3_n2" if post_norm else "l3_b")


@pytest.mark.parametrize("post_norm", [False, True])
@pytest.mark.parametrize("kept", [(), (0, 2), (1, 3), (0,), (3,), (0, 1, 2, 3)], ids=str)
def test_what_is_left_is_a_model_of_the_kept_layers(post_norm: bool, kept: tuple[int, ...]) -> None:
    text = Text(4, post_norm=post_norm)
    model = text.model()
    assert keep_layers(model, kept) == (len(kept) or 2, 4)
    expected = Text(len(kept) or 2, post_norm=post_norm)
    for place, index in enumerate(kept or (0, 2)):
        expected.weights |= {f"l{place}_{k[3:]}": v for k, v in text.weights.items() if k.startswith(f"l{index}_")}
    expected.weights |= {"head": text.weights["head"]}
    np.testing.assert_allclose(run(model, IDS), run(expected.model(), IDS), rtol=1e-4, atol=1e-5)
    onnx.checker.check_model(ir.to_proto(model), full_check=True)
    names = {value.name for value in model.graph.initializers.values()}
    gone = set(range(4)) - set(kept or (0, 2))
    assert not any((name or "").startswith(f"l{index}_") for name in names for index in gone)


@pytest.mark.parametrize("kept", [(4,), (2, 0), (1, 1), (-1,)], ids=str)
def test_refuses_layers_that_are_not_there(kept: tuple[int, ...]) -> None:
    with pytest.raises(ConfigError) as error:
        keep_layers(Text(4).model(), kept)
    assert "from 0 to 3" in error.value.hint


def test_refuses_layers_that_differ_and_models_without_any() -> None:
    with pytest.raises(ConfigError, match="not built alike: layer 1"):
        encoder_layers(Text(3, odd=1).model())
    with pytest.raises(ConfigError, match="1 layers with attention"):
        encoder_layers(Text(1).model())
