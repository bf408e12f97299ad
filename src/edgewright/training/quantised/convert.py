"""A model with quantisers as a network that trains: fake quantisation exactly where the quantisers stand."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import onnx_ir as ir
import torch
from numpy.typing import NDArray
from torch import Tensor, fx, nn

from edgewright.core.target import Plan, Scheme, TensorPlan
from edgewright.errors import ConfigError
from edgewright.graph import bridge
from edgewright.graph.affine import Grid, dequantise, quantise
from edgewright.graph.bridge.paths import attach
from edgewright.graph.names import name_nodes
from edgewright.graph.placement import WEIGHTED
from edgewright.graph.plan import FIXED
from edgewright.graph.qdq import grid_of, read_plan
from edgewright.graph.quantisers import Quantiser, all_quantisers, numbers
from edgewright.training.quantised.pairs import PairRoom
from edgewright.training.quantised.steps import Quantise, QuantiseBias, Start, StepSize
from edgewright.training.quantised.ties import movers, tied

QUANTISERS = "quantisers"
BIAS = "int32"


@dataclass(frozen=True, slots=True, eq=False)
class Site:
    """One quantiser of the model and what stands for it in the network.

    Attributes:
        quantiser: In the model.
        module: In the network.
        path: Of the float values in the network; empty for an activation.
    """

    quantiser: Quantiser
    module: Quantise | QuantiseBias
    path: str = ""


@dataclass(frozen=True, slots=True, eq=False)
class Learnable:
    """A quantised model in training.

    Attributes:
        model: With quantisers.
        network: Takes the model's inputs, returns the tensors asked for; at first it computes what the model does.
        sites: Every quantiser that stands in the network.
        plan: Of the model.
        room: Keeps scales wide enough for sums of 16 bits, where the scheme asks for it.
    """

    model: ir.Model
    network: fx.GraphModule
    sites: tuple[Site, ...]
    plan: Plan
    room: PairRoom = field(default_factory=PairRoom)


def learnable(
    model: ir.Model,
    reference: ir.Model | None = None,
    plan: Plan | None = None,
    outputs: Sequence[str] | None = None,
    scheme: Scheme | None = None,
) -> Learnable:
    """Converts a model with quantisers into a network with learned step sizes (LSQ).

    Stored integers become float weights again: those of `reference` where they round to the integers stored, else what
    the integers say. Scales that the same integers pass through are one parameter; scales that the plan calls fixed do
    not learn, zero points only where the tensor has values on both sides of it. The scale of an int32 bias is that of
    the input times that of the weights, at every step.

    Args:
        model: With quantisers, shapes inferred; its nodes are given names where they have none.
        reference: The float model that it was made of.
        plan: Of `model`; read from its quantisers when None.
        outputs: Names of the tensors that the network returns; the model's outputs when None.
        scheme: That the plan follows: with `safe_pairs` scales stay as wide as sums of 16 bits need.

    Raises:
        ConfigError: The model has no quantisers.
        SourceError: The bridge cannot convert a node.
    """
    name_nodes(model.graph)
    known = plan if plan is not None and plan.tensors else read_plan(model.graph)
    network = bridge.to_torch(model, outputs=outputs, straight_through=True)
    made = _Builder(model, network, known, _floats(reference)).build()
    if scheme is not None and scheme.safe_pairs:
        _keep_pairs(made)
    return made


@dataclass(slots=True, eq=False)
class _Builder:
    model: ir.Model
    network: fx.GraphModule
    plan: Plan
    floats: Mapping[str, NDArray[Any]]
    plans: dict[str, TensorPlan] = field(default_factory=dict)
    calls: dict[str, fx.Node] = field(default_factory=dict)
    steps: dict[int, StepSize] = field(default_factory=dict)
    sites: list[Site] = field(default_factory=list)

    def build(self) -> Learnable:
        self.plans = {tensor.tensor: tensor for tensor in self.plan.tensors}
        self.calls = {node.meta["onnx"]: node for node in self.network.graph.nodes if "onnx" in node.meta}
        found = [q for q in all_quantisers(self.model.graph) if self._trainable(q)]
        if not found:
            raise ConfigError("the model has no quantisers to train", hint="put `static-int8` before `qat`")
        self.network.add_module(QUANTISERS, nn.ModuleList())
        biases = [q for q in found if _stored(q) and q.dtype == BIAS]
        self._make_steps([q for q in found if q not in biases])
        for quantiser in found:
            self._place(quantiser)
        self._tidy()
        return Learnable(self.model, self.network, tuple(self.sites), self.plan)

    def _trainable(self, found: Quantiser) -> bool:
        """Says whether the numbers are known, and the quantiser stands in the part that is trained."""
        if found.scale is None or found.node.attributes.get_int("block_size") or found.node.name not in self.calls:
            return False
        return found.pair is not None or found.integers() is not None

    def _make_steps(self, found: Sequence[Quantiser]) -> None:
        for group in tied(self.model.graph, found):
            plans = [self.plans.get(q.tensor) for q in group]
            step = StepSize(_start(group[0], plans))
            self.steps.update((id(q.node), step) for q in group)

    def _place(self, quantiser: Quantiser) -> None:
        module = self._module(quantiser)
        call = self.calls[quantiser.node.name or ""]
        graph = self.network.graph
        listed = self.network.get_submodule(QUANTISERS)
        assert isinstance(listed, nn.ModuleList)
        listed.append(module)
        path = ""
        with graph.inserting_before(call):
            if quantiser.pair is not None:
                source = self.calls[quantiser.pair.name or ""].args[0]
            else:
                path = attach(self.network, quantiser.tensor, self._values(quantiser), trainable=True)
                source = graph.get_attr(path)
            new = graph.call_module(f"{QUANTISERS}.{len(listed) - 1}", (source,))
        new.meta.update(call.meta)
        call.replace_all_uses_with(new)
        self.sites.append(Site(quantiser, module, path))

    def _module(self, quantiser: Quantiser) -> Quantise | QuantiseBias:
        if id(quantiser.node) in self.steps:
            return Quantise(self.steps[id(quantiser.node)], constant=quantiser.constant)
        factors = self._factors(quantiser)
        if factors is not None:
            return QuantiseBias(*factors)
        low, high = _limits(quantiser, None)
        fixed = Start(_scale(quantiser), _zeros(quantiser), low, high, quantiser.axis, learns=False, shifts=False)
        return Quantise(StepSize(fixed), constant=True)

    def _factors(self, bias: Quantiser) -> tuple[StepSize, StepSize] | None:
        """Returns the steps of input and weights of the operator that adds `bias`, where its scale is their product."""
        for use in bias.node.outputs[0].uses():
            if use.node.op_type in WEIGHTED and use.idx == 2:
                data, weights = (self._step(value) for value in use.node.inputs[:2])
                if data is not None and weights is not None and _is_product(bias, data, weights):
                    return data, weights
        return None

    def _step(self, value: ir.Value | None) -> StepSize | None:
        """Returns the step that `value` has, also where its integers were moved since."""
        node = value.producer() if value is not None else None
        while node is not None and id(node) not in self.steps:
            source = node.inputs[0] if node.op_type in movers() else None
            node = source.producer() if source is not None else None
        return None if node is None else self.steps[id(node)]

    def _values(self, found: Quantiser) -> Tensor:
        """Returns the float values that a quantiser stores: they round to the integers that it stores now."""
        integers = found.integers()
        assert integers is not None
        zeros = np.broadcast_to(found.zero_point, np.asarray(found.scale).shape)
        stored = dequantise(np.asarray(integers), found.scale, zeros, found.axis)
        real = self.floats.get(found.tensor)
        if real is None or real.shape != stored.shape:
            return torch.from_numpy(stored)
        grid = Grid("int64", *_limits(found, self.plans.get(found.tensor)))
        again = quantise(real, found.scale, zeros, grid, found.axis)
        return torch.from_numpy(np.where(again == integers.astype(np.int64), real, stored).astype(np.float32))

    def _tidy(self) -> None:
        """Removes the integers, scales and zero points that nothing reads any more."""
        graph = self.network.graph
        graph.eliminate_dead_code()
        read = {node.target for node in graph.nodes if node.op == "get_attr"}
        paths = self.network.meta["initialisers"]
        for name, path in list(paths.items()):
            if path not in read:
                parent, _, leaf = path.rpartition(".")
                delattr(self.network.get_submodule(parent), leaf)
                del paths[name]
        graph.lint()
        self.network.recompile()


def _keep_pairs(made: Learnable) -> None:
    for site in made.sites:
        if site.path and isinstance(site.module, Quantise):
            made.room.add(site.quantiser, site.path, site.module.step)
    made.network.register_forward_pre_hook(made.room)


def _floats(reference: ir.Model | None) -> Mapping[str, NDArray[Any]]:
    if reference is None:
        return {}
    constants = {name: numbers(value) for name, value in reference.graph.initializers.items()}
    return {name: array for name, array in constants.items() if array is not None and array.dtype == np.float32}


def _start(found: Quantiser, plans: Sequence[TensorPlan | None]) -> Start:
    low, high = _limits(found, plans[0])
    fixed = any(plan is not None and plan.reason == FIXED for plan in plans)
    info = np.iinfo(found.dtype)
    still = (int(info.min), int(info.max), (int(info.min) + int(info.max) + 1) // 2)
    zeros = _zeros(found)
    shifts = not fixed and not _stored(found) and zeros.ndim == 0 and int(zeros) not in still
    return Start(_scale(found), zeros, low, high, found.axis, learns=not fixed, shifts=shifts)


def _stored(found: Quantiser) -> bool:
    return found.constant and found.pair is None


def _scale(found: Quantiser) -> NDArray[np.float32]:
    assert found.scale is not None
    return np.asarray(found.scale, np.float32).reshape(() if found.axis is None else -1)


def _zeros(found: Quantiser) -> NDArray[np.int64]:
    return np.array(np.broadcast_to(found.zero_point.reshape(-1), (_scale(found).size,))).reshape(_scale(found).shape)


def _limits(found: Quantiser, plan: TensorPlan | None) -> tuple[int, int]:
    """Returns the integers that a tensor may take: stored ones as the plan narrows them, others as the type does."""
    info = np.iinfo(found.dtype)
    if not _stored(found):
        return int(info.min), int(info.max)
    if found.dtype == BIAS:
        return QuantiseBias.limits
    integers = found.integers()
    if plan is not None and plan.dtype == found.dtype:
        grid = grid_of(plan)
        if integers is None or not integers.size or integers.astype(np.int64).min() >= grid.low:
            return grid.low, grid.high
    return int(info.min), int(info.max)


def _is_product(bias: Quantiser, data: StepSize, weights: StepSize) -> bool:
    assert bias.scale is not None
    with torch.no_grad():
        product = (data.scale() * weights.scale()).numpy()
    same = bias.scale.size == product.size
    return same and bool(np.allclose(bias.scale.reshape(-1), product.reshape(-1), rtol=1e-5, atol=0))
