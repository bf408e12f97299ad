"""Our search beside `onnxruntime.quantization`, NNCF, Olive and Neural Compressor, on one model.

    python benchmarks/peers --model kws
    python benchmarks/peers --model yolox --threads 2 --tools onnxruntime nncf

Every tool starts from the same cleaned-up model (opset raised) and the same calibration samples, every artifact runs
with the same number of threads, and all are timed in one interleaved run. Quality is that of the project's own
post-processing and metric on its `test` split. Ratios are to ONNX Runtime on the original float model. The last
column names one of our points on the same runtime that is neither worse nor slower than the peer beyond the paired
95% intervals; a peer without one dominates our front, and the exit code is 1.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
from pathlib import Path
from typing import Any

import nncf_tool
import onnxruntime_tool
import other_tools
import ours
from bench import PROJECTS, Bench, Point, evaluate, prepare, times
from dominance import answer, ratio
from rich.console import Console
from rich.table import Table

from edgewright.core.measurement import Quality
from edgewright.data import open_data
from edgewright.errors import EdgewrightError


def show(bench: Bench, judged: dict[Point, tuple[Quality, Path]], timing: dict[Point, Any], title: str) -> int:
    """Prints the table; returns how many peers dominate our front."""
    base = timing[bench.points[0]]
    table = Table(title=title)
    for column in ("runtime", "tool", "recipe", f"{bench.metrics[0]} [95%]", "ms", "speed-up [95%]", "answered by"):
        table.add_column(column)
    mine = [point for point in bench.points if point.tool in (ours.OURS, ours.ORIGINAL)]
    folders = {point: found[1] for point, found in judged.items()}
    root = open_data(bench.data).root
    dominating = 0
    for point in sorted(bench.points, key=lambda p: (p.runtime, p.tool != ours.ORIGINAL, p.tool != ours.OURS, p.tool)):
        figure = judged[point][0].figures[0]
        speed = ratio(base, timing[point])
        reply = "" if point in mine else answer(point, mine, folders, timing, bench.metrics[0], root)
        dominating += point not in mine and not reply
        verdict = reply if point in mine or reply else "DOMINATES OUR FRONT"
        quality = f"{figure.value:.4f} [{figure.low:.3f}, {figure.high:.3f}]"
        fast = f"{speed[0]:.2f} [{speed[1]:.2f}, {speed[2]:.2f}]"
        table.add_row(point.runtime, point.tool, point.name, quality, f"{min(timing[point]):.3f}", fast, verdict)
    Console(width=190).print(table)
    for name, reason in bench.failures.items():
        print(f"not made: {name}: {reason}")
    return dominating


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", choices=sorted(PROJECTS), required=True)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=15, help="times four restarts")
    parser.add_argument("--split", choices=("tune", "test"), default="test")
    parser.add_argument("--limit", type=int, help="judge on at most so many samples")
    parser.add_argument(
        "--tools", nargs="*", default=["onnxruntime", "nncf", "others"], choices=("onnxruntime", "nncf", "others")
    )
    parser.add_argument("--all", action="store_true", help="all our candidates, not only the fronts of the search")
    parser.add_argument("--no-accuracy-control", action="store_true", help="leave out NNCF's, which takes long")
    chosen = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="edgewright-peers-") as name:
        bench = prepare(chosen.model, Path(name))
        ours.add(bench, chosen.model, chosen.all)
        if "onnxruntime" in chosen.tools:
            onnxruntime_tool.add(bench)
        if "nncf" in chosen.tools:
            nncf_tool.add(bench, chosen.model == "banking77", not chosen.no_accuracy_control)
        if "others" in chosen.tools:
            other_tools.add(bench)
        judged = evaluate(bench, chosen.split, chosen.limit)
        timing = times(bench, chosen.threads, chosen.rounds)
        rounds = len(next(iter(timing.values())))
        title = f"{chosen.model}: {chosen.threads} thread(s), {rounds} rounds, load {os.getloadavg()[0]:.1f}"
        dominating = show(bench, judged, timing, title)
    print(f"{dominating} peer(s) dominate our front beyond the 95% intervals")
    return 1 if dominating else 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except EdgewrightError as error:
        sys.exit(f"{error.message}\n  fix: {error.hint}")
