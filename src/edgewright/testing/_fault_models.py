"""Small networks for planted faults, built and fitted in code: random features, and a read-out by ridge regression.

Random convolutions whose batch norm holds the statistics of real inputs, and a linear layer fitted to the labels on top
of them (an extreme learning machine, Huang et al. 2006), give networks whose outputs mean something within
milliseconds and without a framework.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from edgewright.testing._fault_data import Samples, images, objects, sounds, texts

Array = NDArray[Any]
RIDGE = 1e-2


@dataclass(frozen=True, slots=True, eq=False)
class Network:
    """A network and what it was fitted on.

    Attributes:
        family: One of `FAMILIES`.
        model: Opset 17, free batch axis, every node named, layers as `conv1`, `bn1`, `relu1`.
        samples: Raw samples with labels, and how they are prepared.
        layers: Layer -> nodes that belong to it, in order; a fault in one of them is a fault in the layer.
    """

    family: str
    model: onnx.ModelProto
    samples: Samples
    layers: Mapping[str, tuple[str, ...]]


@dataclass
class Builder:
    """Grows a graph node by node and fits it to `feed` on the way."""

    rng: np.random.Generator
    inputs: list[Any]
    feed: dict[str, Array]
    nodes: list[onnx.NodeProto] = field(default_factory=list)
    weights: dict[str, Array] = field(default_factory=dict)
    layers: dict[str, list[str]] = field(default_factory=dict)

    def add(self, op: str, inputs: list[str], name: str, layer: str = "", **attributes: Any) -> str:
        """Appends a node; its output is called like it."""
        self.nodes.append(helper.make_node(op, inputs, [name], name, **attributes))
        self.layers.setdefault(layer or name, []).append(name)
        return name

    def constant(self, name: str, value: Any) -> str:
        """Stores a weight."""
        self.weights[name] = np.asarray(value)
        return name

    def values(self, name: str) -> Array:
        """Returns what `name` holds for the samples to fit on."""
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.log_severity_level = 3
        options.intra_op_num_threads = 1
        model = self.model([name], [TensorProto.FLOAT])
        session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
        return np.asarray(session.run([name], self.feed)[0])

    def model(self, outputs: list[str], types: list[int]) -> onnx.ModelProto:
        """Returns the graph so far."""
        results = [helper.make_tensor_value_info(n, t, None) for n, t in zip(outputs, types, strict=True)]
        stored = [numpy_helper.from_array(value, name) for name, value in self.weights.items()]
        graph = helper.make_graph(self.nodes, "network", self.inputs, results, stored)
        return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)

    def conv(self, source: str, channels: int, number: str, kernel: tuple[int, ...], **attributes: Any) -> str:
        """Appends a random convolution and the batch norm that makes its channels even."""
        into = self.values(source).shape[1] // attributes.get("group", 1)
        shape = (channels, into, *kernel)
        drawn = self.rng.standard_normal(shape) * np.sqrt(2 / np.prod(shape[1:]))
        weight = self.constant(f"conv{number}.weight", drawn.astype(np.float32))
        layer = f"conv{number}"
        out = self.add("Conv", [source, weight], f"conv{number}", layer, kernel_shape=list(kernel), **attributes)
        return self._normalised(out, number, layer)

    def _normalised(self, source: str, number: str, layer: str) -> str:
        seen = self.values(source)
        axes = (0, *range(2, seen.ndim))
        mean, variance = seen.mean(axes, np.float32), seen.var(axes, dtype=np.float32)
        scale = self.rng.uniform(0.7, 1.3, len(mean)).astype(np.float32)
        names = [
            self.constant(f"bn{number}.{key}", value.astype(np.float32))
            for key, value in (("scale", scale), ("bias", mean * 0 + 0.2), ("mean", mean), ("var", variance + 1e-4))
        ]
        return self.add("BatchNormalization", [source, *names], f"bn{number}", layer, epsilon=1e-3)

    def relu(self, source: str, number: str, *, clip: bool = False) -> str:
        """Appends ReLU, or ReLU6, to the layer of the convolution before it."""
        if not clip:
            return self.add("Relu", [source], f"relu{number}", f"conv{number}")
        limits = [self.constant(f"clip.{k}", np.float32(v)) for k, v in (("low", 0), ("high", 6))]
        return self.add("Clip", [source, *limits], f"relu{number}", f"conv{number}")

    def readout(self, source: str, wanted: Array, name: str) -> str:
        """Appends a Gemm fitted to `wanted`."""
        features = self.values(source).astype(np.float64)
        design = np.c_[features, np.ones(len(features))]
        gram = design.T @ design
        ridge = RIDGE * np.trace(gram) / len(gram) * np.eye(len(gram))
        solved = np.linalg.solve(gram + ridge, design.T @ wanted).astype(np.float32)
        weight = self.constant(f"{name}.weight", np.ascontiguousarray(solved[:-1].T))
        bias = self.constant(f"{name}.bias", solved[-1])
        return self.add("Gemm", [source, weight, bias], name, transB=1)

    def done(self, family: str, output: str, samples: Samples) -> Network:
        """Returns the network; the output is a float32 [batch, columns]."""
        model = self.model([output], [TensorProto.FLOAT])
        del model.graph.output[:]
        columns = self.values(output).shape[1]
        shape = ["batch", columns]
        model.graph.output.append(helper.make_tensor_value_info(output, TensorProto.FLOAT, shape))
        onnx.checker.check_model(model)
        return Network(family, model, samples, {layer: tuple(nodes) for layer, nodes in self.layers.items()})


def _started(rng: np.random.Generator, samples: Samples) -> tuple[Builder, Array]:
    prepared, labels = samples.fitting()
    kind = TensorProto.INT64 if prepared.dtype == np.int64 else TensorProto.FLOAT
    spec = helper.make_tensor_value_info("input", kind, ["batch", *prepared.shape[1:]])
    return Builder(rng, [spec], {"input": prepared}), labels


def _classes(labels: Array, count: int) -> Array:
    return np.asarray(np.eye(count)[labels.astype(int)] * 8.0)


def residual(rng: np.random.Generator) -> Network:
    """Convolutions with two residual blocks, on small pictures."""
    samples = images(rng)
    net, labels = _started(rng, samples)
    at = net.relu(net.conv("input", 16, "1", (3, 3), pads=[1, 1, 1, 1], strides=[2, 2]), "1")
    for block in ("2", "4"):
        inner = net.relu(net.conv(at, 16, block, (3, 3), pads=[1, 1, 1, 1]), block)
        outer = net.conv(inner, 16, str(int(block) + 1), (3, 3), pads=[1, 1, 1, 1])
        joined = net.add("Add", [outer, at], f"add{block}")
        at = net.add("Relu", [joined], f"out{block}", f"add{block}")
    at = net.relu(net.conv(at, 48, "6", (3, 3), pads=[1, 1, 1, 1], strides=[2, 2]), "6")
    return _classified(net, at, samples, labels, "residual")


def mobile(rng: np.random.Generator) -> Network:
    """Inverted residuals with depthwise convolutions and ReLU6, on small pictures."""
    samples = images(rng)
    net, labels = _started(rng, samples)
    at = net.relu(net.conv("input", 16, "1", (3, 3), pads=[1, 1, 1, 1], strides=[2, 2]), "1", clip=True)
    for number, stride in ((2, 1), (5, 2)):
        wide = net.relu(net.conv(at, 48, str(number), (1, 1)), str(number), clip=True)
        deep = {"pads": [1, 1, 1, 1], "strides": [stride, stride], "group": 48}
        spread = net.relu(net.conv(wide, 48, str(number + 1), (3, 3), **deep), str(number + 1), clip=True)
        thin = net.conv(spread, 16, str(number + 2), (1, 1))
        at = net.add("Add", [thin, at], f"add{number}") if stride == 1 else thin
    at = net.relu(net.conv(at, 64, "8", (1, 1)), "8", clip=True)
    return _classified(net, at, samples, labels, "mobile")


def detector(rng: np.random.Generator) -> Network:
    """One object per picture: a box in 0..640 joined with class scores in 0..1."""
    samples = objects(rng)
    net, labels = _started(rng, samples)
    at = net.relu(net.conv("input", 12, "1", (3, 3), pads=[1, 1, 1, 1], strides=[2, 2]), "1")
    at = net.relu(net.conv(at, 16, "2", (3, 3), pads=[1, 1, 1, 1]), "2")
    at = net.relu(net.conv(at, 16, "3", (3, 3), pads=[1, 1, 1, 1], strides=[2, 2]), "3")
    flat = net.add("Flatten", [at], "flatten")
    boxes = net.readout(flat, labels[:, :4], "boxes")
    logits = net.readout(flat, _classes(labels[:, 4], samples.classes) - 4.0, "logits")
    scores = net.add("Sigmoid", [logits], "scores")
    return net.done("detector", net.add("Concat", [boxes, scores], "joined", axis=1), samples)


def transformer(rng: np.random.Generator) -> Network:
    """Embedding, one block of attention and perceptron, mean over the tokens."""
    samples = texts(rng)
    net, labels = _started(rng, samples)
    width, heads = 32, 2
    table = net.constant("embedding.weight", rng.standard_normal((samples.vocabulary, width)).astype(np.float32))
    at = net.add("Gather", [table, "input"], "embedding", axis=0)
    queries = _layer_norm(net, at, "norm1")
    parts = [_heads(net, _linear(net, queries, width, name), name, heads, width) for name in ("query", "key", "value")]
    turned = net.add("Transpose", [parts[1]], "key_turned", "attention", perm=[0, 1, 3, 2])
    scores = net.add("MatMul", [parts[0], turned], "scores", "attention")
    scaled = net.add("Mul", [scores, net.constant("scale", np.float32((width / heads) ** -0.5))], "scaled", "attention")
    weights = net.add("Softmax", [scaled], "weights", "attention", axis=-1)
    mixed = net.add("MatMul", [weights, parts[2]], "mixed", "attention")
    back = net.add("Transpose", [mixed], "mixed_back", "attention", perm=[0, 2, 1, 3])
    merged = net.add("Reshape", [back, net.constant("merge", np.array([0, 0, width]))], "merged", "attention")
    at = net.add("Add", [_linear(net, merged, width, "output"), at], "skip1")
    hidden = net.add("Relu", [_linear(net, _layer_norm(net, at, "norm2"), 64, "up")], "up_relu", "up")
    at = net.add("Add", [_linear(net, hidden, width, "down"), at], "skip2")
    pooled = net.add("ReduceMean", [at], "pooled", axes=[1], keepdims=0)
    return net.done("transformer", net.readout(pooled, _classes(labels, samples.classes), "head"), samples)


def audio(rng: np.random.Generator) -> Network:
    """Convolutions in one dimension over waveforms."""
    samples = sounds(rng)
    net, labels = _started(rng, samples)
    at = net.relu(net.conv("input", 16, "1", (31,), strides=[4]), "1")
    at = net.relu(net.conv(at, 24, "2", (9,), strides=[2]), "2")
    at = net.relu(net.conv(at, 48, "3", (5,), strides=[2]), "3")
    return _classified(net, at, samples, labels, "audio")


def _classified(net: Builder, source: str, samples: Samples, labels: Array, family: str) -> Network:
    pooled = net.add("GlobalAveragePool", [source], "pool")
    flat = net.add("Flatten", [pooled], "flatten")
    return net.done(family, net.readout(flat, _classes(labels, samples.classes), "head"), samples)


def _linear(net: Builder, source: str, width: int, name: str) -> str:
    into = net.values(source).shape[-1]
    drawn = net.rng.standard_normal((into, width)) * np.sqrt(1.5 / into)
    weight = net.constant(f"{name}.weight", drawn.astype(np.float32))
    product = net.add("MatMul", [source, weight], f"{name}_product", name)
    bias = net.constant(f"{name}.bias", (net.rng.standard_normal(width) * 0.1).astype(np.float32))
    return net.add("Add", [product, bias], name, name)


def _heads(net: Builder, source: str, name: str, heads: int, width: int) -> str:
    shape = net.constant("split", np.array([0, 0, heads, width // heads]))
    apart = net.add("Reshape", [source, shape], f"{name}_apart", "attention")
    return net.add("Transpose", [apart], f"{name}_heads", "attention", perm=[0, 2, 1, 3])


def _layer_norm(net: Builder, source: str, name: str) -> str:
    width = net.values(source).shape[-1]
    scale = net.constant(f"{name}.scale", np.asarray(net.rng.uniform(0.8, 1.2, width), np.float32))
    bias = net.constant(f"{name}.bias", np.zeros(width, np.float32))
    return net.add("LayerNormalization", [source, scale, bias], name, axis=-1, epsilon=1e-5)


FAMILIES: Mapping[str, Callable[[np.random.Generator], Network]] = {
    "residual": residual,
    "mobile": mobile,
    "detector": detector,
    "transformer": transformer,
    "audio": audio,
}
"""Name -> maker."""
