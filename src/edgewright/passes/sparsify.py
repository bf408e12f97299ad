"""Zeros among the weights: in the 2:4 pattern that tensor cores skip, or wherever weights are smallest."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from edgewright.core.codec import encode_json
from edgewright.core.step import Context
from edgewright.core.target import Plan
from edgewright.errors import ConfigError

if TYPE_CHECKING:
    import onnx_ir

    from edgewright.graph.sparsity import Mask, Weight

UNSTRUCTURED = "unstructured"
SCOPES = ("layer", "global", "lamp")
HINT = "sparsity"
"""Key of what the pass did in the hints of a plan."""


@dataclass(frozen=True, slots=True)
class Sparsify:
    """inputs["model"] -> the same graph with the smallest weights set to zero.

    Nothing is removed and nothing is trained: train afterwards, the zeros stay (`keep_zeros` of a training pass).

    Attributes:
        pattern: `2:4` (or another `N:M`): at most 2 of 4 neighbours along the input channels are kept, in every
            convolution and matrix product whose input channels are a multiple of 4. `unstructured`: anywhere.
        sparsity: Share of weights set to zero, `unstructured` only: 2:4 is half of them by definition.
        scope: What `unstructured` compares magnitudes over: each `layer` for itself, `global` all layers at once, or
            `lamp` all at once by a score that empties no layer (Lee et al. 2021).
        keep: Layers left dense: names of nodes, `*` and `?` as in file names.
    """

    name: ClassVar[str] = "sparsify"
    version: ClassVar[int] = 1
    requires: ClassVar[tuple[str, ...]] = ("onnx", "onnx-ir")
    trains: ClassVar[bool] = True

    pattern: str = "2:4"
    sparsity: float = 0.5
    scope: str = "layer"
    keep: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        """Refuses what cannot be meant."""
        if self.pattern != UNSTRUCTURED:
            most, among = _numbers(self.pattern)
            if not 0 < most < among <= 64:
                raise ConfigError(f'sparsify: pattern = "{self.pattern}" keeps {most} of {among}', hint=_PATTERN_HINT)
        if not 0 < self.sparsity < 1:
            raise ConfigError(f"sparsify: sparsity = {self.sparsity}", hint="give a share between 0 and 1, such as 0.7")
        if self.scope not in SCOPES:
            raise ConfigError(f'sparsify: scope = "{self.scope}" is not known', hint=f"one of: {', '.join(SCOPES)}")

    def run(self, inputs: Mapping[str, Path], out: Path, context: Context) -> None:
        from edgewright.graph.load import PLAN_FILE, load, save, stored_plan
        from edgewright.graph.names import name_nodes
        from edgewright.graph.sparsity import measure, total

        model = load(inputs["model"])
        name_nodes(model.graph)
        kept = self._sparsify(model.graph)
        layers = measure(model)
        context.progress(0.9, f"{total(layers):.0%} of the weights are zero")
        save(model, out)
        found = {
            "pattern": self.pattern,
            "share": total(layers),
            "layers": {each.layer: each.share for each in layers if each.pattern},
            "dense": kept,
        }
        plan = stored_plan(inputs["model"]) or Plan("as given")
        (out / PLAN_FILE).write_bytes(encode_json(replace(plan, hints={**plan.hints, HINT: found})))

    def _sparsify(self, graph: onnx_ir.Graph) -> dict[str, str]:
        """Sets weights to zero in place; returns layer -> why it stays dense."""
        from edgewright.graph.sparsity import selected, store, weights_of

        every = list(weights_of(graph))
        if not every:
            raise ConfigError("sparsify: no layer of the model has stored weights", hint="leave `sparsify` out")
        stored = next((weight.array.dtype.name for weight in every if weight.array.dtype.kind != "f"), "")
        if stored:
            hint = "put `sparsify` before passes that quantise or shorten weights"
            raise ConfigError(f"sparsify: weights are stored as {stored}", hint=hint)
        by_hand = selected([str(weight.node.name) for weight in every], self.keep)
        kept = {str(w.node.name): "named by keep" if w.node.name in by_hand else self._unfit(w) for w in every}
        kept |= _shared_otherwise(every, kept)
        chosen = [weight for weight in every if not kept[str(weight.node.name)]]
        if not chosen:
            why = "; ".join(f"{name}: {reason}" for name, reason in list(kept.items())[:3])
            raise ConfigError(f"sparsify: no layer fits the pattern {self.pattern} ({why})", hint=_PATTERN_HINT)
        for weight, mask in zip(chosen, self._masks(chosen), strict=True):
            store(weight, np.where(mask, weight.array, np.zeros((), weight.array.dtype)))
        return {name: reason for name, reason in kept.items() if reason}

    def _unfit(self, weight: Weight) -> str:
        """Why a layer stays dense; empty where it does not."""
        if weight.array.shape[1] == 1 and weight.node.op_type == "Conv":
            return "depthwise: every output has a kernel of few weights of its own"
        if self.pattern == UNSTRUCTURED:
            return ""
        if weight.node.op_type not in ("Conv", "Gemm", "MatMul"):
            return f"no hardware skips {self.pattern} in a {weight.node.op_type}"
        among = _numbers(self.pattern)[1]
        return "" if weight.depth % among == 0 else f"{weight.depth} input channels are no multiple of {among}"

    def _masks(self, chosen: Sequence[Weight]) -> list[Mask]:
        from edgewright.graph.sparsity import lamp, largest, n_of_m

        if self.pattern != UNSTRUCTURED:
            most, among = _numbers(self.pattern)
            return [n_of_m(weight.array, weight.axis, most, among) for weight in chosen]
        scores = {str(weight.value.name): lamp(weight.array) if self.scope == "lamp" else np.abs(weight.array)
                  for weight in chosen}  # fmt: skip
        groups = [{name: score} for name, score in scores.items()] if self.scope == "layer" else [scores]
        masks = {name: mask for group in groups for name, mask in largest(group, self.sparsity).items()}
        return [masks[str(weight.value.name)] for weight in chosen]


_PATTERN_HINT = 'give pattern = "2:4" for tensor cores, or "unstructured" with a share `sparsity`'


def _numbers(pattern: str) -> tuple[int, int]:
    found = re.fullmatch(r"(\d+):(\d+)", pattern)
    if found is None:
        raise ConfigError(f'sparsify: pattern = "{pattern}" is not known', hint=_PATTERN_HINT)
    return int(found[1]), int(found[2])


def _shared_otherwise(every: Sequence[Weight], kept: Mapping[str, str]) -> dict[str, str]:
    """Weights of several layers stay dense where one of these stays, or sums over another axis."""
    readers: dict[str, list[Weight]] = {}
    for weight in every:
        readers.setdefault(str(weight.value.name), []).append(weight)
    found = {}
    for among in readers.values():
        stays = next((reason for w in among if (reason := kept[str(w.node.name)])), "")
        if not stays and len({w.axis for w in among}) > 1:
            stays = "its weights are shared with a layer that sums over another axis"
        found.update({str(w.node.name): kept[str(w.node.name)] or stays for w in among})
    return found


plugin = Sparsify
