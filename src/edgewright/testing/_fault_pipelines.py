"""Faults around the model: preprocessing that differs from what the model was trained with, labels in another order."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import onnx

from edgewright.core.parity import POSTPROCESSING, PREPROCESSING
from edgewright.testing._fault_bench import CANDIDATE, DEPLOYED, Bench, names_of, write_project
from edgewright.testing._fault_plants import Plant, Truth, store, weight

Tables = list[dict[str, Any]]


def _deployed(bench: Bench, tables: Tables) -> None:
    """Writes a healthy candidate, and the project it is deployed with."""
    bench.write()
    bench.quantise(lambda plan: plan)
    write_project(bench.folder / DEPLOYED, bench.network.samples, tables)


def _tables(bench: Bench) -> Tables:
    return [dict(table) for table in bench.network.samples.preprocess]


def channel_order(bench: Bench, rng: np.random.Generator) -> Truth:
    """The device turns RGB into BGR."""
    _deployed(bench, [{"op": "channel-order", "order": "bgr"}, *_tables(bench)])
    return Truth(PREPROCESSING, "channel order", deployed=True)


def input_scale(bench: Bench, rng: np.random.Generator) -> Truth:
    """The device scales by another factor, or not at all."""
    tables = _tables(bench)
    key = "scale" if "scale" in tables[0] else "by"
    tables[0][key] = 1.0 if rng.integers(2) else tables[0][key] / 255
    _deployed(bench, tables)
    return Truth(PREPROCESSING, "input scale", deployed=True)


def mean_and_std(bench: Bench, rng: np.random.Generator) -> Truth:
    """The device leaves out the mean, or takes another one."""
    tables = _tables(bench)
    wrong = [0.0] * 3 if rng.integers(2) else [float(v) for v in rng.uniform(0.9, 1.6, 3)]
    tables[0].update(mean=wrong, std=[1.0] * 3)
    _deployed(bench, tables)
    return Truth(PREPROCESSING, "mean and std", deployed=True)


def layout(bench: Bench, rng: np.random.Generator) -> Truth:
    """The device reshapes [height, width, 3] into [3, height, width] instead of turning it, or swaps the sides."""
    tables = _tables(bench)
    side = int(bench.network.samples.values.shape[1])
    other: Tables = [{"op": "reshape", "shape": [3, side, side]}, {"op": "transpose", "axes": [2, 1, 0]}]
    tables[-1] = other[int(rng.integers(2))]
    _deployed(bench, tables)
    return Truth(PREPROCESSING, "layout", deployed=True)


def model_takes_bgr(bench: Bench, rng: np.random.Generator) -> Truth:
    """The candidate was converted to take BGR and gets RGB."""
    return _other_input(bench, "channel order")


def model_takes_pixels(bench: Bench, rng: np.random.Generator) -> Truth:
    """The candidate was converted to take its input 255 times as large."""
    return _other_input(bench, "input scale")


def _other_input(bench: Bench, cause: str) -> Truth:
    """Quantises a reference whose first convolution takes other inputs, calibrated on those."""
    bench.write()
    given = onnx.ModelProto()
    given.CopyFrom(bench.network.model)
    changed = weight(given, "conv1.weight")
    tables = _tables(bench)
    if cause == "channel order":
        changed = changed[:, ::-1].copy()
        tables.insert(len(tables) - 1, {"op": "channel-order", "order": "bgr"})
    else:
        changed = changed / np.float32(255)
        tables.append({"op": "scale", "by": 255.0})
    store(given, "conv1.weight", changed)
    other = Bench(bench.folder / ".work" / "other", bench.network)
    other.write()
    onnx.save(given, other.folder / "reference.onnx")
    write_project(other.folder / "edgewright.toml", bench.network.samples, tables)
    other.quantise(lambda plan: plan)
    (other.folder / CANDIDATE).replace(bench.folder / CANDIDATE)
    return Truth(PREPROCESSING, cause)


def label_names(bench: Bench, rng: np.random.Generator) -> Truth:
    """The device's list of class names is in another order."""
    bench.write()
    bench.quantise(lambda plan: plan)
    samples = bench.network.samples
    names = names_of(samples)
    order = _moved(len(names), rng)
    write_project(bench.folder / DEPLOYED, samples, samples.preprocess, [names[i] for i in order])
    return Truth(POSTPROCESSING, "label order", deployed=True)


def class_order(bench: Bench, rng: np.random.Generator) -> Truth:
    """The candidate's outputs are in another order than the project's class names."""
    bench.write()
    model = onnx.load(bench.cleaned / "model.onnx")
    head = next(n for n in reversed(model.graph.node) if n.op_type == "Gemm")
    order = _moved(bench.network.samples.classes, rng)
    for name in head.input[1:]:
        store(model, name, weight(model, name)[order])
    made = bench.folder / ".work" / "ordered"
    made.mkdir(parents=True, exist_ok=True)
    onnx.save(model, made / "model.onnx")
    bench.quantise(lambda plan: plan, model=made)
    return Truth(POSTPROCESSING, "label order")


def _moved(count: int, rng: np.random.Generator) -> np.ndarray[Any, np.dtype[np.int64]]:
    """Returns an order in which hardly anything stays in its place."""
    while True:
        order = rng.permutation(count)
        if (order == np.arange(count)).mean() < 0.4:
            return order


PICTURES = ("residual", "mobile", "detector")
CLASSIFIERS = ("residual", "mobile", "transformer", "audio")
PIPELINE_PLANTS: Mapping[str, tuple[Plant, tuple[str, ...]]] = {
    "channel order": (channel_order, PICTURES),
    "input scale": (input_scale, (*PICTURES, "audio")),
    "mean and std": (mean_and_std, PICTURES),
    "layout": (layout, PICTURES),
    "model takes bgr": (model_takes_bgr, PICTURES),
    "model takes pixels": (model_takes_pixels, (*PICTURES, "audio")),
    "label names": (label_names, CLASSIFIERS),
    "class order": (class_order, CLASSIFIERS),
}
"""Kind of fault -> what plants it, and in which networks."""
