"""Pruned forms of a model that are run: which sizes, and how each is made into an artifact."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import onnx_ir

    from edgewright.core.step import Context
    from edgewright.core.target import Target
    from edgewright.graph.pruning import Group

UNIFORM = (0.75, 0.5, 0.25)
_OPSET = 17
_LEAST_SHARE = 0.2


def sizes_to_try(
    groups: Sequence[Group], count: int, align: int, seed: int, branches: Sequence[str] = ()
) -> tuple[Mapping[str, int], ...]:
    """Returns sizes of every group for each form: the whole model, uniform ones, then random ones.

    Random ones are what separates operators that a uniform width changes together. Every second of them lacks some
    residual branches: what being there at all costs an operator, only a model without it tells.

    Args:
        groups: Of the model.
        count: Forms, the whole model included.
        align: Sizes are multiples of it where the group has more channels.
        seed: Of the random ones.
        branches: Names of residual branches.
    """
    rng = np.random.default_rng(seed)
    forms: list[Mapping[str, int]] = [{group.name: group.size for group in groups}]
    forms += [{g.name: _aligned(g, share, align) for g in groups} for share in UNIFORM]
    while len(forms) < max(count, 2):
        forms.append({g.name: _aligned(g, float(rng.uniform(_LEAST_SHARE, 1.0)), align) for g in groups})
        if branches and len(forms) % 2 == 0:
            gone = rng.permutation(len(branches))[: rng.integers(1, len(branches) + 1)]
            forms[-1] = {**forms[-1], **{branches[index]: 0 for index in sorted(gone)}}
    return tuple(forms[: max(count, 2)])


def _aligned(group: Group, share: float, align: int) -> int:
    unit = int(np.lcm(max(align, 1), max(group.multiple, 1)))
    wanted = share * group.size
    if group.size <= unit:
        unit = max(group.multiple, 1)
        return group.size if group.size <= unit else max(unit, round(wanted / unit) * unit)
    return min(max(unit, round(wanted / unit) * unit), group.size)


def sizes_between(groups: Sequence[Group], align: int) -> Mapping[str, int] | None:
    """Returns sizes half-way between multiples of `align`, at about three quarters; None where no group has room."""
    half = align // 2
    found = {g.name: _aligned(g, UNIFORM[0], align) - half for g in groups if g.size > align and half % g.multiple == 0}
    kept = {name: size for name, size in found.items() if half > 0 and size > 0}
    return {g.name: kept.get(g.name, g.size) for g in groups} if kept else None


def pruned(model: onnx_ir.Model, sizes: Mapping[str, int]) -> onnx_ir.Model:
    """Returns a copy of `model` whose groups have these sizes: the first channels stay, as values do not matter.

    Residual branches that have none are left out.
    """
    from edgewright.graph.pruning.branches import smaller

    gone = {name for name, size in sizes.items() if not size}
    return smaller(model, {name: range(size) for name, size in sizes.items() if size}, gone)


@dataclass(frozen=True, slots=True)
class Compiled:
    """A form as an artifact.

    Attributes:
        artifact: Its folder.
        origins: Operator of the cleaned-up form -> operators of the model that it computes.
    """

    artifact: Path
    origins: Mapping[str, tuple[str, ...]]


def compiled(
    model: onnx_ir.Model,
    scheme: str,
    target: Target,
    data: Path | None,
    folder: Path,
    context: Context,
    keep_float: Sequence[str] = (),
) -> Compiled:
    """Cleans a form up, quantises it by `scheme` with made-up ranges where there is one, and compiles it."""
    from edgewright.graph.load import save
    from edgewright.graph.opset import raise_opset
    from edgewright.graph.simplify import simplify

    hub, out = folder / "hub", folder / "artifact"
    out.mkdir(parents=True)
    plain = simplify(raise_opset(model.clone(), _OPSET))
    origins = origins_of(plain.graph, model.graph)
    if scheme:
        plain = _quantised(plain, scheme, keep_float, hub)
    save(plain, hub)
    given = {"model": hub, **({"data": data} if data is not None else {})}
    target.run(given, out, context)
    return Compiled(out, origins)


def origins_of(simple: onnx_ir.Graph, original: onnx_ir.Graph) -> Mapping[str, tuple[str, ...]]:
    """Returns, for every operator of a cleaned-up graph, those of the original that it computes.

    Clean-up keeps the names of tensors where it joins operators: what lies between those an operator reads and those it
    writes is what it does, such as a Conv and the batch norm folded into it. An operator that more than one of them may
    compute belongs to the one that computes least.
    """
    makers = {value.name: node for node in original for value in node.outputs}
    spans = []
    for node in simple:
        ends = {value.name for value in node.inputs if value is not None and not value.is_initializer()}
        spans.append((node.name or "", _between(makers, [value.name for value in node.outputs if value.name], ends)))
    found, taken = {}, set[str]()
    for name, inside in sorted(spans, key=lambda span: len(span[1])):
        own = tuple(n.name or "" for n in original if n in inside and n.name not in taken)
        taken.update(own)
        if own:
            found[name] = own
    return found


def _between(
    makers: Mapping[str | None, onnx_ir.Node], outputs: Sequence[str | None], ends: Collection[str | None]
) -> set[onnx_ir.Node]:
    inside: set[onnx_ir.Node] = set()
    waiting = list(outputs)
    while waiting:
        node = makers.get(waiting.pop())
        if node is None or node in inside:
            continue
        inside.add(node)
        waiting += [v.name for v in node.inputs if v is not None and v.name not in ends]
    return inside


def _quantised(model: onnx_ir.Model, scheme: str, keep_float: Sequence[str], hub: Path) -> onnx_ir.Model:
    from edgewright.core.codec import encode_json
    from edgewright.graph.load import PLAN_FILE
    from edgewright.graph.risks.sight import quantised_blindly
    from edgewright.graph.schemes import find

    quantised, plan = quantised_blindly(model, find(scheme), keep_float)
    hub.mkdir(parents=True, exist_ok=True)
    (hub / PLAN_FILE).write_bytes(encode_json(plan))
    return quantised
