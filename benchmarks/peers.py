"""ONNX Runtime and OpenVINO, float and INT8, beside `onnxruntime.quantization` and NNCF with their defaults.

    python benchmarks/peers.py --model kws
    python benchmarks/peers.py --model yolox --threads 2

Every tool starts from the same cleaned-up model (opset raised) and the same calibration samples, every artifact runs
with the same number of threads, and all are timed in one interleaved run (A B C A B C). Quality is that of the
project's own post-processing and metric on its `test` split. Ratios are to ONNX Runtime on the original float model.
"""

from __future__ import annotations

import argparse
import os
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table

from edgewright.core.codec import decode_stored, encode, encode_json
from edgewright.core.measurement import Quality
from edgewright.core.recipe import StepSpec
from edgewright.core.target import Artifact, RunOptions
from edgewright.data import open_data
from edgewright.engine import registry
from edgewright.errors import EdgewrightError
from edgewright.graph.load import MODEL_FILE, load, tensor_specs
from edgewright.project.config import load_project
from edgewright.project.question import ask
from edgewright.runtimes import open_runner
from edgewright.runtimes._machine import local_device

EXAMPLES = Path(__file__).resolve().parent.parent / "examples"
PROJECTS = {"kws": "keyword_spotting", "yolox": "yolox_nano", "fashion": "fashion_mnist", "banking77": "banking77"}
Feed = Mapping[str, NDArray[Any]]


@dataclass(slots=True)
class Bench:
    """One model, its data, and everything made of them so far."""

    work: Path
    data: Path
    metrics: tuple[str, ...]
    model: Path
    artifacts: dict[str, Path] = field(default_factory=dict)
    failures: dict[str, str] = field(default_factory=dict)
    scratch: Path = Path()
    seed: int = 0

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

    def attempt(self, name: str, make: Callable[[], Path]) -> None:
        try:
            self.artifacts[name] = make()
        except Exception as error:  # a peer may fail in any way; the table says how
            text = error.message if isinstance(error, EdgewrightError) else str(error)
            self.failures[name] = f"{type(error).__name__}: {' '.join(text.split())[:160]}"

    def feeds(self) -> Iterator[dict[str, NDArray[Any]]]:
        specs = tensor_specs(load(self.model))[0]
        for _, _, stacked in open_data(self.data, specs).batches("calibration", 1):
            yield {spec.name: stacked[spec.name] for spec in specs}


def prepare(model: str, work: Path) -> tuple[Bench, Path]:
    """Imports and cleans up the model of an example; returns the bench and the original."""
    project = load_project(EXAMPLES / PROJECTS[model] / "edgewright.toml")
    request = ask(project, work)
    bench = Bench(work, Path(), tuple(request.quality.metrics), Path())
    original = bench.step("sources", request.source, **{k: v.path for k, v in request.model.items()})
    bench.data = request.data(tensor_specs(load(original))[0]).path
    bench.model = bench.step("passes", StepSpec("clean-up"), model=original)
    return bench, original


def ours(bench: Bench, original: Path) -> None:
    """Original and cleaned-up float, and our static INT8 with every scheme the targets name for this processor."""
    for target in ("onnxruntime", "openvino"):
        spec = StepSpec(target)
        bench.attempt(f"{target} float, original", lambda s=spec: bench.step("targets", s, model=original))
        bench.attempt(f"{target} float, clean-up", lambda s=spec: bench.step("targets", s, model=bench.model))
    statistics_ = bench.step("passes", StepSpec("calibrate"), model=bench.model, data=bench.data)
    for target in ("onnxruntime", "openvino"):
        for scheme in registry.make("targets", StepSpec(target)).schemes(local_device()):  # type: ignore[attr-defined]
            for ranges in ("minmax", "percentile"):
                config = {"scheme": encode(scheme), "ranges": ranges}
                name = f"Edgewright INT8 {scheme.name} {ranges}"
                bench.attempt(name, lambda t=target, c=config: _quantised(bench, t, c, statistics_))


def _quantised(bench: Bench, target: str, config: Mapping[str, Any], statistics_: Path) -> Path:
    model = bench.step("passes", StepSpec("static-int8", config), model=bench.model, statistics=statistics_)
    return bench.step("targets", StepSpec(target), model=model)


def onnxruntime_tool(bench: Bench) -> None:
    """`quantize_static` with its defaults but per-channel weights: U8S8 and S8S8, MinMax and Percentile."""
    from onnxruntime.quantization import CalibrationDataReader, CalibrationMethod, QuantType, quantize_static

    class Reader(CalibrationDataReader):  # type: ignore[misc]
        def __init__(self) -> None:
            self.feeds = bench.feeds()

        def get_next(self) -> dict[str, NDArray[Any]] | None:
            return next(self.feeds, None)

    def make(activation: Any, method: Any) -> Path:
        hub = bench.folder("ort-tool")
        quantize_static(
            str(bench.model / MODEL_FILE),
            str(hub / MODEL_FILE),
            Reader(),
            per_channel=True,
            activation_type=activation,
            weight_type=QuantType.QInt8,
            calibrate_method=method,
        )
        return bench.step("targets", StepSpec("onnxruntime"), model=hub)

    for method in (CalibrationMethod.MinMax, CalibrationMethod.Percentile):
        for name, activation in (("U8S8", QuantType.QUInt8), ("S8S8", QuantType.QInt8)):
            bench.attempt(f"quantize_static {name} {method.name}", lambda a=activation, m=method: make(a, m))


def nncf_tool(bench: Bench) -> None:
    """`nncf.quantize` with its defaults: on ONNX, run by ONNX Runtime; on OpenVINO, run by OpenVINO."""
    import nncf
    import onnx
    import openvino

    feeds = list(bench.feeds())

    def on_onnx() -> Path:
        hub = bench.folder("nncf-onnx")
        quantised = nncf.quantize(onnx.load(bench.model / MODEL_FILE), nncf.Dataset(feeds), subset_size=len(feeds))
        onnx.save(quantised, hub / MODEL_FILE)
        return bench.step("targets", StepSpec("onnxruntime"), model=hub)

    def on_openvino() -> Path:
        out = bench.folder("nncf-openvino")
        model = openvino.Core().read_model(bench.model / MODEL_FILE)
        quantised = nncf.quantize(model, nncf.Dataset(feeds), subset_size=len(feeds))
        openvino.save_model(quantised, out / "model.xml", compress_to_fp16=False)
        template = decode_stored(Artifact, (bench.artifacts["openvino float, clean-up"] / "artifact.json").read_bytes())
        (out / "artifact.json").write_bytes(encode_json(template))
        return out

    bench.attempt("NNCF on ONNX, ONNX Runtime", on_onnx)
    bench.attempt("NNCF on OpenVINO", on_openvino)


def qualities(bench: Bench, split: str, limit: int | None) -> dict[str, Quality]:
    """Quality of every artifact on `split`, each through its own runtime."""
    found: dict[str, Quality] = {}
    config = {"split": split, "metrics": list(bench.metrics), "limit": limit}
    for name, artifact in bench.artifacts.items():
        out = bench.step("measure", StepSpec("evaluate", config), artifact=artifact, data=bench.data)
        found[name] = decode_stored(Quality, (out / "quality.json").read_bytes())
    return found


def times(bench: Bench, threads: int, rounds: int) -> dict[str, list[float]]:
    """Milliseconds per run, interleaved: in each round every artifact runs once to warm its caches and once timed."""
    feeds = [feed for feed, _ in zip(bench.feeds(), range(8), strict=False)]
    found: dict[str, list[float]] = {name: [] for name in bench.artifacts}
    with ExitStack() as stack:
        options = RunOptions(threads=threads)
        runners = {n: stack.enter_context(open_runner(a, options)) for n, a in bench.artifacts.items()}
        for index in range(rounds + 3):
            feed = feeds[index % len(feeds)]
            for name, runner in runners.items():
                runner.run(feed)
                start = time.perf_counter()
                runner.run(feed)
                if index >= 3:
                    found[name].append((time.perf_counter() - start) * 1e3)
    return found


def show(bench: Bench, quality: Mapping[str, Quality], timing: Mapping[str, list[float]], threads: int) -> None:
    """Prints the table."""
    base = np.asarray(timing["onnxruntime float, original"])
    table = Table(title=f"{threads} thread(s), {len(base)} rounds, load {os.getloadavg()[0]:.1f}")
    for column in ("artifact", f"{bench.metrics[0]} [95%]", "median ms", "fastest ms", "speed-up"):
        table.add_column(column, justify="left" if column == "artifact" else "right")
    for name in bench.artifacts:
        figure, values = quality[name].figures[0], timing[name]
        ratio = statistics.median(base / np.asarray(values))
        shown = f"{figure.value:.4f} [{figure.low:.3f}, {figure.high:.3f}]"
        table.add_row(name, shown, f"{statistics.median(values):.3f}", f"{min(values):.3f}", f"{ratio:.2f}")
    for name, reason in bench.failures.items():
        table.add_row(name, "failed", "", "", reason)
    Console(width=150).print(table)
    print(", ".join(f"{name} {version(name)}" for name in ("onnxruntime", "openvino", "nncf", "onnx")))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", choices=sorted(PROJECTS), required=True)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=40)
    parser.add_argument("--split", choices=("tune", "test"), default="test")
    parser.add_argument("--limit", type=int, help="judge on at most so many samples")
    chosen = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="edgewright-peers-") as name:
        bench, original = prepare(chosen.model, Path(name))
        ours(bench, original)
        onnxruntime_tool(bench)
        nncf_tool(bench)
        quality = qualities(bench, chosen.split, chosen.limit)
        show(bench, quality, times(bench, chosen.threads, chosen.rounds), chosen.threads)


if __name__ == "__main__":
    main()
