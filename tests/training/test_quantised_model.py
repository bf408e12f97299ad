"""A model with quantisers trains as a network and comes back: the same integers, by the rules of every scheme."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cache

import numpy as np
import onnx
import onnx_ir as ir
import pytest
import torch
from onnx import TensorProto

from edgewright.core.target import Plan, Scheme
from edgewright.errors import ConfigError
from edgewright.graph import qdq
from edgewright.graph.opset import QDQ_OPSET, raise_opset
from edgewright.graph.placement import decide
from edgewright.graph.plan import FIXED, describe
from edgewright.graph.quantisers import all_quantisers
from edgewright.graph.saturation import predict
from edgewright.graph.schemes import find, names
from edgewright.graph.schemes.lint import lint, require
from edgewright.graph.shapes import infer_shapes
from edgewright.graph.statistics import gather
from edgewright.passes._infer import open_infer
from edgewright.testing._target_models import Builder
from edgewright.training.quantised.convert import Learnable, learnable
from edgewright.training.quantised.export import write
from edgewright.training.quantised.steps import QuantiseBias, step_parameters

SAMPLES = 24


def mixed() -> onnx.ModelProto:
    """Stem, depthwise convolution, branches into a Concat, pooling, a residual sum, a head: [n, 3, 8, 8] to [n, 5]."""
    b = Builder()
    same = {"pads": [1, 1, 1, 1]}
    low, high = b.constant("low", np.float32(0)), b.constant("high", np.float32(6))
    b.add("Conv", ["x", b.weights("w0", 8, 3, 3, 3), b.weights("b0", 8)], "c0", **same)
    b.add("Relu", ["c0"], "r0")
    b.add("Conv", ["r0", b.weights("w1", 8, 1, 3, 3), b.weights("b1", 8)], "c1", group=8, **same)
    b.add("Clip", ["c1", low, high], "r1")
    b.add("Conv", ["r1", b.weights("w2", 8, 8, 1, 1), b.weights("b2", 8)], "left")
    b.add("MaxPool", ["r0"], "right", kernel_shape=[3, 3], strides=[1, 1], **same)
    b.add("Concat", ["left", "right"], "both", axis=1)
    b.add("Conv", ["both", b.weights("w3", 8, 16, 1, 1)], "c3")
    b.add("Add", ["c3", "r0"], "sum")
    b.add("Relu", ["sum"], "r3")
    b.add("GlobalAveragePool", ["r3"], "pool")
    b.add("Flatten", ["pool"], "flat")
    b.add("Gemm", ["flat", b.weights("w4", 5, 8), b.weights("b4", 5)], "y", transB=1)
    shapes = ("x", TensorProto.FLOAT, ("n", 3, 8, 8)), ("y", TensorProto.FLOAT, ("n", 5))
    return b.model([shapes[0]], [shapes[1]], {})


def attention() -> onnx.ModelProto:
    """One head of attention over six positions, layer norm, a gate by Sigmoid, a head: [n, 6, 8] to [n, 6, 4]."""
    b = Builder()
    for name in ("q", "k", "v"):
        b.add("MatMul", ["x", b.weights(f"w{name}", 8, 8)], f"{name}0")
        b.add("Add", [f"{name}0", b.weights(f"b{name}", 8)], name)
    b.add("Transpose", ["k"], "kt", perm=[0, 2, 1])
    b.add("MatMul", ["q", "kt"], "scores")
    b.add("Softmax", ["scores"], "shares", axis=-1)
    b.add("MatMul", ["shares", "v"], "mixed")
    b.add("Add", ["mixed", "x"], "sum")
    b.add("LayerNormalization", ["sum", b.weights("gamma", 8), b.weights("beta", 8)], "normal")
    b.add("MatMul", ["normal", b.weights("wg", 8, 8)], "gate0")
    b.add("Sigmoid", ["gate0"], "gate")
    b.add("Mul", ["gate", "normal"], "gated")
    b.add("MatMul", ["gated", b.weights("wo", 8, 4)], "o")
    b.add("Add", ["o", b.weights("bo", 4)], "y")
    shapes = ("x", TensorProto.FLOAT, ("n", 6, 8)), ("y", TensorProto.FLOAT, ("n", 6, 4))
    return b.model([shapes[0]], [shapes[1]], {})


def samples(model: ir.Model, seed: int = 0) -> np.ndarray:
    """Inputs of a model, [SAMPLES, ...]."""
    shape = model.graph.inputs[0].shape
    assert shape is not None
    sizes = (SAMPLES, *(int(size) for size in tuple(shape)[1:]))  # type: ignore[arg-type]
    return np.random.default_rng(seed).normal(0.2, 1.0, sizes).astype(np.float32)


@dataclass(frozen=True, slots=True, eq=False)
class Quantised:
    """A model, the float model it was made of, and its plan."""

    model: ir.Model
    reference: ir.Model
    plan: Plan


def quantised(proto: onnx.ModelProto, scheme: Scheme) -> Quantised:
    """What `static-int8` makes, in memory."""
    model = infer_shapes(raise_opset(ir.from_proto(proto), max(QDQ_OPSET, scheme.opset)))
    qdq.prepare(model)
    reference = model.clone()
    x = samples(model, seed=1)
    statistics = gather(open_infer, model, [([i], {"x": x[i : i + 1]}) for i in range(8)], bins=256)
    plan = describe(decide(model.graph, scheme), scheme, statistics)
    qdq.apply(model.graph, plan)
    model = infer_shapes(model)
    require(model.graph, scheme, plan.kept_float)
    return Quantised(model, reference, plan)


NOTHING = ("attention", "onnxruntime-xnnpack")
"""That scheme takes convolutions only."""
FLOAT = 5e-5
"""Rounding of float32 sums, relative to the largest value: three steps of 16 bits."""
NETWORKS = {"mixed": mixed, "attention": attention}
CASES = [(network, name) for name in names() for network in NETWORKS if (network, name) != NOTHING]
KERNELS = ("onnxruntime-u8s7", "onnxruntime-u8u8", "onnxruntime-u8s8-pairs")
"""Schemes whose integer kernels are exact on every processor."""


@cache
def start(network: str, scheme: str) -> Quantised:
    return quantised(NETWORKS[network](), find(scheme))


def train(made: Learnable, x: np.ndarray, steps: int = 6, rate: float = 2e-2) -> None:
    """Moves everything, and far: towards an output that has nothing to do with the model's."""
    optimiser = torch.optim.Adam(made.network.parameters(), rate)
    inputs = torch.from_numpy(x)
    (first,) = made.network(inputs)
    wanted = torch.randn(first.shape, generator=torch.Generator().manual_seed(0)) * first.detach().std() * 2
    for _ in range(steps):
        optimiser.zero_grad()
        (made.network(inputs)[0] - wanted).square().mean().backward()
        optimiser.step()


@cache
def trained(network: str, scheme: str) -> tuple[Learnable, ir.Model, Plan]:
    """Returns what was trained, the model it was written into, and its plan."""
    given = start(network, scheme)
    model = given.model.clone()
    made = learnable(model, given.reference, given.plan, scheme=find(scheme))
    train(made, samples(model))
    plan = write(made, model)
    return made, infer_shapes(model), plan


def activations(model: ir.Model) -> list[str]:
    return [str(q.node.outputs[0].name) for q in all_quantisers(model.graph) if q.pair is not None]


def exposed(model: ir.Model, names: Sequence[str]) -> ir.Model:
    """Returns a copy whose outputs are `names`."""
    copy = model.clone()
    values = {v.name: v for node in copy.graph for v in node.outputs}
    copy.graph.outputs[:] = [values[name] for name in names]
    return copy


@pytest.mark.sample(9)
@pytest.mark.parametrize(("network", "scheme"), CASES)
def test_before_training_it_computes_what_the_model_does(network: str, scheme: str) -> None:
    given = start(network, scheme)
    made = learnable(given.model.clone(), given.reference, given.plan)
    x = samples(given.model)
    exact = open_infer(given.model, fuse=False)({"x": x})["y"]
    with torch.no_grad():
        found = made.network(torch.from_numpy(x))[0].numpy()
    step = next((t.scale[0] for t in given.plan.tensors if t.tensor == "y"), 0.0)
    step = max(step, float(np.abs(exact).max()) * FLOAT)
    assert np.mean(np.abs(found - exact) <= 1.001 * step) >= 0.999


@pytest.mark.sample(18)
@pytest.mark.parametrize(("network", "scheme"), CASES)
def test_integers_are_those_that_were_trained(network: str, scheme: str) -> None:
    """Of every activation, one step of difference at most in 99.9% of the values, computed as the model says."""
    made, model, plan = trained(network, scheme)
    assert not lint(model.graph, find(scheme), plan.kept_float)
    x = samples(model, seed=3)
    wanted = activations(model)
    shown = exposed(model, wanted)
    theirs = open_infer(shown, fuse=False)({"x": x})
    ours = outputs_of(made, wanted, x)
    near = 0
    count = 0
    for quantiser in all_quantisers(shown.graph):
        name = str(quantiser.node.outputs[0].name)
        if name in theirs and quantiser.scale is not None:
            step = np.maximum(quantiser.scale, np.abs(theirs[name]).max() * FLOAT)
            off = np.abs(theirs[name] - ours[name]) / step
            near, count = near + int((off <= 1.001).sum()), count + off.size
            assert np.mean(off < 0.5) >= 0.95, name
    assert count
    assert near >= 0.999 * count


def outputs_of(made: Learnable, names: Sequence[str], x: np.ndarray) -> dict[str, np.ndarray]:
    """Returns tensors of the network by their names in the model."""
    kept: dict[str, np.ndarray] = {}

    class Watch(torch.fx.Interpreter):
        def run_node(self, n: torch.fx.Node) -> object:
            value = super().run_node(n)
            if n.meta.get("tensor") in names:
                kept[n.meta["tensor"]] = value.detach().numpy()
            return value

    Watch(made.network).run(torch.from_numpy(x))
    return kept


@pytest.mark.sample(4)
@pytest.mark.parametrize("scheme", KERNELS)
def test_integer_kernels_agree_too(scheme: str) -> None:
    made, model, plan = trained("mixed", scheme)
    x = samples(model, seed=3)
    found = open_infer(model)({"x": x})["y"]
    with torch.no_grad():
        ours = made.network(torch.from_numpy(x))[0].numpy()
    step = next(t.scale[0] for t in plan.tensors if t.tensor == "y")
    assert np.mean(np.abs(found - ours) <= 1.001 * step) >= 0.999


def test_the_plan_tells_what_was_learnt_and_describes_the_model() -> None:
    _, model, plan = trained("mixed", "onnxruntime-u8s7")
    before = {t.tensor: t for t in start("mixed", "onnxruntime-u8s7").plan.tensors}
    spelled = {q.tensor: q for q in all_quantisers(model.graph)}
    for tensor in plan.tensors:
        found = spelled[tensor.tensor]
        assert np.array_equal(np.asarray(tensor.scale, np.float32), np.asarray(found.scale).reshape(-1))
        assert list(tensor.zero_point) == np.broadcast_to(found.zero_point.reshape(-1), len(tensor.scale)).tolist()
        bias = tensor.dtype == "int32"
        assert tensor.reason == before[tensor.tensor].reason if bias else tensor.reason.startswith("learned, ")
    assert plan.tensors[0].scale != before[plan.tensors[0].tensor].scale


def test_what_integers_pass_through_keeps_one_scale_and_what_a_runtime_fixes_stays() -> None:
    made, _, plan = trained("attention", "litert-s8s8")
    before = {t.tensor: t for t in start("attention", "litert-s8s8").plan.tensors}
    fixed = [t for t in plan.tensors if t.reason == FIXED]
    assert fixed
    assert all(t == before[t.tensor] for t in fixed)
    tensors = {t.tensor: t for t in trained("mixed", "litert-s8s8")[2].tensors}
    joined = [tensors[name] for name in ("left", "right", "both")]
    assert len({(t.scale, t.zero_point) for t in joined}) == 1
    assert joined[0].scale != next(t for t in start("mixed", "litert-s8s8").plan.tensors if t.tensor == "left").scale
    assert len(step_parameters(made.network)) < 2 * len(made.sites)


def test_a_zero_point_moves_only_where_there_are_values_on_both_sides() -> None:
    made, _, plan = trained("mixed", "onnxruntime-u8s7")
    before = {t.tensor: t for t in start("mixed", "onnxruntime-u8s7").plan.tensors}
    after = {t.tensor: t for t in plan.tensors}
    assert after["r0"].zero_point == before["r0"].zero_point == (0,)
    assert any(after[name].zero_point != before[name].zero_point for name in after)
    symmetric = trained("mixed", "tensorrt-s8s8")[2]
    assert all(set(t.zero_point) == {0} for t in symmetric.tensors)
    assert sum(isinstance(site.module, QuantiseBias) for site in made.sites) == 4


def test_scales_that_grow_with_two_neighbours_keep_sums_within_sixteen_bits() -> None:
    _, model, plan = trained("mixed", "onnxruntime-u8s8-pairs")
    assert all(risk.safe for risk in predict(model.graph, plan))
    loose = start("mixed", "onnxruntime-u8s8")
    assert not all(risk.safe for risk in predict(loose.model.graph, loose.plan))


def test_weights_start_where_rounding_left_them() -> None:
    """Integers that another pass moved are kept: their float values become what they say."""
    given = start("mixed", "onnxruntime-u8s7")
    model = given.model.clone()
    value = model.graph.initializers["w2/quantised"]
    assert value.const_value is not None
    moved = value.const_value.numpy().copy()
    moved[0, 0] += 1
    value.const_value = ir.tensor(moved, name=value.name)
    made = learnable(model, given.reference, given.plan)
    write(made, model)
    assert np.array_equal(model.graph.initializers["w2/quantised"].const_value.numpy(), moved)  # type: ignore[union-attr]


def test_a_model_quantised_elsewhere_trains_without_its_float_model() -> None:
    given = start("mixed", "generic-s8s8")
    model = given.model.clone()
    made = learnable(model)
    train(made, samples(model))
    plan = write(made, model)
    assert plan.scheme == "as given"
    with torch.no_grad():
        ours = made.network(torch.from_numpy(samples(model)))[0].numpy()
    np.testing.assert_allclose(open_infer(model, fuse=False)({"x": samples(model)})["y"], ours, atol=1e-4)


def test_four_bits_stay_four_bits() -> None:
    scheme = replace(find("onnxruntime-u8s8"), name="four-bit", weight_bits=4)
    given = quantised(mixed(), scheme)
    made = learnable(given.model, given.reference, given.plan)
    train(made, samples(given.model))
    plan = write(made, given.model)
    assert not lint(given.model.graph, scheme, plan.kept_float)
    integers = [
        v.const_value.numpy()  # type: ignore[union-attr]
        for name, v in given.model.graph.initializers.items()
        if name.startswith("w") and name.endswith("/quantised")
    ]
    assert integers
    assert all(np.abs(each).max() <= 7 for each in integers)


def test_a_float_model_has_nothing_to_learn() -> None:
    reference = start("mixed", "onnxruntime-u8s7").reference
    with pytest.raises(ConfigError, match="no quantisers to train") as error:
        learnable(reference.clone())
    assert "static-int8" in error.value.hint
