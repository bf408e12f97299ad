"""Faults of quantisation, of half precision and of the runtime: each plants exactly one and says which."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import helper, numpy_helper

from edgewright.core.parity import PRECISION, RUNTIME
from edgewright.core.target import Plan, TensorPlan
from edgewright.testing._fault_bench import CANDIDATE, Bench, with_tensor, write_project

Array = NDArray[Any]


@dataclass(frozen=True, slots=True)
class Truth:
    """What was planted.

    Attributes:
        stage: One of `core.parity.STAGES`.
        cause: Its name.
        nodes: Nodes of the reference that belong to the guilty layer; empty where the fault has no layer.
        deployed: The candidate runs with a project file of its own.
    """

    stage: str
    cause: str
    nodes: tuple[str, ...] = ()
    deployed: bool = False


Plant = Callable[[Bench, np.random.Generator], Truth]


def weight(model: onnx.ModelProto, name: str) -> Array:
    """Returns a copy of a weight."""
    return np.array(numpy_helper.to_array(next(t for t in model.graph.initializer if t.name == name)))


def store(model: onnx.ModelProto, name: str, value: Array) -> None:
    """Replaces a weight."""
    found = next(t for t in model.graph.initializer if t.name == name)
    found.CopyFrom(numpy_helper.from_array(np.asarray(value), name))


def digits_of(layer: str) -> str:
    return layer.removeprefix("conv")


def convs(bench: Bench) -> list[str]:
    return [layer for layer in bench.network.layers if layer.startswith("conv")]


def pick(rng: np.random.Generator, choices: list[Any]) -> Any:
    return choices[int(rng.integers(len(choices)))]


def _activations(plan: Plan, bench: Bench) -> list[str]:
    """Returns the quantised tensors of the plan that some layer makes, the output left out."""
    last = bench.network.model.graph.output[0].name
    return [t.tensor for t in plan.tensors if t.axis is None and bench.producer(t.tensor) and t.tensor != last]


def dead_range(bench: Bench, rng: np.random.Generator) -> Truth:
    """One tensor's range is far wider than anything it holds, and that of the tensors that share its integers."""
    bench.write()
    chosen: list[str] = []
    wider = float(rng.uniform(100, 250))

    def edit(plan: Plan) -> Plan:
        name = pick(rng, _activations(plan, bench))
        scale = _entry(plan, name).scale
        chosen.extend(t for t in _activations(plan, bench) if _entry(plan, t).scale == scale)
        for each in (*chosen, *_biases(bench, chosen)):  # a bias has the scale of its input times its weights'
            plan = with_tensor(plan, each, lambda t: replace(t, scale=tuple(s * wider for s in t.scale)))
        return plan

    bench.quantise(edit)
    return Truth(PRECISION, "dead range", tuple(node for name in chosen for node in bench.layer_of(name)))


def _biases(bench: Bench, inputs: list[str]) -> list[str]:
    nodes = onnx.load(bench.cleaned / "model.onnx").graph.node
    return [n.input[2] for n in nodes if n.op_type in ("Conv", "Gemm") and len(n.input) > 2 and n.input[0] in inputs]


def _entry(plan: Plan, name: str) -> TensorPlan:
    return next(t for t in plan.tensors if t.tensor == name)


def joined_ranges(bench: Bench, rng: np.random.Generator) -> Truth:
    """Boxes and scores go through a join under one scale."""
    bench.write()
    ranges = bench.ranges()

    def edit(plan: Plan) -> Plan:
        low = min(0.0, *(ranges[n][0] for n in ("boxes", "scores", "joined")))
        high = max(ranges[n][1] for n in ("boxes", "scores", "joined"))
        scale = (high - low) / 255
        zero = round(-low / scale)
        have = {t.tensor: t for t in plan.tensors}
        names = ("boxes", "scores", "joined")
        made = {n: TensorPlan(n, "uint8", (scale,), (zero,), None, "one scale for the join") for n in names}
        return replace(plan, tensors=tuple({**have, **made}.values()))

    bench.quantise(edit)
    return Truth(PRECISION, "joined ranges", ("joined", "scores"))


def unfolded_batch_norm(bench: Bench, rng: np.random.Generator) -> Truth:
    """A convolution is quantised before the batch norm that evens its channels out."""
    model, layer = bench.network.model, pick(rng, convs(bench))
    number = digits_of(layer)
    weights = weight(model, f"conv{number}.weight")
    spread = 10 ** rng.uniform(-2.2, 0.0, len(weights)).astype(np.float32)
    spread[int(rng.integers(len(spread)))] = np.float32(30)
    store(model, f"conv{number}.weight", (weights.T * spread).T)
    store(model, f"bn{number}.mean", weight(model, f"bn{number}.mean") * spread)
    store(model, f"bn{number}.var", weight(model, f"bn{number}.var") * spread**2)
    for node in model.graph.node:
        if node.op_type == "BatchNormalization":
            del node.attribute[:]
            node.attribute.append(helper.make_attribute("epsilon", 1e-12))
    bench.write()
    bench.quantise(lambda plan: plan, model=bench.folder / "reference.onnx")
    return Truth(PRECISION, "unfolded batch norm", bench.network.layers[layer])


def outlier_channel(bench: Bench, rng: np.random.Generator) -> Truth:
    """One channel of an activation is far larger than the others, which share its scale."""
    pairs = _relu_pairs(bench)
    first, second = pick(rng, pairs)
    model, factor = bench.network.model, np.float32(rng.uniform(150, 400))
    channels = weight(model, f"bn{first}.scale")
    channel = int(rng.integers(len(channels)))
    for key in ("scale", "bias"):
        values = weight(model, f"bn{first}.{key}")
        values[channel] *= factor
        store(model, f"bn{first}.{key}", values)
    after = weight(model, f"conv{second}.weight")
    after[:, channel] /= factor
    store(model, f"conv{second}.weight", after)
    bench.write()
    bench.quantise(lambda plan: plan)
    return Truth(PRECISION, "outlier channel", bench.network.layers[f"conv{first}"])


def _relu_pairs(bench: Bench) -> list[tuple[str, str]]:
    """Returns convolutions with ReLU whose only reader is another convolution."""
    known = {"residual": [("2", "3"), ("4", "5")], "detector": [("1", "2"), ("2", "3")]}
    return known.get(bench.network.family, [("1", "2"), ("2", "3")])


def outlier_weights(bench: Bench, rng: np.random.Generator) -> Truth:
    """Depthwise weights with one scale for all channels although one of them is far larger."""
    number, before = pick(rng, [("3", "2"), ("6", "5")])
    model, factor = bench.network.model, np.float32(rng.uniform(60, 150))
    depthwise = weight(model, f"conv{number}.weight")
    channel = int(rng.integers(len(depthwise)))
    depthwise[channel] *= factor
    store(model, f"conv{number}.weight", depthwise)
    for key in ("scale", "bias"):
        values = weight(model, f"bn{before}.{key}")
        values[channel] /= factor
        store(model, f"bn{before}.{key}", values)
    bench.write()

    def edit(plan: Plan) -> Plan:
        return _matched(with_tensor(plan, f"conv{number}.weight", _per_tensor), bench, number)

    bench.quantise(edit)
    return Truth(PRECISION, "outlier channel", bench.network.layers[f"conv{number}"])


def _per_tensor(entry: TensorPlan) -> TensorPlan:
    return replace(entry, scale=(max(entry.scale),), zero_point=(0,), axis=None)


def bias_overflow(bench: Bench, rng: np.random.Generator) -> Truth:
    """Channels with next to no weights have biases that do not fit into 32 bits at their scale."""
    layer = pick(rng, [name for name in convs(bench) if name != convs(bench)[-1]])
    number, model = digits_of(layer), bench.network.model
    weights = weight(model, f"conv{number}.weight")
    dead = rng.choice(len(weights), 2, replace=False)
    weights[dead] *= np.float32(1e-9)
    store(model, f"conv{number}.weight", weights)
    for key, value in (("mean", 0.0), ("var", 1.0), ("bias", 3.0)):
        values = weight(model, f"bn{number}.{key}")
        values[dead] = value
        store(model, f"bn{number}.{key}", values)
    _settle(bench)
    bench.write()

    def edit(plan: Plan) -> Plan:
        narrowed = with_tensor(plan, f"conv{number}.weight", lambda t: _narrow(t, dead))
        return _matched(narrowed, bench, number)

    bench.quantise(edit)
    return Truth(PRECISION, "bias overflow", bench.network.layers[layer])


def _narrow(entry: TensorPlan, channels: Array) -> TensorPlan:
    scale = list(entry.scale)
    for channel in channels:
        scale[int(channel)] = 1e-10
    return replace(entry, scale=tuple(scale))


def _matched(plan: Plan, bench: Bench, number: str) -> Plan:
    """Returns `plan` with the bias of a convolution at the scale of its input times that of its weights."""
    nodes = onnx.load(bench.cleaned / "model.onnx").graph.node
    node = next(n for n in nodes if f"conv{number}.weight" in n.input)
    given, weights = _entry(plan, node.input[0]), _entry(plan, node.input[1])
    scale = tuple(float(np.float32(given.scale[0]) * np.float32(s)) for s in weights.scale)
    zero = (0,) * len(scale)
    return with_tensor(plan, node.input[2], lambda t: replace(t, scale=scale, zero_point=zero, axis=weights.axis))


def _settle(bench: Bench) -> None:
    """Fits the read-out again after the features have changed."""
    import onnxruntime

    model, samples = bench.network.model, bench.network.samples
    heads = [n for n in model.graph.node if n.op_type == "Gemm"]
    shown = onnx.ModelProto()
    shown.CopyFrom(model)
    shown.graph.output.append(helper.make_tensor_value_info(heads[0].input[0], onnx.TensorProto.FLOAT, None))
    prepared, labels = samples.fitting()
    session = onnxruntime.InferenceSession(shown.SerializeToString(), providers=["CPUExecutionProvider"])
    features = session.run([heads[0].input[0]], {"input": prepared})[0].astype(np.float64)
    wanted = {"boxes": labels[:, :4]} if labels.ndim > 1 else {}
    classes = labels[:, 4] if labels.ndim > 1 else labels
    target = np.eye(samples.classes)[classes.astype(int)] * 8.0 - (4.0 if labels.ndim > 1 else 0.0)
    design = np.c_[features, np.ones(len(features))]
    gram = design.T @ design
    for head in heads:
        right = design.T @ wanted.get(head.name, target)
        solved = np.linalg.solve(gram + 1e-2 * np.trace(gram) / len(gram) * np.eye(len(gram)), right)
        store(model, head.input[1], np.ascontiguousarray(solved[:-1].T.astype(np.float32)))
        store(model, head.input[2], solved[-1].astype(np.float32))


def calibration_data(bench: Bench, rng: np.random.Generator) -> Truth:
    """The calibration split is much darker, or quieter, than what the model is used on."""
    bench.write()
    values = bench.network.samples.values
    dim = (values[400:464].astype(np.float64) * rng.uniform(0.03, 0.08)).astype(values.dtype)
    np.savez(bench.folder / "calibration.npz", x=dim, y=np.zeros(len(dim), np.int64))
    samples = bench.network.samples
    write_project(bench.folder / "edgewright.toml", samples, samples.preprocess, calibration="calibration.npz")
    bench.quantise(lambda plan: plan)
    return Truth(PRECISION, "calibration data")


def unsupported_operator(bench: Bench, rng: np.random.Generator) -> Truth:
    """An operator without an integer kernel stands between quantisers: it runs in float on rounded numbers."""
    model = bench.network.model
    choices = [n.name for n in model.graph.node if n.op_type in ("Relu", "Clip")]
    source = pick(rng, choices)
    power = float(pick(rng, [3.0, 4.0]))
    at = next(i for i, n in enumerate(model.graph.node) if n.name == source)
    for name, value in (("lift.power", power), ("lower.power", 1 / power)):
        model.graph.initializer.append(numpy_helper.from_array(np.asarray(value, np.float32), name))
    for node in model.graph.node:
        node.input[:] = ["lower" if name == source else name for name in node.input]
    model.graph.node.insert(at + 1, helper.make_node("Pow", [source, "lift.power"], ["lift"], "lift"))
    model.graph.node.insert(at + 2, helper.make_node("Pow", ["lift", "lower.power"], ["lower"], "lower"))
    bench.network = replace(bench.network, layers={**bench.network.layers, "lift": ("lift", "lower")})
    bench.write()
    ranges = bench.ranges()

    def edit(plan: Plan) -> Plan:
        have = {t.tensor: t for t in plan.tensors}
        for name in (source, "lift", "lower"):
            scale = max(ranges[name][1], 1e-6) / 255
            have.setdefault(name, TensorPlan(name, "uint8", (scale,), (0,), None, "extremes"))
        return replace(plan, tensors=tuple(have.values()))

    bench.quantise(edit)
    return Truth(PRECISION, "unsupported operator", ("lift", "lower"))


def fp16_overflow(bench: Bench, rng: np.random.Generator) -> Truth:
    """An activation that travels in half precision exceeds its largest number; the layer that reads it scales down."""
    model, factor = bench.network.model, np.float32(10 ** rng.uniform(4.5, 5.0))
    layer, reader = pick(rng, [("value", "output"), ("key", "query")])
    grown, shrunk = [f"{layer}.weight", f"{layer}.bias"], [f"{reader}.weight"]
    shrunk += ["query.bias"] if reader == "query" else []
    for name in grown:
        store(model, name, weight(model, name) * factor)
    for name in shrunk:
        store(model, name, weight(model, name) / factor)
    bench.write()
    made = bench.run("fp16", {}, bench.cleaned, "fp16")
    shutil.copytree(made, bench.folder / CANDIDATE)
    return Truth(PRECISION, "fp16 overflow", bench.network.layers[layer])


def accumulator_saturation(bench: Bench, rng: np.random.Generator) -> Truth:
    """Neighbouring weights of one sign and 8 bits: sums of two products exceed 16 bits where there is no VNNI."""
    model = bench.network.model
    if bench.network.family == "transformer":
        layer = str(pick(rng, ["up", "value"]))
        weights = weight(model, f"{layer}.weight")
        store(model, f"{layer}.weight", _even(rng, weights.T).T)
    else:
        layer = str(pick(rng, ["conv5", "conv5", "conv1"]))
        weights = weight(model, f"{layer}.weight")
        store(model, f"{layer}.weight", _even(rng, weights.reshape(len(weights), -1)).reshape(weights.shape))
        _even_out(bench, digits_of(layer))
    _settle(bench)
    bench.write()
    bench.quantise(lambda plan: plan, scheme="onnxruntime-u8s8")
    bench.compile(forget=("session.x64quantprecision",))
    return Truth(RUNTIME, "accumulator saturation", bench.network.layers[layer])


def _even(rng: np.random.Generator, weights: Array) -> Array:
    """Returns [channels, terms] of about one size, four neighbours of one sign."""
    count, terms = weights.shape
    sign = np.repeat(np.sign(rng.standard_normal((count, -(-terms // 4)))), 4, axis=1)[:, :terms]
    return np.asarray(sign * np.abs(weights).mean() * rng.uniform(0.95, 1.0, weights.shape), np.float32)


def _even_out(bench: Bench, number: str) -> None:
    """Takes the batch norm's statistics anew."""
    import onnxruntime

    shown = onnx.ModelProto()
    shown.CopyFrom(bench.network.model)
    shown.graph.output.append(helper.make_tensor_value_info(f"conv{number}", onnx.TensorProto.FLOAT, None))
    prepared, _ = bench.network.samples.fitting()
    session = onnxruntime.InferenceSession(shown.SerializeToString(), providers=["CPUExecutionProvider"])
    seen = session.run([f"conv{number}"], {"input": prepared})[0]
    axes = (0, *range(2, seen.ndim))
    store(bench.network.model, f"bn{number}.mean", seen.mean(axes))
    store(bench.network.model, f"bn{number}.var", seen.var(axes) + 1e-4)


GRAPH_PLANTS: Mapping[str, tuple[Plant, tuple[str, ...]]] = {
    "dead range": (dead_range, ("residual", "mobile", "detector", "transformer", "audio")),
    "joined ranges": (joined_ranges, ("detector",)),
    "unfolded batch norm": (unfolded_batch_norm, ("residual", "mobile", "detector", "audio")),
    "outlier channel": (outlier_channel, ("residual", "detector", "audio")),
    "outlier weights": (outlier_weights, ("mobile",)),
    "bias overflow": (bias_overflow, ("residual", "mobile", "detector", "audio")),
    "calibration data": (calibration_data, ("residual", "mobile", "detector", "audio")),
    "unsupported operator": (unsupported_operator, ("residual", "mobile", "detector", "transformer", "audio")),
    "fp16 overflow": (fp16_overflow, ("transformer",)),
    "accumulator saturation": (accumulator_saturation, ("mobile", "transformer")),
}
"""Kind of fault -> what plants it, and in which networks."""
