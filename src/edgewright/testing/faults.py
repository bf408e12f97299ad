"""Planted faults: networks that lost accuracy for exactly one known reason, made by seed over cause, layer and network.

`generate` writes each case into a folder of its own: the reference, labelled data, the project, the candidate and,
where the fault lies there, the project that the candidate is deployed with. What was planted is known, so that
whatever explains a loss of accuracy can be scored; and `Case.score` says whether a repair repairs it.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgewright.core.measurement import Device
from edgewright.core.variant import adds_in_32_bits
from edgewright.errors import StepFailed
from edgewright.testing._fault_bench import CANDIDATE, DEPLOYED, PROJECT, REFERENCE, Bench, names_of
from edgewright.testing._fault_data import TEST, Samples
from edgewright.testing._fault_floats import FLOAT_PLANTS
from edgewright.testing._fault_models import FAMILIES
from edgewright.testing._fault_pipelines import PIPELINE_PLANTS
from edgewright.testing._fault_plants import GRAPH_PLANTS, Truth

__all__ = ["KINDS", "Case", "Truth", "generate", "kinds_for", "plant"]

_PLANTS = {**GRAPH_PLANTS, **FLOAT_PLANTS, **PIPELINE_PLANTS}
KINDS = tuple(_PLANTS)
"""Kinds of fault; several kinds may share a cause."""
LEAST_DROP = 0.15
"""Share of the samples that a planted fault must cost; milder draws are drawn again."""
LEAST_GOOD = 0.75
"""Share of the samples that the reference gets right; a network that the plant ruined is drawn again."""
_NEAR_PIXELS = 80.0
_ATTEMPTS = 12


@dataclass(frozen=True, slots=True, eq=False)
class Case:
    """One planted fault.

    Attributes:
        folder: Holds `reference.onnx`, `candidate`, `edgewright.toml`, `data.npz` and perhaps `deployed.toml`.
        kind: One of `KINDS`.
        family: Of the network.
        truth: What was planted.
        samples: Raw samples and labels.
        good: Share of samples that the reference gets right.
        bad: The same for the candidate.
    """

    folder: Path
    kind: str
    family: str
    truth: Truth
    samples: Samples
    good: float
    bad: float

    @property
    def projects(self) -> tuple[str, str]:
        """Project files of the reference and of the candidate, by name."""
        return PROJECT, DEPLOYED if self.truth.deployed else PROJECT

    def score(self, model: Path, project: Path) -> float:
        """Returns the share of test samples that a model gets right with a project's pre- and post-processing."""
        return score(self.samples, model, project)

    def repaired(self, share: float) -> bool:
        """Says whether a share of right answers is as good as the reference's, within what INT8 may cost."""
        return share >= self.good - max(0.06, 0.2 * (self.good - self.bad))


def generate(seed: int, count: int, folder: Path, kinds: Sequence[str] = KINDS) -> Iterator[Case]:
    """Plants `count` faults, going through `kinds` in an order drawn by seed.

    Args:
        seed: Equal seeds give equal cases on equal machines.
        count: How many.
        folder: Each case gets a folder in it.
        kinds: Which kinds to plant.

    Raises:
        RuntimeError: A kind of fault would not do harm however often it was drawn.
    """
    rng = np.random.default_rng([seed, 0])
    order: list[str] = []
    for index in range(count):
        if not order:
            order = [kinds[i] for i in rng.permutation(len(kinds))]
        kind = order.pop()
        yield plant(kind, seed * 1000 + index, folder / f"{index:02d}-{kind.replace(' ', '-')}")


def plant(kind: str, seed: int, folder: Path) -> Case:
    """Plants one fault of `kind` in a network and a layer drawn by `seed`.

    Raises:
        RuntimeError: It would not do harm however often it was drawn.
    """
    make, families = _PLANTS[kind]
    for attempt in range(_ATTEMPTS):
        rng = np.random.default_rng([seed, attempt, 1])
        family = families[int(rng.integers(len(families)))]
        shutil.rmtree(folder, ignore_errors=True)
        bench = Bench(folder, FAMILIES[family](rng))
        try:
            truth = make(bench, rng)
        except StepFailed:
            continue
        shutil.rmtree(folder / ".work", ignore_errors=True)
        samples = bench.network.samples
        good = score(samples, folder / REFERENCE, folder / PROJECT)
        bad = score(samples, folder / CANDIDATE, folder / (DEPLOYED if truth.deployed else PROJECT))
        if good >= LEAST_GOOD and good - bad >= LEAST_DROP:
            return Case(folder, kind, family, truth, samples, good, bad)
    raise RuntimeError(f"a fault of kind {kind!r} did no harm in {_ATTEMPTS} draws from seed {seed}")


def kinds_for(device: Device) -> tuple[str, ...]:
    """Returns the kinds that do harm on a processor: with VNNI nothing saturates."""
    exact = adds_in_32_bits(device)
    return tuple(kind for kind in KINDS if not (exact and kind == "accumulator saturation"))


def score(samples: Samples, model: Path, project: Path) -> float:
    """Returns the share of right answers on the test part, through ONNX Runtime and the project's preprocessing."""
    from edgewright.pipeline import Preprocess
    from edgewright.project.config import load_project

    loaded = load_project(project)
    prepare = Preprocess.from_spec(loaded.file.preprocess, loaded.root)
    tensors = [next(iter(prepare(value).tensors.values())) for value in samples.values[TEST]]
    outputs = _run(model, np.stack(tensors))
    outputs = np.nan_to_num(outputs, nan=0.0, posinf=0.0, neginf=0.0)
    labels = samples.labels[TEST]
    if labels.ndim > 1:
        near = np.abs(outputs[:, :4] - labels[:, :4]).mean(1) < _NEAR_PIXELS
        told = (outputs[:, 4:].argmax(1) == labels[:, 4]) & (np.ptp(outputs[:, 4:], axis=1) > 0)
        return float((near & told).mean())
    truth, names = names_of(samples), loaded.labels
    return float(np.mean([names[c] == truth[y] for c, y in zip(outputs.argmax(1), labels, strict=True)]))


def _run(model: Path, values: NDArray[Any]) -> NDArray[Any]:
    """Runs an artifact as its runtime would, a model as plain ONNX Runtime would."""
    parts = np.array_split(values, 8)
    if (model / "artifact.json").is_file():
        from edgewright.runtimes import open_runner

        with open_runner(model) as runner:
            name, output = runner.inputs[0].name, runner.outputs[0].name
            return np.concatenate([runner.run({name: part})[output] for part in parts])
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level, options.intra_op_num_threads = 4, 1
    file = model / "model.onnx" if model.is_dir() else model
    session = onnxruntime.InferenceSession(str(file), options, providers=["CPUExecutionProvider"])
    name = session.get_inputs()[0].name
    return np.concatenate([session.run(None, {name: part})[0] for part in parts])
