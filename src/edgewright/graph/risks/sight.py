"""A model as the rules see it: cleaned up, for one sample, with what its INT8 form will compute in integers."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field

import onnx_ir as ir

from edgewright.core.target import Plan, Scheme
from edgewright.errors import EdgewrightError
from edgewright.graph import qdq
from edgewright.graph.cost import model_cost
from edgewright.graph.kinds import KINDS
from edgewright.graph.opset import QDQ_OPSET, raise_opset
from edgewright.graph.placement import WEIGHTED, Placement, decide
from edgewright.graph.plan import describe
from edgewright.graph.quantisers import numbers
from edgewright.graph.schemes.predict import FLOAT, INTEGER, PREDICTED, predict
from edgewright.graph.shapes import infer_shapes
from edgewright.graph.statistics import Statistics, TensorStatistics, activations

POSITIVE = ("Relu", "Abs", "Exp", "Sqrt", "Softplus", "Sigmoid", "HardSigmoid", "Softmax")
PASSES = (*KINDS["data movement"], *("MaxPool", "AveragePool", "GlobalAveragePool", "GlobalMaxPool", "Add", "Mul"))


@dataclass(frozen=True, slots=True)
class Hit:
    """Where a rule applies.

    Attributes:
        nodes: Names of the nodes; empty where it is the model as a whole.
        detail: What is particular about these, as the end of a sentence.
    """

    nodes: tuple[str, ...]
    detail: str = ""


@dataclass(frozen=True, slots=True)
class Sight:
    """What every rule is given.

    Attributes:
        graph: Cleaned up, nodes named, shapes of one sample.
        target: Name of the target.
        scheme: How the target quantises; None where it does not.
        opset: Of the model as it was given.
        free: Names of inputs -> their axes, other than the first, that have no fixed size.
        kinds: Name of every operator -> what becomes of it in INT8 (`schemes.predict`); empty without a scheme.
        macs: Name of every operator -> multiply-accumulates for one sample.
    """

    graph: ir.Graph
    target: str
    scheme: Scheme | None = None
    opset: int = 17
    free: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    kinds: Mapping[str, str] = field(default_factory=dict)
    macs: Mapping[str, int] = field(default_factory=dict)

    @property
    def integer_share(self) -> float | None:
        """Share of the multiply-accumulates that INT8 computes in integers; None where there are none to tell of."""
        total = sum(self.macs.values())
        if self.scheme is None or not total:
            return None
        return sum(macs for name, macs in self.macs.items() if self.kinds.get(name) == INTEGER) / total

    def having(self, *ops: str) -> Iterator[ir.Node]:
        """Yields the nodes of some operators, in graph order."""
        return (node for node in self.graph if node.op_type in ops)


def free_axes(model: ir.Model) -> dict[str, tuple[str, ...]]:
    """Returns input -> names of its axes without a size, the first one (the batch) left out."""
    found: dict[str, tuple[str, ...]] = {}
    for value in model.graph.inputs:
        if value.name in model.graph.initializers or value.shape is None:
            continue
        axes = tuple(
            str(size.value or axis) for axis, size in enumerate(value.shape) if axis and not isinstance(size, int)
        )
        if axes:
            found[value.name or ""] = axes
    return found


def look(
    bound: ir.Model,
    target: str,
    scheme: Scheme | None,
    opset: int,
    free: Mapping[str, tuple[str, ...]],
    machine: str = "",
) -> Sight:
    """Looks at a model for one target.

    Args:
        bound: Cleaned up, with static shapes (`shapes.bind_axes`); left as it is.
        target: Name of the target.
        scheme: How it quantises; None where it does not.
        opset: Of the model as it was given.
        free: Of the model as it was given, see `free_axes`.
        machine: Kind of processor, as `platform.machine()` names it; this one's by default.
    """
    macs = {cost.node: cost.macs for cost in model_cost(bound).nodes}
    kinds = foretell(bound, scheme, machine) if scheme is not None else {}
    return Sight(bound.graph, target, scheme, opset, dict(free), kinds, macs)


def foretell(model: ir.Model, scheme: Scheme, machine: str = "") -> dict[str, str]:
    """Returns operator -> what becomes of it in INT8, without data: ranges decide scales, not which kernels run.

    Runtimes whose fusions are known are asked (`schemes.predict`), of a graph that is quantised with made-up ranges.
    For others an operator counts as integer where the scheme takes it and all that it reads is quantised.
    """
    quantised, placement = _placed(model, scheme)
    if scheme.name.split("-")[0] not in PREDICTED:
        return _by_the_list(quantised.graph, scheme, placement)
    try:
        qdq.apply(quantised.graph, _made_up(quantised.graph, scheme, placement))
        return dict(predict(infer_shapes(quantised).graph, scheme, machine))
    except EdgewrightError:
        return _by_the_list(model.graph, scheme, placement)


def quantised_blindly(model: ir.Model, scheme: Scheme, keep_float: Iterable[str] = ()) -> tuple[ir.Model, Plan]:
    """Returns a quantised copy of `model` and its plan, with made-up ranges: as fast as the real one, and as useless.

    Raises:
        EdgewrightError: The model cannot be quantised by this scheme.
    """
    quantised, placement = _placed(model, scheme, keep_float)
    plan = _made_up(quantised.graph, scheme, placement)
    qdq.apply(quantised.graph, plan)
    return infer_shapes(quantised), plan


def _placed(model: ir.Model, scheme: Scheme, keep_float: Iterable[str] = ()) -> tuple[ir.Model, Placement]:
    quantised = infer_shapes(raise_opset(model.clone(), max(QDQ_OPSET, scheme.opset)))
    qdq.prepare(quantised)
    return quantised, decide(quantised.graph, scheme, keep_float)


def _made_up(graph: ir.Graph, scheme: Scheme, placement: Placement) -> Plan:
    values = {value.name or "" for value in (*activations(graph), *placement.values)}
    positive = _never_negative(graph)
    ranges = Statistics(1, {name: TensorStatistics(0.0 if name in positive else -1.0, 1.0) for name in values})
    return describe(placement, scheme, ranges)


def _never_negative(graph: ir.Graph) -> set[str]:
    """Returns the values that are zero at least: where these start at the smallest integer, runtimes drop the Relu."""
    found: set[str] = set()
    for node in graph:
        data = [value for value in node.inputs if value is not None and value.dtype in (None, ir.DataType.FLOAT)]
        passed = node.op_type in PASSES and bool(data) and all(v.name in found or _least(v) >= 0 for v in data)
        if node.op_type in POSITIVE or passed or (node.op_type == "Clip" and _least(*node.inputs[1:2]) >= 0):
            found.update(value.name or "" for value in node.outputs)
    return found


def _least(value: ir.Value | None = None) -> float:
    """Returns the smallest number of a constant, -1 for anything else."""
    known = numbers(value) if value is not None else None
    return float(known.min()) if known is not None and known.size else -1.0


def _by_the_list(graph: ir.Graph, scheme: Scheme, placement: Placement) -> dict[str, str]:
    anchors = {node.name for node in placement.anchors}
    integers = {value.name for value in placement.values}
    takes = {*scheme.quantized, *scheme.shared} - set(WEIGHTED)
    found: dict[str, str] = {}
    for node in graph:
        reads = node.inputs[0].name if node.inputs and node.inputs[0] is not None else ""
        integer = node.name in anchors or (node.op_type in takes and reads in integers)
        if integer and node.op_type in scheme.shared:
            integers.update(value.name for value in node.outputs)
        found[node.name or ""] = INTEGER if integer else FLOAT
    return found
