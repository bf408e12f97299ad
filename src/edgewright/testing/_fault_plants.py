"""Faults of quantisation, clean-up, import and runtime: each plants exactly one and says which."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import helper, numpy_helper

from edgewright.core.parity import CLEAN_UP, CONVERSION, IMPORT, PRECISION, RUNTIME
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
        labels: Class names in the order of the candidate's outputs, where that differs from the project's.
    """

    stage: str
    cause: str
    nodes: tuple[str, ...] = ()
    deployed: bool = False


Plant = Callable[[Bench, np.random.Generator], Truth]


def weight(model: onnx.ModelProto, name: str) -> Array:
    """Returns a copy of a weight."""
    return numpy_helper.to_array(next(t for t in model.graph.initializer if t.name == name)).copy()


def store(model: onnx.ModelProto, name: str, value: Array) -> None:
    """Replaces a weight."""
    found = next(t for t in model.graph.initializer if t.name == name)
    found.CopyFrom(numpy_helper.from_array(np.asarray(value), name))


def _number(layer: str) -> str:
    return layer.removeprefix("conv")


def _convs(bench: Bench) -> list[str]:
    return [layer for layer in bench.network.layers if layer.startswith("conv")]


def _pick(rng: np.random.Generator, choices: list[Any]) -> Any:
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
        name = _pick(rng, _activations(plan, bench))
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
    model, layer = bench.network.model, _pick(rng, _convs(bench))
    number = _number(layer)
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
    first, second = _pick(rng, pairs)
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
    number, before = _pick(rng, [("3", "2"), ("6", "5")])
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
    bench.quantise(lambda plan: with_tensor(plan, f"conv{number}.weight", _per_tensor))
    return Truth(PRECISION, "outlier channel", bench.network.layers[f"conv{number}"])


def _per_tensor(entry: TensorPlan) -> TensorPlan:
    return replace(entry, scale=(max(entry.scale),), zero_point=(0,), axis=None)


def bias_overflow(bench: Bench, rng: np.random.Generator) -> Truth:
    """Channels with next to no weights have biases that do not fit into 32 bits at their scale."""
    layer = _pick(rng, [name for name in _convs(bench) if name != _convs(bench)[-1]])
    number, model = _number(layer), bench.network.model
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
        return with_tensor(
            with_tensor(plan, f"conv{number}.weight", lambda t: _narrow(t, dead)),
            f"conv{number}.weight_bias",
            lambda t: _narrow(t, dead),
        )

    bench.quantise(edit)
    return Truth(PRECISION, "bias overflow", bench.network.layers[layer])


def _narrow(entry: TensorPlan, channels: Array) -> TensorPlan:
    scale = list(entry.scale)
    for channel in channels:
        scale[int(channel)] = 1e-11 if entry.dtype == "int32" else 1e-10
    return replace(entry, scale=tuple(scale))


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
    source = _pick(rng, choices)
    power = float(_pick(rng, [3.0, 4.0]))
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
    layer, reader = _pick(rng, [("value", "output"), ("key", "query")])
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
        layer = str(_pick(rng, ["up", "value"]))
        weights = weight(model, f"{layer}.weight")
        store(model, f"{layer}.weight", _even(rng, weights.T).T)
    else:
        layer = str(_pick(rng, ["conv5", "conv5", "conv1"]))
        weights = weight(model, f"{layer}.weight")
        store(model, f"{layer}.weight", _even(rng, weights.reshape(len(weights), -1)).reshape(weights.shape))
        _even_out(bench, _number(layer))
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


def _changed_model(bench: Bench, change: Callable[[onnx.ModelProto], None], source: str) -> None:
    """Writes the candidate made from a changed reference, with the models after import and after clean-up."""
    changed = onnx.ModelProto()
    changed.CopyFrom(onnx.load(bench.folder / "reference.onnx"))
    steps = bench.folder / CANDIDATE / "steps"
    for name in ("0-import", "1-clean-up"):
        (steps / name).mkdir(parents=True)
    if source == IMPORT:
        change(changed)
        onnx.save(changed, steps / "0-import" / "model.onnx")
        made = bench.run("clean-up", {}, steps / "0-import", "changed")
    else:
        onnx.save(changed, steps / "0-import" / "model.onnx")
        cleaned = onnx.load(bench.cleaned / "model.onnx")
        change(cleaned)
        made = bench.folder / ".work" / "changed"
        made.mkdir(parents=True, exist_ok=True)
        onnx.save(cleaned, made / "model.onnx")
    shutil.copyfile(made / "model.onnx", steps / "1-clean-up" / "model.onnx")
    bench.quantise(lambda plan: plan, model=made)
    if source == CONVERSION:
        shutil.rmtree(steps)


def import_attribute(bench: Bench, rng: np.random.Generator) -> Truth:
    """The import writes another attribute than the source has: an epsilon, or padding."""
    bench.write()
    layer = _pick(rng, _convs(bench))
    number = _number(layer)

    def change(model: onnx.ModelProto) -> None:
        for node in model.graph.node:
            if node.name == f"bn{number}":
                spread = float(weight(model, f"bn{number}.var").mean())
                _set(node, "epsilon", spread * 30)

    _changed_model(bench, change, IMPORT)
    return Truth(IMPORT, "different attribute", bench.network.layers[layer])


def import_weights(bench: Bench, rng: np.random.Generator) -> Truth:
    """The import turns the kernels of one convolution by a quarter, or the order of its channels."""
    return _other_weights(bench, rng, IMPORT)


def conversion_weights(bench: Bench, rng: np.random.Generator) -> Truth:
    """The same, in a conversion of which no intermediate model is at hand."""
    return _other_weights(bench, rng, CONVERSION)


def _other_weights(bench: Bench, rng: np.random.Generator, stage: str) -> Truth:
    bench.write()
    layer = _pick(rng, _convs(bench))
    order = rng.permutation(len(weight(bench.network.model, f"{layer}.weight")))
    name = f"{layer}.weight"
    _changed_model(bench, lambda model: store(model, name, weight(model, name)[order]), stage)
    return Truth(stage, "different weights", bench.network.layers[layer])


def wrong_folding(bench: Bench, rng: np.random.Generator) -> Truth:
    """Clean-up folds a batch norm and forgets its mean."""
    bench.write()
    layer = _pick(rng, _convs(bench))
    number = _number(layer)

    def change(model: onnx.ModelProto) -> None:
        given = bench.network.model
        ratio = weight(given, f"bn{number}.scale") / np.sqrt(weight(given, f"bn{number}.var") + 1e-3)
        name = f"conv{number}.weight_bias"
        shift = weight(given, f"bn{number}.mean") * ratio
        shift = shift + np.sign(rng.standard_normal(shift.shape)) * 2.0
        store(model, name, (weight(model, name) + shift).astype(np.float32))

    _changed_model(bench, change, CLEAN_UP)
    return Truth(CLEAN_UP, "different weights", bench.network.layers[layer])


def _set(node: onnx.NodeProto, name: str, value: Any) -> None:
    kept = [a for a in node.attribute if a.name != name]
    del node.attribute[:]
    node.attribute.extend([*kept, helper.make_attribute(name, value)])


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
    "import attribute": (import_attribute, ("residual", "mobile", "audio")),
    "import weights": (import_weights, ("residual", "mobile", "detector", "audio")),
    "conversion weights": (conversion_weights, ("residual", "mobile", "detector", "audio")),
    "wrong folding": (wrong_folding, ("residual", "mobile", "detector", "audio")),
}
"""Kind of fault -> what plants it, and in which networks."""
