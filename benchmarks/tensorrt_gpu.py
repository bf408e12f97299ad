"""TensorRT beside PyTorch on an NVIDIA GPU: run, score and time.

    python benchmarks/tensorrt_gpu.py --model kws
    python benchmarks/tensorrt_gpu.py --model yolox --gpu rtx-4090 --limit 500

Per model: float32, float16 and INT8 (`tensorrt-s8s8`) engines, built here by the runtime; judged on `test` against
float32 in ONNX Runtime, paired, with 95% intervals; timed in turn (A B A B) beside the same network in PyTorch in
FP16, eager and under `torch.compile`, the network taken from the same ONNX file by the bridge. Times are of one
batch with its copies to and from the GPU, on both sides. The second start of every engine is timed too: it must come
from the cache. Needs EDGEWRIGHT_BENCH, a GPU with its driver, TensorRT (from pip or JetPack), and PyTorch
with CUDA; ends with status 3 and the reason where one is missing.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from litert_quality import Judge, Row, told
from numpy.typing import NDArray
from peers.bench import PROJECTS, Bench, Feed, prepare
from rich.console import Console
from rich.table import Table

from edgewright.core.recipe import StepSpec
from edgewright.device.timing.rounds import median_interval
from edgewright.engine.toolchain import version
from edgewright.graph.load import load, tensor_specs
from edgewright.runtimes import open_runner
from edgewright.runtimes.tensorrt import absent

CONSOLE = Console(width=150)
MISSING = 3
Call = Callable[[Feed], Any]
ENGINES = ("float32", "float16", "int8")


def why_not() -> str:
    """Returns why nothing can be measured here; empty when it can."""
    if reason := absent():
        return f"{reason}: run this on a machine with an NVIDIA GPU, its driver and TensorRT"
    if version("torch") is None:
        return "PyTorch is not installed: it is what TensorRT is compared with"
    import torch

    return "" if torch.cuda.is_available() else "this PyTorch has no CUDA: install the build for your CUDA version"


def artifacts(bench: Bench, gpu: str) -> dict[str, Path]:
    """Returns precision -> artifact; those the GPU does not have are left out, with the reason."""
    half = bench.step("passes", StepSpec("fp16"), model=bench.model)
    statistics = bench.step("passes", StepSpec("calibrate", {"channels": True}), model=bench.model, data=bench.data)
    spec = StepSpec("static-int8", {"scheme": "tensorrt-s8s8"})
    whole = bench.step("passes", spec, model=bench.model, statistics=statistics)
    found = {}
    for name, model in zip(ENGINES, (bench.model, half, whole), strict=True):
        bench.attempt("edgewright", name, "tensorrt", partial(target, bench, model, gpu))
        if bench.points and bench.points[-1].name == name:
            found[name] = bench.points[-1].artifact
    return found


def target(bench: Bench, model: Path, gpu: str) -> Path:
    """Compiles for the GPU."""
    return bench.step("targets", StepSpec("tensorrt", {"gpu": gpu}), model=model)


def torch_calls(bench: Bench) -> dict[str, Call]:
    """Returns the network in PyTorch, FP16 on the GPU: eager, and compiled."""
    import torch

    from edgewright.graph.bridge import to_torch

    model = load(bench.model)
    names = [spec.name for spec in tensor_specs(model)[0]]
    network = to_torch(model).half().cuda().eval()

    def call(module: Any) -> Call:
        def run(feed: Feed) -> Any:
            given = [torch.from_numpy(feed[name]).cuda() for name in names]
            with torch.inference_mode():
                found = module(*(each.half() if each.is_floating_point() else each for each in given))
            return [each.float().cpu().numpy() for each in found]

        return run

    compiled = torch.compile(network, mode="max-autotune")
    return {"PyTorch FP16": call(network), "PyTorch FP16, torch.compile": call(compiled)}


def timed(calls: dict[str, Call], feeds: Sequence[Feed], rounds: int) -> dict[str, NDArray[np.float64]]:
    """Returns milliseconds per call; in each round every call runs twice, the second timed."""
    found: dict[str, list[float]] = {name: [] for name in calls}
    for index in range(rounds + 10):
        feed = feeds[index % len(feeds)]
        for name, call in calls.items():
            call(feed)
            start = time.perf_counter()
            call(feed)
            if index >= 10:
                found[name].append((time.perf_counter() - start) * 1e3)
    return {name: np.asarray(values) for name, values in found.items()}


def score(bench: Bench, made: dict[str, Path], limit: int | None) -> dict[str, Row]:
    """Judges every engine against float32 in ONNX Runtime."""
    judge = Judge(bench, limit)
    base = judge.add("float32, ONNX Runtime", bench.step("targets", StepSpec("onnxruntime"), model=bench.model))
    return {name: judge.add(f"TensorRT {name}", path, base) for name, path in made.items()}


def run(model: str, work: Path, gpu: str, rounds: int, limit: int | None) -> None:
    """Prints the table of one model."""
    bench = prepare(model, work)
    made = artifacts(bench, gpu)
    rows = score(bench, made, limit)
    feeds = [feed for feed, _ in zip(bench.feeds(), range(8), strict=False)]
    with ExitStack() as stack:
        calls, starts = dict(torch_calls(bench)), {}
        for name, path in made.items():
            begun = time.perf_counter()
            runner = stack.enter_context(open_runner(path))
            starts[name] = time.perf_counter() - begun
            calls[f"TensorRT {name}"] = runner.run
        times = timed(calls, feeds, rounds)
    CONSOLE.print(table(model, times, rows, starts))


def table(model: str, times: dict[str, NDArray[np.float64]], rows: dict[str, Row], starts: dict[str, float]) -> Table:
    """Returns medians, ratios to torch.compile with their intervals, quality, and the start from the cache."""
    compiled = times["PyTorch FP16, torch.compile"]
    made = Table("", "ms", "speed beside torch.compile", "quality minus float32", "start from cache, s", title=model)
    for name, values in times.items():
        ratios = [float(each) for each in compiled / values]
        low, high = median_interval(ratios)
        row = rows.get(name.removeprefix("TensorRT "))
        speed = f"{np.median(ratios):.2f} [{low:.2f}, {high:.2f}]"
        start = starts.get(name.removeprefix("TensorRT "))
        made.add_row(
            name,
            f"{np.median(values):.3f}",
            speed,
            told(row.to_float) if row else "",
            f"{start:.2f}" if start is not None else "",
        )
    return made


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", choices=list(PROJECTS), default="kws")
    parser.add_argument("--gpu", default="", help="name of this GPU, as the target's field `gpu` takes it")
    parser.add_argument("--rounds", type=int, default=200)
    parser.add_argument("--limit", type=int, default=None, help="samples to judge")
    said = parser.parse_args()
    if reason := why_not():
        print(f"benchmarks/tensorrt_gpu.py: {reason}", file=sys.stderr)
        return MISSING
    with tempfile.TemporaryDirectory() as work:
        run(said.model, Path(work), said.gpu, said.rounds, said.limit)
    return 0


if __name__ == "__main__":
    sys.exit(main())
