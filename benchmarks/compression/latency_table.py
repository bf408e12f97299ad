"""Predicted latency of pruned networks against measured: three networks, float and INT8.

The step `channel-costs` fits its table to some forms of a network. Others, which the table never saw, are then run in
turn with the whole network, and what the table says of them relative to it is held against what was measured.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from setting import EXAMPLES, Options, Row

from edgewright.core.codec import decode_stored
from edgewright.core.costs import COSTS_FILE, CostTable
from edgewright.core.recipe import StepSpec
from edgewright.engine.execute import Executor, Input, Result
from edgewright.graph.load import load, tensor_specs
from edgewright.graph.pruning import find_groups, prepare
from edgewright.graph.shapes import bind_axes
from edgewright.measure.costs.probing import compiled, pruned, sizes_to_try
from edgewright.measure.costs.timing import side_by_side
from edgewright.project.config import load_project
from edgewright.project.question import ask
from edgewright.runtimes._machine import local_device
from edgewright.store.cache import Cache
from edgewright.store.files import digest_path
from edgewright.targets._feed import synthetic
from edgewright.targets.onnxruntime import OnnxRuntimeTarget

WITHIN = 0.10
SCHEME = "onnxruntime-u8s8-pairs"
ROUNDS = 24
FRESH_SEED = 99
NETWORKS = ("ResNet-20", "MobileNetV2", "YOLOX-nano")


@dataclass(slots=True)
class _Context:
    """What a target is given."""

    scratch: Path
    seed: int = 0

    def progress(self, fraction: float, note: str = "") -> None:
        pass


def run(options: Options) -> tuple[Row, ...]:
    """Measures, predicts, and prints every form."""
    options.work.mkdir(parents=True, exist_ok=True)
    executor = Executor(Cache(options.work / "cache"), EXAMPLES, local_device(), seed=options.seed)
    rows: list[Row] = []
    for network in NETWORKS[: 1 if options.quick else None]:
        model = _model(network, options)
        rows += [_held_against(network, model, scheme, executor, options) for scheme in ("", SCHEME)]
    return tuple(rows)


def _held_against(network: str, model: Path, scheme: str, executor: Executor, options: Options) -> Row:
    given = {"model": Input(model, digest_path(model))}
    config = {"threads": options.threads, "scheme": scheme}
    table = _table(executor.run("measure", StepSpec("channel-costs", config), given))
    forms, measured = _fresh(model, scheme, 2 if options.quick else 6, options)
    errors = [table.relative(sizes) / ratio - 1 for sizes, ratio in zip(forms, measured, strict=True)]
    title = f"{network} {'INT8' if scheme else 'float'}"
    shown = ", ".join(f"{ratio:.3f} ({error:+.1%})" for ratio, error in zip(measured, errors, strict=True))
    print(f"  {title}: {table.microseconds:.0f} us; measured (predicted): {shown}", flush=True)
    worst, mean = float(np.max(np.abs(errors))), float(np.mean(np.abs(errors)))
    found = f"worst {worst:.1%}, mean {mean:.1%} of {len(errors)} fresh forms; left out one by one {table.error:.1%}"
    return Row(f"latency predicted: {title}", f"within {WITHIN:.0%}", found, worst <= WITHIN)


def _fresh(
    path: Path, scheme: str, count: int, options: Options
) -> tuple[Sequence[Mapping[str, int]], Sequence[float]]:
    """Runs forms that no table was fitted to; returns their sizes and times relative to the whole network."""
    bound = bind_axes(prepare(load(path)), {})
    whole, _, _, _, *fresh = sizes_to_try(find_groups(bound), 4 + count, 8, FRESH_SEED)
    target = OnnxRuntimeTarget()
    with tempfile.TemporaryDirectory(prefix="edgewright-") as name:
        folder = Path(name)
        np.savez(folder / "feed.npz", **synthetic(tensor_specs(bound)[0]))
        artifacts = [
            compiled(pruned(bound, sizes), scheme, target, None, folder / str(index), _Context(folder)).artifact
            for index, sizes in enumerate((whole, *fresh))
        ]
        samples = [folder / "feed.npz"]
        _, ratios = side_by_side(artifacts, samples, options.threads, ROUNDS, "", lambda fraction, note: None)
    return fresh, ratios[1:]


def _table(made: Result) -> CostTable:
    return decode_stored(CostTable, (made.path / COSTS_FILE).read_bytes())


def _model(network: str, options: Options) -> Path:
    """Returns the hub model or file of a network."""
    if network == "YOLOX-nano":
        return Path(os.environ["EDGEWRIGHT_BENCH"]) / "yolox_nano" / "yolox_nano.onnx"
    file = "edgewright.toml" if network == "ResNet-20" else "mobilenet.toml"
    project = load_project(EXAMPLES / "fashion_mnist" / file)
    with tempfile.TemporaryDirectory(prefix="edgewright-") as name:
        request = ask(project, Path(name))
        executor = Executor(Cache(options.work / "cache"), project.root, local_device(), seed=project.file.seed)
        given = {**request.model, "data": request.data(())}
        return executor.run("sources", request.source, given).path
