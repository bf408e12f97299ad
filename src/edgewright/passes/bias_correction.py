"""Bias correction: the bias of every quantised layer takes back the shift that rounding gave its mean."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from edgewright.core.codec import decode_stored, encode_json
from edgewright.core.step import Context
from edgewright.core.target import Plan
from edgewright.errors import ConfigError, Corrupt

if TYPE_CHECKING:
    import numpy as np
    import onnx_ir
    from numpy.typing import NDArray

    from edgewright.graph.bias import BiasedLayer
    from edgewright.passes._feeds import Feeds

    Shift = NDArray[np.float64]

METHODS = ("fast", "full")
CHECKPOINT = "shifts.jsonl"
NOTES_FILE = "bias-correction.json"


@dataclass(frozen=True, slots=True)
class BiasCorrection:
    """inputs["model"] (with quantisers), inputs["float"] (what it was made of), inputs["data"] -> the corrected model.

    The mean of every output channel is brought back to what it is in the float model (Nagel et al. 2019, section 4.2).
    `fast` makes one pass over the float model and takes back what the rounding of the weights shifts, for all layers
    at once. `full` goes layer after layer through the quantised model with the layers before already corrected, so
    that the rounding of activations counts too; every node still runs once per sample, as everything up to the layer is
    kept. Biases stay on the scale they have; a layer without a bias gets one. `bias-correction.json` says how far each
    layer was shifted and which were left alone, and why.

    Attributes:
        method: `fast` or `full`.
        split: Samples to take means over.
        limit: Use at most so many of them; with 64 `full` was worse than no correction on a ResNet-20, with 200 better.
    """

    name: ClassVar[str] = "bias-correction"
    version: ClassVar[int] = 2
    requires: ClassVar[tuple[str, ...]] = ("onnx", "onnx-ir", "onnxruntime")
    needs: ClassVar[tuple[str, ...]] = ("float", "data")
    quantises: ClassVar[bool] = True

    method: str = "full"
    split: str = "calibration"
    limit: int | None = 200

    def run(self, inputs: Mapping[str, Path], out: Path, context: Context) -> None:
        from edgewright.graph import bias, qdq
        from edgewright.graph.load import load, save
        from edgewright.graph.shapes import infer_shapes
        from edgewright.passes._feeds import feeds_of

        if self.method not in METHODS:
            raise ConfigError(f'method "{self.method}", expected "fast" or "full"', hint="correct the field `method`")
        model = infer_shapes(load(inputs["model"]))
        reference = infer_shapes(load(inputs["float"]))
        if qdq.is_quantised(reference.graph):
            raise ConfigError(
                "there is no float model to correct by: the model came with quantisers", hint="quantise the float model"
            )
        qdq.prepare(reference)
        layers, left = bias.biased_layers(model.graph, reference.graph)
        if not layers:
            why = next(iter(left.values()), "no operator has quantised weights")
            raise ConfigError(f"no layer to correct: {why}", hint="put `static-int8` before `bias-correction`")
        feeds = feeds_of(reference, inputs["data"], self.split, self.limit)
        if self.method == "fast":
            shifts = _fast(model, reference, layers, feeds)
        else:
            shifts = _full(model, reference, layers, feeds, context)
        largest = {name: float(abs(shift).max()) for name, shift in shifts.items()}
        (out / NOTES_FILE).write_bytes(encode_json({"largest_shift": largest, "left_alone": left}))
        save(infer_shapes(model), out)
        _write_plan(inputs["model"], out, model, layers)


def _fast(
    model: onnx_ir.Model, reference: onnx_ir.Model, layers: tuple[BiasedLayer, ...], feeds: Feeds
) -> dict[str, Shift]:
    from edgewright.graph.bias import add_shift, weight_shift

    names = {_input_of(layer): -1 if layer.node.op_type == "MatMul" else 1 for layer in layers}
    means = _means(reference, names, feeds)
    shifts = {layer: weight_shift(layer, means[_input_of(layer)]) for layer in layers}
    return {layer.node.name or "": add_shift(model.graph, layer, shift) for layer, shift in shifts.items()}


def _full(
    model: onnx_ir.Model, reference: onnx_ir.Model, layers: tuple[BiasedLayer, ...], feeds: Feeds, context: Context
) -> dict[str, Shift]:
    import numpy as np

    from edgewright.graph.bias import add_shift
    from edgewright.graph.pieces import Pieces
    from edgewright.passes._infer import open_infer

    shifts = _resume(model, layers, context.scratch / CHECKPOINT)
    done = len(shifts)
    rest = layers[done:]
    if not rest:
        return shifts
    means = _means(reference, {layer.reference.outputs[0].name or "": layer.axis for layer in rest}, feeds)
    pieces = Pieces(model, lambda piece: open_infer(piece, fuse=False), feeds, context.scratch)
    with (context.scratch / CHECKPOINT).open("a", encoding="utf-8") as checkpoint:
        for index, layer in enumerate(rest, done):
            value = layer.node.outputs[0]
            pieces.advance(layer.node)
            shift = np.asarray(means[layer.reference.outputs[0].name or ""] - pieces.mean(value, layer.axis))
            made = shifts[layer.node.name or ""] = add_shift(model.graph, layer, shift)
            if layer.adder is None:
                pieces.shift(value, layer.axis, made)
            checkpoint.write(json.dumps([layer.node.name, shift.tolist()]) + "\n")
            checkpoint.flush()
            context.progress((index + 1) / len(layers), f"layer {index + 1} of {len(layers)}")
    return shifts


def _resume(model: onnx_ir.Model, layers: tuple[BiasedLayer, ...], checkpoint: Path) -> dict[str, Shift]:
    """Applies the shifts of an earlier run that was stopped, and returns what was really added."""
    import numpy as np

    from edgewright.graph.bias import add_shift

    shifts: list[tuple[str, Shift]] = []
    lines = checkpoint.read_text(encoding="utf-8").splitlines() if checkpoint.is_file() else []
    for line in lines:
        try:
            name, numbers = json.loads(line)
        except ValueError:  # the run was stopped while it wrote this line
            break
        shifts.append((name, np.asarray(numbers, np.float64)))
    checkpoint.write_text("".join(f"{json.dumps([name, shift.tolist()])}\n" for name, shift in shifts))
    found = zip(layers, shifts, strict=False)
    return {name: add_shift(model.graph, layer, shift) for layer, (name, shift) in found}


def _means(reference: onnx_ir.Model, axes: Mapping[str, int], feeds: Feeds) -> dict[str, Shift]:
    from edgewright.graph.channels import gather_channels, with_channels
    from edgewright.passes._infer import open_infer

    found = gather_channels(open_infer(with_channels(reference, axes)), feeds)
    return {name: figures.mean for name, figures in found.items()}


def _input_of(layer: BiasedLayer) -> str:
    data = layer.reference.inputs[0]
    return (data.name if data is not None else "") or ""


def _write_plan(source: Path, out: Path, model: onnx_ir.Model, layers: tuple[BiasedLayer, ...]) -> None:
    """Carries the plan, or reads one from the model; integer biases that layers got anew are added to it."""
    from edgewright.graph import bias, qdq
    from edgewright.graph.load import PLAN_FILE

    path = source / PLAN_FILE
    try:
        plan = decode_stored(Plan, path.read_bytes()) if path.is_file() else qdq.read_plan(model.graph)
    except ValueError as error:
        raise Corrupt(f"{path}: {error}", hint="remove it and run again") from error
    known = {tensor.tensor for tensor in plan.tensors}
    made = (bias.made_bias(layer) for layer in layers)
    added = tuple(tensor for tensor in made if tensor is not None and tensor.tensor not in known)
    (out / PLAN_FILE).write_bytes(encode_json(replace(plan, tensors=(*plan.tensors, *added))))


plugin = BiasCorrection
