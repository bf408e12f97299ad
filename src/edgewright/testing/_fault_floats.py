"""Faults of import, conversion and clean-up: the candidate is another function in float already."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import onnx
from onnx import helper

from edgewright.core.parity import CLEAN_UP, CONVERSION, IMPORT
from edgewright.testing._fault_bench import CANDIDATE, Bench
from edgewright.testing._fault_plants import Plant, Truth, convs, digits_of, pick, store, weight


def _changed_model(bench: Bench, change: Callable[[onnx.ModelProto], None], source: str) -> None:
    """Writes the candidate made from a changed reference, with the models after import and after clean-up."""
    changed = onnx.ModelProto()
    changed.CopyFrom(onnx.load(bench.folder / "reference.onnx"))
    steps = bench.folder / CANDIDATE / "steps"
    for name in ("0-import", "1-clean-up"):
        (steps / name).mkdir(parents=True)
    if source == IMPORT:
        change(changed)
        onnx.save(changed, steps / "0-import" / "model.onnx")
        made = bench.run("clean-up", {}, steps / "0-import", "changed")
    else:
        onnx.save(changed, steps / "0-import" / "model.onnx")
        cleaned = onnx.load(bench.cleaned / "model.onnx")
        change(cleaned)
        made = bench.folder / ".work" / "changed"
        made.mkdir(parents=True, exist_ok=True)
        onnx.save(cleaned, made / "model.onnx")
    shutil.copyfile(made / "model.onnx", steps / "1-clean-up" / "model.onnx")
    bench.quantise(lambda plan: plan, model=made)
    if source == CONVERSION:
        shutil.rmtree(steps)


def import_attribute(bench: Bench, rng: np.random.Generator) -> Truth:
    """The import writes another attribute than the source has: an epsilon, or padding."""
    bench.write()
    layer = pick(rng, convs(bench))
    number = digits_of(layer)

    def change(model: onnx.ModelProto) -> None:
        for node in model.graph.node:
            if node.name == f"bn{number}":
                spread = float(weight(model, f"bn{number}.var").mean())
                _set(node, "epsilon", spread * 30)

    _changed_model(bench, change, IMPORT)
    return Truth(IMPORT, "different attribute", bench.network.layers[layer])


def import_weights(bench: Bench, rng: np.random.Generator) -> Truth:
    """The import turns the kernels of one convolution by a quarter, or the order of its channels."""
    return _other_weights(bench, rng, IMPORT)


def conversion_weights(bench: Bench, rng: np.random.Generator) -> Truth:
    """The same, in a conversion of which no intermediate model is at hand."""
    return _other_weights(bench, rng, CONVERSION)


def _other_weights(bench: Bench, rng: np.random.Generator, stage: str) -> Truth:
    bench.write()
    layer = pick(rng, convs(bench))
    order = rng.permutation(len(weight(bench.network.model, f"{layer}.weight")))
    name = f"{layer}.weight"
    _changed_model(bench, lambda model: store(model, name, weight(model, name)[order]), stage)
    return Truth(stage, "different weights", bench.network.layers[layer])


def wrong_folding(bench: Bench, rng: np.random.Generator) -> Truth:
    """Clean-up folds a batch norm and forgets its mean."""
    bench.write()
    layer = pick(rng, convs(bench))
    number = digits_of(layer)

    def change(model: onnx.ModelProto) -> None:
        given = bench.network.model
        ratio = weight(given, f"bn{number}.scale") / np.sqrt(weight(given, f"bn{number}.var") + 1e-3)
        name = f"conv{number}.weight_bias"
        shift = weight(given, f"bn{number}.mean") * ratio
        shift = shift + np.sign(rng.standard_normal(shift.shape)) * 2.0
        store(model, name, (weight(model, name) + shift).astype(np.float32))

    _changed_model(bench, change, CLEAN_UP)
    return Truth(CLEAN_UP, "different weights", bench.network.layers[layer])


def _set(node: onnx.NodeProto, name: str, value: Any) -> None:
    kept = [a for a in node.attribute if a.name != name]
    del node.attribute[:]
    node.attribute.extend([*kept, helper.make_attribute(name, value)])


FLOAT_PLANTS: Mapping[str, tuple[Plant, tuple[str, ...]]] = {
    "import attribute": (import_attribute, ("residual", "mobile", "audio")),
    "import weights": (import_weights, ("residual", "mobile", "detector", "audio")),
    "conversion weights": (conversion_weights, ("residual", "mobile", "detector", "audio")),
    "wrong folding": (wrong_folding, ("residual", "mobile", "detector", "audio")),
}
"""Kind of fault -> what plants it, and in which networks."""
