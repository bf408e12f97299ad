"""Inputs and the answers of the model to them, for the script that proves the package on macOS."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from edgewright.core.tensors import TensorSpec
from edgewright.targets._coreml.image import Image
from edgewright.targets._coreml.prepare import Prepared
from edgewright.targets._feed import Feed, synthetic

SAMPLES = 4
FILE, SCRIPT = "golden.npz", "prove_on_mac.py"


def golden(
    prepared: Prepared, declared: Sequence[TensorSpec], images: Mapping[str, Image], data: Path | None
) -> dict[str, NDArray[Any]]:
    """Returns arrays by key: `NUMBER/in/NAME` and `NUMBER/out/NAME`, tensors as the package takes and gives them.

    An image is stored as `NUMBER/image/NAME`: pixels [height, width] or [height, width, channels], red first.

    Args:
        prepared: The model as it was converted; it is run by PyTorch, through the bridge.
        declared: Inputs of the model itself.
        images: Inputs that the package takes as images.
        data: A `data.json`, or None for synthetic inputs.
    """
    from edgewright.graph.bridge import run, to_torch

    module = to_torch(prepared.model).eval()
    takes = [v.name or "" for v in _inputs(prepared.model)]
    gives = [value.name or "" for value in prepared.model.graph.outputs]
    arrays: dict[str, NDArray[Any]] = {}
    for number, feed in enumerate(_feeds(declared, prepared.inputs, data)):
        fed, pixels = {}, {}
        for spec, own, name in zip(declared, prepared.inputs, takes, strict=True):
            fed[name] = feed[spec.name].astype(own.dtype)
            if spec.name in images:
                pixels[own.name] = images[spec.name].pixels(fed[name])
                fed[name] = images[spec.name].planes(pixels[own.name])
        found = run(module, fed)
        for own, name in zip(prepared.inputs, takes, strict=True):
            key = f"{number}/image/{own.name}" if own.name in pixels else f"{number}/in/{own.name}"
            arrays[key] = pixels.get(own.name, fed[name])
        arrays.update({f"{number}/out/{o.name}": found[n] for o, n in zip(prepared.outputs, gives, strict=True)})
    return arrays


def write_golden(arrays: Mapping[str, NDArray[Any]], out: Path) -> tuple[str, ...]:
    """Writes the arrays and the script beside them; returns both names."""
    np.savez_compressed(out / FILE, **arrays)  # type: ignore[arg-type]
    source = Path(__file__).with_name("_prove_on_mac.py")
    (out / SCRIPT).write_text(source.read_text())
    return SCRIPT, FILE


def _inputs(model: ir.Model) -> list[ir.Value]:
    return [v for v in model.graph.inputs if v.name not in model.graph.initializers]


def _feeds(declared: Sequence[TensorSpec], own: Sequence[TensorSpec], data: Path | None) -> Iterator[Feed]:
    fixed = [TensorSpec(d.name, d.dtype, o.shape) for d, o in zip(declared, own, strict=True)]
    if data is None:
        yield from (_shifted(synthetic(fixed), number) for number in range(SAMPLES))
        return
    from edgewright.data import open_data

    opened = open_data(data, declared)
    size = int(fixed[0].shape[0]) if fixed and fixed[0].shape else 1
    split = "test" if "test" in opened.splits else opened.splits[0]
    for _, _, tensors in opened.batches(split, size, limit=SAMPLES * size):
        if all(tensors[spec.name].shape == spec.shape for spec in fixed):
            yield tensors


def _shifted(feed: Feed, number: int) -> Feed:
    """Makes another synthetic sample of one: floats in another order."""
    rng = np.random.default_rng(number)
    return {
        name: rng.permutation(array.reshape(-1)).reshape(array.shape) if array.dtype.kind == "f" else array
        for name, array in feed.items()
    }
