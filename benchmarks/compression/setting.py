"""What every part of the benchmark works with: a project, its passes, its quality and its speed, through the cache."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from edgewright.core.codec import decode_stored
from edgewright.core.data import PairedDifference
from edgewright.core.measurement import Quality, Timing
from edgewright.core.recipe import StepSpec
from edgewright.engine.execute import Executor, Input, Result
from edgewright.project.config import Project, load_project
from edgewright.project.question import ask
from edgewright.runtimes._machine import local_device
from edgewright.search.imported import Imported
from edgewright.search.passes import PassRunner, Pricing
from edgewright.search.places import Place
from edgewright.search.trial import read
from edgewright.store.cache import Cache

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"
CLEAN_UP = StepSpec("clean-up")
HELD_OUT = 4000
"""Images of the training set that the example sets aside."""


@dataclass(frozen=True, slots=True)
class Options:
    """What was asked on the command line."""

    work: Path
    quick: bool = False
    threads: int = 1
    seed: int = 0


@dataclass(frozen=True, slots=True)
class Row:
    """One promise beside what came of it."""

    claim: str
    asked: str
    measured: str
    met: bool


@dataclass(frozen=True, slots=True)
class Judged:
    """Quality of one artifact on one split.

    Attributes:
        value: The first metric.
        difference: Against the reference where one was given, with its paired 95% interval.
    """

    value: float
    difference: PairedDifference | None
    folder: Result


class Setting:
    """One example project: everything it runs is a cached step, so that a benchmark that was stopped goes on."""

    def __init__(self, project: Project, options: Options) -> None:
        options.work.mkdir(parents=True, exist_ok=True)
        self.options = options
        self.project = project
        self._folder = tempfile.TemporaryDirectory(prefix="edgewright-")
        self.request = ask(project, Path(self._folder.name))
        seed = options.seed or project.file.seed
        self.executor = Executor(Cache(options.work / "cache"), project.root, local_device(), seed=seed, progress=_show)
        given = {**self.request.model, "data": self.request.data(())}
        self.original = self.executor.run("sources", self.request.source, given)
        self.data: Input = self.request.data(read(self.original, "import.json", Imported).inputs)

    def apply(self, passes: Sequence[StepSpec], model: Result | None = None) -> Result:
        """Runs passes on the imported model, or on `model`."""
        pricing = Pricing(StepSpec("onnxruntime"), self.options.threads, Place(self.executor.device))
        runner = PassRunner(self.executor, self.data, self.request.search.calibration_limit, pricing)
        return runner.run(model or self.original, passes)

    def compile(self, model: Result, target: str = "onnxruntime", fields: Mapping[str, Any] | None = None) -> Result:
        inputs = {"model": model.as_input(), "data": self.data}
        return self.executor.run("targets", StepSpec(target, fields or {}), inputs, lineage=model.lineage)

    def judge(self, artifact: Result, split: str = "test", reference: Judged | None = None) -> Judged:
        """Scores an artifact with the project's metrics, paired with `reference` where given."""
        config = {
            "split": split,
            "metrics": list(self.request.quality.metrics),
            "limit": 500 if self.options.quick else None,
            "threads": self.options.threads,
        }
        inputs = {"artifact": artifact.as_input(), "data": self.data}
        if reference is not None:
            inputs["reference"] = reference.folder.as_input()
        if self.request.code is not None:
            inputs["code"] = self.request.code
        made = self.executor.run("measure", StepSpec("evaluate", config), inputs)
        quality = decode_stored(Quality, (made.path / "quality.json").read_bytes())
        paired = quality.difference[0] if quality.difference else None
        return Judged(quality.figures[0].value, paired, made)

    def time(self, artifact: Result, reference: Result, seconds: float = 20.0) -> Timing:
        """Times two artifacts in turn; `.speedup` says how many times faster the first is, with its interval."""
        config = {"threads": self.options.threads, "batch": 1, "max_seconds": seconds, "target_width": 0.02}
        inputs = {"artifact": artifact.as_input(), "reference": reference.as_input(), "data": self.data}
        made = self.executor.run("measure", StepSpec("time", config), inputs)
        return read(made, "timing.json", Timing)


def open_setting(example: str, options: Options, **changes: Any) -> Setting:
    """Opens an example project, e.g. `fashion_mnist/edgewright.toml`; `changes` replace parts of its file."""
    project = load_project(EXAMPLES / example)
    return Setting(replace(project, file=replace(project.file, **changes)), options)


def training_images(options: Options) -> Path:
    """Writes the Fashion-MNIST images that the example does not hold out, shuffled; the files are ordered by class."""
    file = options.work / "fashion-train.npz"
    options.work.mkdir(parents=True, exist_ok=True)
    if not file.is_file():
        with np.load(Path(os.environ["EDGEWRIGHT_BENCH"]) / "fashion_mnist" / "fashion_mnist_train.npz") as arrays:
            order = np.random.default_rng(0).permutation(len(arrays["x"]))[HELD_OUT:]
            np.savez(file, x=arrays["x"][order], y=arrays["y"][order])
    return file


def _show(fraction: float, note: str) -> None:
    if note.startswith("epoch"):
        print(f"    {fraction:4.0%} {note}", flush=True)
