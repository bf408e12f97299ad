"""Shrink: filters that were only set to zero leave the graph."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from edgewright.core.codec import encode_json
from edgewright.core.pruning import PRUNING_FILE, PrunedGroup, Pruning
from edgewright.core.step import Context

if TYPE_CHECKING:
    import onnx_ir

    from edgewright.graph.pruning.shrinking import Shrinking


@dataclass(frozen=True, slots=True)
class Shrink:
    """inputs["model"] (float) -> the same function without channels that no sample changes, and `pruning.json`.

    Many tools prune by setting filters to zero (`torch.nn.utils.prune` does), which makes nothing smaller or faster.
    What such a filter puts out is its bias, or the shift of its batch norm: that number goes into the bias of the
    layers behind it, and the channel is taken out of every tensor. Where a layer pads with zeros, the number is not the
    same at the border, and the channel stays unless it is zero; `pruning.json` says so. A model without such channels
    stays what it is.
    """

    name: ClassVar[str] = "shrink"
    version: ClassVar[int] = 1
    requires: ClassVar[tuple[str, ...]] = ("onnx", "onnx-ir", "onnxscript")

    def run(self, inputs: Mapping[str, Path], out: Path, context: Context) -> None:
        """Folds, removes and writes.

        Raises:
            ConfigError: The model is quantised.
        """
        from edgewright.graph.load import load, save
        from edgewright.graph.pruning import prepare, remove
        from edgewright.graph.pruning.shrinking import fold_constant_channels

        model = prepare(load(inputs["model"]))
        before = model.clone()
        context.progress(0.2, "following channels")
        found = fold_constant_channels(model)
        context.progress(0.7, f"removing channels of {len(found.kept)} groups")
        remove(model, found.kept)
        save(model, out)
        (out / PRUNING_FILE).write_bytes(encode_json(_told(before, model, found)))


def _told(before: onnx_ir.Model, after: onnx_ir.Model, found: Shrinking) -> Pruning:
    from edgewright.graph.cost import model_cost
    from edgewright.graph.shapes import bind_axes

    first, second = (model_cost(bind_axes(model, {})) for model in (before, after))
    groups = tuple(
        PrunedGroup(g.name, g.kind, g.producers, g.size, len(found.kept.get(g.name, range(g.size))))
        for g in found.groups
    )
    return Pruning(
        "channels that no sample changes",
        "zeroed",
        groups,
        tuple(found.left.items()),
        macs=second.macs / max(first.macs, 1),
        parameters=second.parameters / max(first.parameters, 1),
    )


plugin = Shrink
