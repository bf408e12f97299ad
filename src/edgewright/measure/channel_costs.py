"""Step `channel-costs`: what every operator costs on a target as a function of the channels it keeps."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, cast

from edgewright.core.codec import encode_json
from edgewright.core.costs import COSTS_FILE, CostTable, Probe
from edgewright.core.recipe import StepSpec
from edgewright.core.step import Context
from edgewright.errors import ConfigError

if TYPE_CHECKING:
    import onnx_ir

    from edgewright.core.costs import LayerShape
    from edgewright.core.target import Target
    from edgewright.graph.pruning import Group
    from edgewright.measure.costs.fitting import Seen
    from edgewright.measure.costs.probing import Compiled


@dataclass(frozen=True, slots=True)
class ChannelCosts:
    """Runs pruned forms of a model on the target and writes `costs.json` (`core.costs.CostTable`).

    Inputs: `model` (a float hub model), and `data` where inputs are to be real samples. Every form is the whole
    network with other widths, so that kernels run in the company they will have: fused, in the layouts and caches of a
    real run. A profile tells operators apart, an interleaved timing without it says what they add up to.

    Attributes:
        target: The target, as a step with its own fields.
        threads: Intra-operator threads.
        scheme: Quantisation scheme to measure in, with made-up ranges; empty for float.
        keep_float: Operators that stay float in it, as `static-int8` takes them.
        device: Address of the machine to time on; this one by default.
        forms: How many forms of the model are run, the whole one included.
        rounds: How often each of them gets its turn.
        runs: Profiled runs of each.
        align: Sizes of the forms are multiples of it.
    """

    name: ClassVar[str] = "channel-costs"
    version: ClassVar[int] = 4
    requires: ClassVar[tuple[str, ...]] = ("numpy", "onnx", "onnx-ir", "onnxscript", "onnxruntime", "openvino")

    target: StepSpec = field(default_factory=lambda: StepSpec("onnxruntime"))
    threads: int = 1
    scheme: str = ""
    keep_float: tuple[str, ...] = ()
    device: str = ""
    forms: int = 14
    rounds: int = 24
    runs: int = 60
    align: int = 8

    def run(self, inputs: Mapping[str, Path], out: Path, context: Context) -> None:
        """See `edgewright.core.step.Step`.

        Raises:
            ConfigError: No channel of the model can be removed.
        """
        with tempfile.TemporaryDirectory(dir=context.scratch) as folder:
            table = self._table(inputs["model"], inputs.get("data"), Path(folder), context)
        (out / COSTS_FILE).write_bytes(encode_json(table))

    def _table(self, path: Path, data: Path | None, folder: Path, context: Context) -> CostTable:
        from edgewright.graph.load import load
        from edgewright.graph.pruning import find_groups, prepare
        from edgewright.graph.pruning.branches import find_branches
        from edgewright.measure.costs.fitting import check, fit
        from edgewright.measure.costs.probing import sizes_between, sizes_to_try

        model, feed = _bound(prepare(load(path)), data)
        groups = find_groups(model)
        if not groups:
            raise ConfigError("no channel of this model can be removed", hint="leave `prune` out")
        layers = _layers(model, groups)
        branches = [branch.name for branch in find_branches(model)]
        forms = sizes_to_try(groups, self.forms, self.align, context.seed, branches)
        between = sizes_between(groups, self.align)
        tried = forms if between is None else (*forms, between)
        milliseconds, seen = self._seen(model, tried, layers, feed, data, folder, context)
        extra, seen = seen[len(forms) :], seen[: len(forms)]
        fitted = fit(layers, seen, milliseconds * 1000)
        whole = fitted.at(forms[0])
        return CostTable(
            *(self.target.name, self.scheme, self.threads, self.device, dict(forms[0])),
            *(fitted.layers, fitted.rates, fitted.rest, milliseconds * 1000),
            probes=check(layers, seen, milliseconds * 1000),
            align=self.align,
            between=next((Probe(each.sizes, each.ratio, fitted.at(each.sizes) / whole) for each in extra), None),
        )

    def _seen(
        self,
        model: onnx_ir.Model,
        forms: Sequence[Mapping[str, int]],
        layers: Sequence[LayerShape],
        feed: Mapping[str, Any],
        data: Path | None,
        folder: Path,
        context: Context,
    ) -> tuple[float, tuple[Seen, ...]]:
        """Compiles, profiles and times every form."""
        import numpy as np

        from edgewright.measure.costs.fitting import Seen, attribute, shared_out
        from edgewright.measure.costs.timing import profiled, side_by_side
        from edgewright.runtimes import load_artifact

        made = self._compiled(model, forms, data, folder, context)
        artifacts = [each.artifact for each in made]
        np.savez(folder / "feed.npz", **feed)
        shapes, told = {shape.node: shape for shape in layers}, []
        for index, each in enumerate(made):
            operators = profiled(each.artifact, feed, self.threads, self.runs, self.device)
            told.append(attribute(operators, load_artifact(each.artifact).placement, shapes, each.origins))
            context.progress(0.4 + 0.2 * index / len(artifacts), f"profiling form {index + 1} of {len(artifacts)}")
        whole, ratios = side_by_side(
            *(artifacts, [folder / "feed.npz"], self.threads, self.rounds, self.device),
            lambda fraction, note: context.progress(0.6 + 0.4 * fraction, note),
        )
        seen = tuple(Seen(s, r, *t) for s, r, t in zip(forms, ratios, told, strict=True))
        if not any(form.times for form in seen):
            seen = tuple(shared_out(layers, form, whole * 1000) for form in seen)
        return whole, seen

    def _compiled(
        self,
        model: onnx_ir.Model,
        forms: Sequence[Mapping[str, int]],
        data: Path | None,
        folder: Path,
        context: Context,
    ) -> list[Compiled]:
        from edgewright.engine import registry
        from edgewright.measure.costs.probing import compiled, pruned

        target = cast("Target", registry.make("targets", self.target))
        made = []
        for index, sizes in enumerate(forms):
            context.progress(0.4 * index / len(forms), f"compiling form {index + 1} of {len(forms)}")
            form, place = pruned(model, sizes), folder / str(index)
            quiet = _Quiet(context.seed, context.scratch)
            made.append(compiled(form, self.scheme, target, data, place, quiet, self.keep_float))
        return made


@dataclass(slots=True)
class _Quiet:
    """The context of a step within this one: its progress is not shown."""

    seed: int
    scratch: Path

    def progress(self, fraction: float, note: str = "") -> None:
        pass


def _bound(model: onnx_ir.Model, data: Path | None) -> tuple[onnx_ir.Model, Mapping[str, Any]]:
    """Returns the model with the sizes of one sample, and that sample."""
    from edgewright.graph.load import tensor_specs
    from edgewright.graph.shapes import bind_axes
    from edgewright.targets._feed import feeds

    specs, _ = tensor_specs(model)
    feed = next(feeds(specs, data))
    sizes = {
        axis: feed[spec.name].shape[index]
        for spec in specs
        for index, axis in enumerate(spec.shape)
        if isinstance(axis, str)
    }
    return bind_axes(model, sizes), feed


def _layers(model: onnx_ir.Model, groups: Sequence[Group]) -> tuple[LayerShape, ...]:
    from edgewright.graph.pruning import remove
    from edgewright.graph.pruning.extents import layer_shapes

    return layer_shapes(model, groups, remove)


plugin = ChannelCosts
