"""Structured pruning: channels and heads leave the graph, where they cost most for what they bring."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from edgewright.core.codec import decode_stored, encode_json
from edgewright.core.costs import COSTS_FILE, CostTable, LayerShape
from edgewright.core.pruning import PRUNING_FILE, PrunedGroup, Pruning
from edgewright.core.step import Context
from edgewright.errors import ConfigError, Corrupt

if TYPE_CHECKING:
    import numpy as np
    import onnx_ir
    from numpy.typing import NDArray

    from edgewright.graph.pruning import Group
    from edgewright.graph.pruning.branches import Branch
    from edgewright.graph.pruning.choose import Choice, Cost

    Rows = NDArray[np.float64]
    Together = Mapping[str, Mapping[int, float]]

_GOALS = ("latency", "macs", "size")
_ALIGN = 8
_TOGETHER = (0.75, 0.5, 0.25)
"""Shares of a group down to which what is lost is measured, where channels are weighed against whole branches."""
_RUN = 64
"""Samples per run where there are no gradients."""
_IMPORTANCES = ("taylor", "magnitude", "batch-norm")


@dataclass(frozen=True, slots=True)
class Prune:
    """inputs["model"] (float) and, by what is asked, inputs["costs"] and inputs["data"] -> the same model, narrower.

    Removes whole channels and attention heads; nothing is trained, so put `fine-tune` or `distill` behind it, and where
    much is to go, prune and train in turn: `prune(latency=0.7) > distill(...) > prune(latency=0.7) > distill(...)`.
    How much each group loses is chosen by what its channels cost on the target. Writes `pruning.json`, too.

    Attributes:
        latency: Predicted latency on the target, relative to the model given; 0.5 where no goal is set.
        macs: Multiply-accumulates relative to the model given, instead of latency.
        size: Weights relative to the model given, instead of latency.
        importance: `taylor` (by gradients on samples), `magnitude` (norm of the weights) or `batch-norm` (its scale).
        align: Groups with more channels keep a multiple of it: kernels work on blocks. 0 takes that of the costs, or
            half of it where sizes between cost no more than the curve says; 8 without costs.
        least: Smallest share of a group that stays.
        keep: Layers whose channels all stay: name patterns.
        blocks: Residual branches may go whole, too: where kernels are small, what each of them costs to start counts
            more than its width. What goes together is then measured together. Needs importance `taylor`.
        scheme: Costs are measured in this quantisation scheme; empty for float.
        keep_float: Operators that stay float in it, as `static-int8` takes them.
        split: Samples for `taylor`; `train` where there is one, else `calibration`, when empty.
        limit: Use at most so many of them.
        batch: Samples per gradient.
    """

    name: ClassVar[str] = "prune"
    version: ClassVar[int] = 2
    requires: ClassVar[tuple[str, ...]] = ("onnx", "onnx-ir", "torch")
    needs: ClassVar[tuple[str, ...]] = ("costs", "data")
    trains: ClassVar[bool] = True

    latency: float | None = None
    macs: float | None = None
    size: float | None = None
    importance: str = "taylor"
    align: int = 0
    least: float = 0.125
    keep: tuple[str, ...] = ()
    blocks: bool = False
    scheme: str = ""
    keep_float: tuple[str, ...] = ()
    split: str = ""
    limit: int | None = 1024
    batch: int = 16

    def __post_init__(self) -> None:
        """Refuses what cannot be meant."""
        given = [name for name in _GOALS if getattr(self, name) is not None]
        if len(given) > 1:
            raise ConfigError(f"prune has {len(given)} goals: {', '.join(given)}", hint="set one of them")
        if self.importance not in _IMPORTANCES:
            raise ConfigError(f'importance = "{self.importance}"', hint=f"one of {', '.join(_IMPORTANCES)}")
        if self.blocks and self.importance != "taylor":
            raise ConfigError(f'blocks = true with importance = "{self.importance}"', hint='set importance = "taylor"')
        kind, share = self.goal
        if not 0 < share <= 1 or not 0 <= self.least <= 1:
            raise ConfigError(f"{kind} = {share}, least = {self.least}", hint="give shares of the model, such as 0.5")
        if self.align < 0 or self.batch < 1:
            raise ConfigError(f"align = {self.align}, batch = {self.batch}", hint="give whole numbers above zero")
        if self.keep_float and not self.scheme:
            raise ConfigError("keep_float without a scheme: everything is float", hint="name the scheme, too")

    @property
    def goal(self) -> tuple[str, float]:
        """What is asked for: kind and share."""
        found = [(name, share) for name in _GOALS if (share := getattr(self, name)) is not None]
        return found[0] if found else ("latency", 0.5)

    @classmethod
    def wants(cls, config: Mapping[str, Any]) -> tuple[str, ...]:
        """Returns what a configured pass needs of `needs`: costs for latency, data for gradients."""
        by_size = config.get("macs") is not None or config.get("size") is not None
        taylor = config.get("importance", "taylor") == "taylor"
        return (*(() if by_size else ("costs",)), *(("data",) if taylor else ()))

    def run(self, inputs: Mapping[str, Path], out: Path, context: Context) -> None:
        """See `edgewright.core.step.Step`.

        Raises:
            ConfigError: Nothing can be removed, the costs are those of another model, or the goal is out of reach.
        """
        from edgewright.graph.load import load, save
        from edgewright.graph.pruning import explain_fixed, find_groups, prepare, remove
        from edgewright.graph.pruning.branches import find_branches, remove_branches
        from edgewright.graph.pruning.choose import kept_channels

        model = prepare(load(inputs["model"]))
        groups, branches = find_groups(model), find_branches(model) if self.blocks else ()
        if not groups:
            raise ConfigError(f"no channel can be removed{_why(explain_fixed(model))}", hint="leave `prune` out")
        importance, together = self._importance(model, groups, branches, inputs.get("data"), context)
        chosen = self._chosen(model, groups, branches, importance, together, inputs.get("costs"))
        before, fixed = model.clone(), explain_fixed(model)
        remove(model, {g.name: kept_channels(importance[g.name], chosen.sizes[g.name]) for g in groups})
        remove_branches(model, {branch.name for branch in branches if not chosen.sizes[branch.name]})
        save(model, out)
        told = self._told(before, model, _losses(groups, branches, chosen), chosen, fixed)
        (out / PRUNING_FILE).write_bytes(encode_json(told))

    def _importance(
        self,
        model: onnx_ir.Model,
        groups: Sequence[Group],
        branches: Sequence[Branch],
        data: Path | None,
        context: Context,
    ) -> tuple[Mapping[str, Rows], Together]:
        """Returns the importance of every channel, and what was measured of several together."""
        from edgewright.graph.pruning import batch_norm_scale, magnitude

        if self.importance == "taylor":
            return self._taylor(model, groups, branches, data, context)
        measure = magnitude if self.importance == "magnitude" else batch_norm_scale
        found = {group.name: measure(model, group) for group in groups}
        return {name: each / max(float(each.mean()), 1e-12) for name, each in found.items()}, {}

    def _taylor(
        self,
        model: onnx_ir.Model,
        groups: Sequence[Group],
        branches: Sequence[Branch],
        data: Path | None,
        context: Context,
    ) -> tuple[Mapping[str, Rows], Together]:
        import numpy as np

        from edgewright.graph.load import tensor_specs
        from edgewright.graph.pruning.branches import smaller
        from edgewright.graph.pruning.choose import kept_channels
        from edgewright.training.examples import load_examples, split_of
        from edgewright.training.importance import movement, taylor

        if data is None:
            hint = 'name a project: --project edgewright.toml, or set importance = "magnitude"'
            raise ConfigError('importance = "taylor" needs data', hint=hint)
        split, scratch = split_of(data, self.split), context.scratch / "importance"
        examples = load_examples(data, tensor_specs(model)[0], [split], self.limit, scratch)
        found = taylor(model, groups, examples, self.batch, context)
        if not branches:
            return found, {}
        wanted = {group.name: _sizes_between(group.size, group.multiple) for group in groups}
        variants = {branch.name: partial(smaller, model, {}, {branch.name}) for branch in branches}
        for name, sizes in wanted.items():
            kept = {size: kept_channels(found[name], size) for size in sizes}
            variants |= {f"{name} {size}": partial(smaller, model, {name: kept[size]}) for size in sizes}
        moved = movement(model, variants, examples, _RUN, context)
        whole = {branch.name: np.asarray([moved[branch.name]]) for branch in branches}
        return {**found, **whole}, {n: {s: moved[f"{n} {s}"] for s in sizes} for n, sizes in wanted.items()}

    def _chosen(
        self,
        model: onnx_ir.Model,
        groups: Sequence[Group],
        branches: Sequence[Branch],
        importance: Mapping[str, Rows],
        together: Together,
        costs: Path | None,
    ) -> Choice:
        from edgewright.graph.pruning.choose import Choosable, choose

        kind, share = self.goal
        layers, cost, rest, align = self._costs(model, groups, costs)
        choosable = [
            Choosable(g.name, importance[g.name], g.multiple, self._least(g), together=together.get(g.name, {}))
            for g in groups
        ]
        choosable += [
            Choosable(b.name, importance[b.name], least=int(self._kept(b.nodes)), whole=True) for b in branches
        ]
        chosen = choose(choosable, layers, cost, rest, share, self.align or align)
        if not chosen.met:
            raise ConfigError(
                f"{kind} {share:g} is out of reach: with as little as may stay it is {chosen.relative:.2f}",
                hint=f"ask for {chosen.relative:.2f} or more, or lower `least` or `align`",
            )
        return chosen

    def _least(self, group: Group) -> int:
        if self._kept((group.name, *group.producers)):
            return group.size
        return max(1, round(self.least * group.size))

    def _kept(self, names: Sequence[str]) -> bool:
        return any(fnmatchcase(name, pattern) for name in names for pattern in self.keep)

    def _costs(
        self, model: onnx_ir.Model, groups: Sequence[Group], costs: Path | None
    ) -> tuple[tuple[LayerShape, ...], Cost, float, int]:
        """Returns every operator, what one costs by the goal, what is always there, and what sizes to keep to."""
        from edgewright.graph.pruning import remove
        from edgewright.graph.pruning.extents import layer_shapes
        from edgewright.graph.shapes import bind_axes

        kind, _ = self.goal
        if kind == "latency":
            table = _table(costs)
            if dict(table.sizes) != {group.name: group.size for group in groups}:
                raise ConfigError("the costs are those of another model", hint="measure `channel-costs` of this one")
            return table.layers, table.layer, table.rest, table.align if table.steps else max(table.align // 2, 1)
        layers = layer_shapes(bind_axes(model, {}), groups, remove)
        return layers, LayerShape.macs if kind == "macs" else LayerShape.parameters, 0.0, _ALIGN

    def _told(
        self,
        before: onnx_ir.Model,
        after: onnx_ir.Model,
        groups: tuple[PrunedGroup, ...],
        chosen: Choice,
        fixed: Mapping[str, str],
    ) -> Pruning:
        from edgewright.graph.cost import model_cost
        from edgewright.graph.shapes import bind_axes

        kind, share = self.goal
        old, new = (model_cost(bind_axes(model, {})) for model in (before, after))
        return Pruning(
            goal=f"{kind} {share:g}",
            importance=self.importance,
            groups=groups,
            fixed=tuple(fixed.items()),
            predicted=chosen.relative if kind == "latency" else None,
            macs=new.macs / max(old.macs, 1),
            parameters=new.parameters / max(old.parameters, 1),
        )


def _sizes_between(size: int, multiple: int) -> tuple[int, ...]:
    """Returns the sizes of a group at which what is lost is measured."""
    sizes = (round(share * size / multiple) * multiple for share in _TOGETHER)
    return tuple(dict.fromkeys(kept for kept in sizes if 0 < kept < size))


def _losses(groups: Sequence[Group], branches: Sequence[Branch], chosen: Choice) -> tuple[PrunedGroup, ...]:
    """Says what every group has left: nothing where the branch that holds all of it is gone."""
    gone = {name for branch in branches if not chosen.sizes[branch.name] for name in branch.nodes}
    left = {g.name: 0 if gone.issuperset(g.producers) else chosen.sizes[g.name] for g in groups}
    return (
        *(PrunedGroup(g.name, g.kind, g.producers, g.size, left[g.name]) for g in groups),
        *(PrunedGroup(b.name, "branch", b.nodes, 1, chosen.sizes[b.name]) for b in branches),
    )


def _table(costs: Path | None) -> CostTable:
    if costs is None:
        hint = "name a target to measure on: --compile onnxruntime; or set macs or size instead of latency"
        raise ConfigError("pruning by latency needs the costs of channels on the target", hint=hint)
    path = costs / COSTS_FILE if costs.is_dir() else costs
    try:
        return decode_stored(CostTable, path.read_bytes())
    except ValueError as error:
        raise Corrupt(f"{path}: {error}", hint="measure `channel-costs` again") from error


def _why(fixed: Mapping[str, str]) -> str:
    return "".join(f": {layer}: {reason}" for layer, reason in list(fixed.items())[:1])


plugin = Prune
