"""One model with its data, and every artifact that we and the peers make of it."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgewright.core.codec import decode_stored, encode
from edgewright.core.measurement import Quality
from edgewright.core.recipe import StepSpec
from edgewright.core.target import RunOptions
from edgewright.data import open_data
from edgewright.engine import registry
from edgewright.engine.execute import run_in_worker
from edgewright.errors import EdgewrightError
from edgewright.graph.load import load, tensor_specs
from edgewright.project.config import load_project
from edgewright.project.question import ask
from edgewright.runtimes import open_runner

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"
PROJECTS = {
    "kws": "keyword_spotting/edgewright.toml",
    "yolox": "yolox_nano/edgewright.toml",
    "fashion": "fashion_mnist/edgewright.toml",
    "mobilenet": "fashion_mnist/mobilenet.toml",
    "banking77": "banking77/edgewright.toml",
}
Feed = Mapping[str, NDArray[Any]]


@dataclass(frozen=True, slots=True)
class Point:
    """One artifact: who made it, for which runtime, and where it lies."""

    tool: str
    name: str
    runtime: str
    artifact: Path


@dataclass(slots=True)
class Bench:
    """One model, its data, and everything made of them so far; also the context of the steps it runs.

    Attributes:
        work: Everything is written below it.
        data: The project's `data.json`.
        metrics: The project's.
        original: Hub folder of the imported model.
        model: Hub folder of the cleaned-up model, opset raised: what every tool starts from.
        points: What was made.
        failures: What could not be made, and why.
        root: Folder of the project, for its functions.
    """

    work: Path
    data: Path
    metrics: tuple[str, ...]
    original: Path
    model: Path
    points: list[Point] = field(default_factory=list)
    failures: dict[str, str] = field(default_factory=dict)
    scratch: Path = Path()
    seed: int = 0
    root: Path = Path()

    def progress(self, fraction: float, note: str = "") -> None:
        """Steps report here; the benchmark shows nothing."""

    def folder(self, name: str) -> Path:
        path = Path(tempfile.mkdtemp(prefix="".join(c if c.isalnum() else "-" for c in name) + "-", dir=self.work))
        self.scratch = path / "scratch"
        self.scratch.mkdir()
        out = path / "out"
        out.mkdir()
        return out

    def step(self, group: str, spec: StepSpec, **inputs: Path) -> Path:
        out = self.folder(spec.name)
        registry.make(group, spec).run(inputs, out, self)
        return out

    def step_apart(self, group: str, spec: StepSpec, **inputs: Path) -> Path:
        """Runs a step in a process of its own, as a search does: runtimes that share one disturb each other."""
        out = self.folder(spec.name)
        request = {
            "group": group,
            "step": spec.name,
            "config": encode(registry.make(group, spec)),
            "inputs": {name: str(path) for name, path in inputs.items()},
            "out": str(out),
            "scratch": str(self.scratch),
            "root": str(self.root),
            "seed": self.seed,
        }
        run_in_worker(request, self.progress)
        return out

    def attempt(self, tool: str, name: str, runtime: str, make: Callable[[], Path]) -> None:
        """Adds what `make` returns, an artifact folder, or the reason why there is none."""
        started = time.perf_counter()
        try:
            self.points.append(Point(tool, name, runtime, make()))
        except Exception as error:  # a peer may fail in any way; the table says how
            text = error.message if isinstance(error, EdgewrightError) else str(error)
            self.failures[f"{tool} {name}"] = f"{type(error).__name__}: {' '.join(text.split())[:300]}"
        print(f"  {tool} {name} ({runtime}): {time.perf_counter() - started:.0f} s", flush=True)

    def feeds(self, split: str = "calibration") -> Iterator[dict[str, NDArray[Any]]]:
        """Yields the samples of a split one at a time, input name -> array with batch axis."""
        specs = tensor_specs(load(self.model))[0]
        for _, _, stacked in open_data(self.data, specs).batches(split, 1):
            yield {spec.name: stacked[spec.name] for spec in specs}


def prepare(model: str, work: Path) -> Bench:
    """Imports and cleans up the model of an example."""
    project = load_project(EXAMPLES / PROJECTS[model])
    request = ask(project, work)
    bench = Bench(work, Path(), tuple(request.quality.metrics), Path(), Path(), root=project.root)
    bench.original = bench.step("sources", request.source, **{k: v.path for k, v in request.model.items()})
    bench.data = request.data(tensor_specs(load(bench.original))[0]).path
    bench.model = bench.step("passes", StepSpec("clean-up"), model=bench.original)
    return bench


def evaluate(bench: Bench, split: str, limit: int | None) -> dict[Point, tuple[Quality, Path]]:
    """Quality of every point on `split` through its own runtime, and the folder with the outcomes per sample."""
    found: dict[Point, tuple[Quality, Path]] = {}
    config = {"split": split, "metrics": list(bench.metrics), "limit": limit}
    for point in bench.points:
        out = bench.step("measure", StepSpec("evaluate", config), artifact=point.artifact, data=bench.data)
        found[point] = decode_stored(Quality, (out / "quality.json").read_bytes()), out
    return found


def times(bench: Bench, threads: int, rounds: int, restarts: int = 4) -> dict[Point, NDArray[np.float64]]:
    """Milliseconds per run, [restarts * rounds], interleaved: in each round every point runs twice, the second timed.

    All sessions are opened anew `restarts` times, in another order, since where memory lands changes speed.
    """
    feeds = [feed for feed, _ in zip(bench.feeds(), range(8), strict=False)]
    found: dict[Point, list[float]] = {point: [] for point in bench.points}
    options = RunOptions(threads=threads)
    for restart in range(restarts):
        order = np.random.default_rng(restart).permutation(len(bench.points))
        with ExitStack() as stack:
            runners = [
                (bench.points[i], stack.enter_context(open_runner(bench.points[i].artifact, options))) for i in order
            ]
            for index in range(rounds + 3):
                feed = feeds[index % len(feeds)]
                for point, runner in runners:
                    runner.run(feed)
                    start = time.perf_counter()
                    runner.run(feed)
                    if index >= 3:
                        found[point].append((time.perf_counter() - start) * 1e3)
    return {point: np.asarray(values) for point, values in found.items()}
