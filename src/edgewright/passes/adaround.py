"""Adaptive rounding: every weight rounded up or down as the output of its block wants it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from edgewright.core.codec import encode_json
from edgewright.core.step import Context
from edgewright.core.target import Plan
from edgewright.errors import ConfigError

if TYPE_CHECKING:
    import onnx_ir

    from edgewright.graph.blocks import Block
    from edgewright.graph.pieces import Pieces
    from edgewright.passes._rounding import Stored


@dataclass(frozen=True, slots=True)
class Adaround:
    """inputs["model"] (with quantisers), inputs["float"] (what it was made of), inputs["data"] -> the rounded model.

    Block after block, on what the blocks before it give in the quantised model (Nagel et al. 2020, adaptive rounding;
    Li et al. 2021, BRECQ, for whole residual units). Scales stay; a block keeps the nearest integers unless the learnt
    ones are better on samples that learning did not see.

    Attributes:
        steps: Optimiser steps per block.
        batch: Samples per step.
        rate: Learning rate.
        pull: Weight of the regulariser that makes every rounding decide.
        most_layers: Layers of one block; 1 takes every layer alone.
        split: Samples to learn from.
        limit: Use at most so many of them.
    """

    name: ClassVar[str] = "adaround"
    version: ClassVar[int] = 3
    requires: ClassVar[tuple[str, ...]] = ("onnx", "onnx-ir", "onnxruntime", "torch")
    needs: ClassVar[tuple[str, ...]] = ("float", "data")
    quantises: ClassVar[bool] = True

    steps: int = 500
    batch: int = 16
    rate: float = 0.02
    pull: float = 0.01
    most_layers: int = 4
    split: str = "calibration"
    limit: int | None = 128

    def run(self, inputs: Mapping[str, Path], out: Path, context: Context) -> None:
        from edgewright.graph import qdq
        from edgewright.graph.blocks import blocks_of
        from edgewright.graph.load import PLAN_FILE, load, save, stored_plan
        from edgewright.graph.shapes import infer_shapes

        model, reference = infer_shapes(load(inputs["model"])), infer_shapes(load(inputs["float"]))
        if qdq.is_quantised(reference.graph):
            raise ConfigError("there is no float model to round by", hint="quantise a float model")
        qdq.prepare(reference)
        blocks = blocks_of(model.graph, self.most_layers)
        if not blocks:
            raise ConfigError("no operator has stored weights to round", hint="put `static-int8` before `adaround`")
        plan = stored_plan(inputs["model"]) or Plan("as given")
        gains = _Rounder(self, model, reference, plan, inputs["data"], context).run(blocks)
        save(infer_shapes(model), out)
        hints = {**plan.hints, "adaround": gains}
        kept = Plan(plan.scheme, plan.tensors, plan.kept_float, hints)
        (out / PLAN_FILE).write_bytes(encode_json(kept))


@dataclass(slots=True)
class _Rounder:
    """State of one run over the blocks."""

    step: Adaround
    model: onnx_ir.Model
    reference: onnx_ir.Model
    plan: Plan
    data: Path
    context: Context
    gains: dict[str, float] = field(default_factory=dict)

    def run(self, blocks: tuple[Block, ...]) -> dict[str, float]:
        """Rounds the blocks in order; returns block -> error left, as a share of the nearest integers' error."""
        from edgewright.graph.pieces import Pieces
        from edgewright.passes._feeds import feeds_of
        from edgewright.passes._infer import open_infer

        feeds = feeds_of(self.reference, self.data, self.step.split, self.step.limit)
        ours = Pieces(self.model, lambda piece: open_infer(piece, fuse=False), feeds, self.context.scratch)
        theirs = Pieces(self.reference, open_infer, feeds, self.context.scratch)
        for index, block in enumerate(blocks):
            self._round(block, index, ours, theirs)
            self.context.progress((index + 1) / len(blocks), f"block {index + 1} of {len(blocks)}")
        return self.gains

    def _round(self, block: Block, index: int, ours: Pieces, theirs: Pieces) -> None:
        wanted = self._twin(block.output)
        if wanted is None or not (ours.reach(*block.inputs) and theirs.reach(wanted)):
            return
        found = self._kept(index)
        if found is None:
            found = self._learn(block, ours, theirs, wanted)
            np.savez(self.context.scratch / f"block-{index}.tmp.npz", allow_pickle=False, **found)
            (self.context.scratch / f"block-{index}.tmp.npz").replace(self._checkpoint(index))
        for name, integers in found.items():
            if name != _ERROR:
                _store(self.model, name, integers)
        self.gains[block.layers[0].name or ""] = float(found[_ERROR])

    def _twin(self, output: onnx_ir.Value) -> onnx_ir.Value | None:
        """Returns the tensor of the float graph; a quantised graph output gave its name to the dequantised one."""
        from edgewright.graph.blocks import before_quantiser

        known = {v.name: v for node in self.reference.graph for v in node.outputs}
        names = [output.name, *(v.name for v in self.model.graph.outputs if before_quantiser(v) is output)]
        return next((known[name] for name in names if name in known), None)

    def _learn(self, block: Block, ours: Pieces, theirs: Pieces, wanted: onnx_ir.Value) -> dict[str, NDArray[Any]]:
        from edgewright.graph.bridge import to_torch
        from edgewright.passes._rounding import Settings, learn

        stored = [self._stored(layer) for layer in block.layers]
        names = [*(v.name or "" for v in block.inputs), *(each.tensor for each in stored)]
        module = to_torch(self.model, inputs=names, outputs=[block.output.name or ""], straight_through=True)
        step = self.step
        settings = Settings(step.steps, step.batch, step.rate, step.pull, self.context.seed)
        samples = list(zip(*(ours.values(v) for v in block.inputs), strict=True))
        learnt = learn(module, stored, samples, theirs.values(wanted), settings)
        share = np.asarray(learnt.error / learnt.nearest if learnt.nearest else 1.0)
        return {**learnt.integers, _ERROR: share}

    def _stored(self, layer: onnx_ir.Node) -> Stored:
        from edgewright.graph.bias import stored_weights
        from edgewright.graph.quantisers import numbers
        from edgewright.passes._rounding import Stored

        quantiser = stored_weights(layer)
        twin = next(node for node in self.reference.graph if node.name == layer.name)
        real = numbers(twin.inputs[1])
        assert quantiser is not None
        assert real is not None
        limits = {tensor.tensor: tensor.limits for tensor in self.plan.tensors}
        shape = [1] * real.ndim
        if quantiser.axis is not None:
            shape[quantiser.axis] = -1
        info = np.iinfo(quantiser.dtype)
        narrow = limits.get(twin.inputs[1].name or "") if twin.inputs[1] is not None else None
        return Stored(
            quantiser.node.outputs[0].name or "",
            real,
            np.asarray(quantiser.scale).reshape(shape),
            np.asarray(quantiser.zero_point).reshape(shape),
            narrow or (int(info.min), int(info.max)),
        )

    def _checkpoint(self, index: int) -> Path:
        return self.context.scratch / f"block-{index}.npz"

    def _kept(self, index: int) -> dict[str, NDArray[Any]] | None:
        """Returns what an earlier run that was stopped found for a block."""
        if not self._checkpoint(index).is_file():
            return None
        with np.load(self._checkpoint(index), allow_pickle=False) as arrays:
            return {name: arrays[name] for name in arrays.files}


_ERROR = "left"


def _store(model: onnx_ir.Model, dequantised: str, integers: NDArray[Any]) -> None:
    """Replaces the stored integers behind a dequantised tensor, in place."""
    import onnx_ir as ir

    node = next(n for n in model.graph if n.outputs and n.outputs[0].name == dequantised)
    value = node.inputs[0]
    assert value is not None
    assert value.const_value is not None
    value.const_value = ir.tensor(integers.astype(value.const_value.numpy().dtype), name=value.name)


plugin = Adaround
