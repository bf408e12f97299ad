"""INT8 on ExecuTorch, ONNX Runtime, OpenVINO and LiteRT, from one set of statistics and one plan per scheme.

    python benchmarks/int8_runtimes.py --model kws
    python benchmarks/int8_runtimes.py --model fashion --limit 500 --runtimes onnxruntime,executorch

Every model is calibrated once, and every runtime gets the plan of its own scheme, made of those statistics. All are
judged on the same samples of `test` (keyword spotting: all 1000 clips, 100 of which also calibrate), paired,
with 95% intervals: against float in ONNX Runtime, and against every other runtime. Two runtimes agree when they are at
most half a point apart, or when the interval of their difference holds zero; exits with 1 otherwise. `dB` is
the signal over the difference from the runtime's own quantised model computed as written. Needs EDGEWRIGHT_BENCH.

The work runs in a process of its own, which states its verdict last: one that vanishes before (killed for memory, or
ended by a library, whatever its exit status) is told with its reason, and the exit status is 2.
"""

from __future__ import annotations

import argparse
import platform
import signal
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from itertools import combinations
from pathlib import Path
from typing import Any

from litert_quality import ROWS, Judge, Row, parity, told, widen
from peers.bench import PROJECTS, Bench, prepare
from rich.console import Console
from rich.table import Table

from edgewright.core.measurement import PairedDifference
from edgewright.core.recipe import StepSpec
from edgewright.core.target import Scheme
from edgewright.engine import registry
from edgewright.errors import EdgewrightError
from edgewright.runtimes._machine import local_device

CONSOLE = Console(width=150)
RUNTIMES = ("onnxruntime", "openvino", "litert", "executorch")
HALF_A_POINT = 0.005
PARITY = 50
VERDICTS = {"agree": 0, "differ": 1}
NO_VERDICT = 2


def scheme_of(runtime: str, named: Mapping[str, str]) -> str:
    """Returns the scheme to quantise for `runtime` with: the one named, else its most promising one here."""
    if runtime in named:
        return named[runtime]
    schemes: tuple[Scheme, ...] = registry.make("targets", StepSpec(runtime)).schemes(local_device())  # type: ignore[attr-defined]
    return schemes[0].name


def agree(found: PairedDifference) -> bool:
    """Says whether a difference is at most half a point, or its interval holds zero."""
    return abs(found.value) <= HALF_A_POINT or found.low <= 0 <= found.high


def compiled(bench: Bench, runtime: str, scheme: str, statistics: Path, passes: Mapping[str, Any]) -> tuple[Path, Path]:
    """Returns the quantised model and the artifact."""
    spec = StepSpec("static-int8", {"scheme": scheme, **passes})
    model = bench.step("passes", spec, model=bench.model, statistics=statistics)
    return model, bench.step_apart("targets", StepSpec(runtime), model=model)


def run(model: str, work: Path, runtimes: Sequence[str], passes: Mapping[str, Any], said: argparse.Namespace) -> bool:
    """Prints the tables of one model; returns whether all runtimes agree."""
    bench = prepare(model, work)
    if model in ROWS:
        widen(bench, ROWS[model])
    named = dict(each.split("=", 1) for each in said.schemes.split(",") if each)
    statistics = bench.step("passes", StepSpec("calibrate", {"channels": True}), model=bench.model, data=bench.data)
    judge = Judge(bench, said.limit)
    base = judge.add("float, onnxruntime", bench.step_apart("targets", StepSpec("onnxruntime"), model=bench.model))
    notes: dict[str, str] = {}
    for runtime in runtimes:
        scheme = scheme_of(runtime, named)
        try:
            quantised, artifact = compiled(bench, runtime, scheme, statistics, passes)
        except EdgewrightError as error:
            CONSOLE.print(f"  {runtime}, {scheme}: {error.message.splitlines()[0]}")
            continue
        row = judge.add(f"{runtime}, {scheme}", artifact, base)
        notes[row.name] = f"{parity(bench, quantised, artifact, min(PARITY, said.limit or PARITY))[1]:.1f}"
    CONSOLE.print(qualities(model, judge.rows, notes))
    pairs = differences(judge)
    CONSOLE.print(pairwise(pairs))
    return len(judge.rows) == len(runtimes) + 1 and all(agree(found) for found in pairs.values())


def differences(judge: Judge) -> dict[tuple[str, str], PairedDifference]:
    """Returns the paired difference of every two quantised rows: the second minus the first."""
    found: dict[tuple[str, str], PairedDifference] = {}
    for first, second in combinations(judge.rows[1:], 2):
        quality, _ = judge.quality(second.artifact, first.outcomes)
        found[first.name, second.name] = quality.difference[0]
    return found


def qualities(model: str, rows: Sequence[Row], notes: Mapping[str, str]) -> Table:
    figure = rows[0].quality.figures[0]
    made = Table("", figure.metric, "minus float", "dB", title=f"{model}, {figure.samples} samples")
    for row in rows:
        made.add_row(row.name, f"{row.quality.figures[0].value:.4f}", told(row.to_float), notes.get(row.name, ""))
    return made


def pairwise(pairs: Mapping[tuple[str, str], PairedDifference]) -> Table:
    made = Table("first", "second", "second minus first", "agree")
    for (first, second), found in pairs.items():
        made.add_row(first, second, told(found), "yes" if agree(found) else "NO")
    return made


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", choices=list(PROJECTS), default="kws")
    parser.add_argument("--runtimes", default=",".join(RUNTIMES))
    parser.add_argument("--schemes", default="", help="e.g. onnxruntime=onnxruntime-u8s7; others: their most promising")
    parser.add_argument("--ranges", default="minmax", help="of activations, see static-int8")
    parser.add_argument("--weights", default="minmax", help="of weights, see static-int8")
    parser.add_argument("--keep-float", default="", help="node names, patterns or selectors, with commas between")
    parser.add_argument("--limit", type=int, default=None, help="samples to judge")
    parser.add_argument("--verdict", type=Path, default=None, help=argparse.SUPPRESS)
    said = parser.parse_args()
    sys.exit(watched(sys.argv) if said.verdict is None else work(said))


def work(said: argparse.Namespace) -> int:
    """Compares, and writes `agree` or `differ` to the file of the verdict once everything is printed."""
    kept = tuple(name for name in said.keep_float.split(",") if name)
    passes = {"ranges": said.ranges, "weights": said.weights, "keep_float": kept}
    CONSOLE.print(platform.processor() or platform.machine())
    with tempfile.TemporaryDirectory() as folder:
        same = run(said.model, Path(folder), said.runtimes.split(","), passes, said)
    verdict = "agree" if same else "differ"
    CONSOLE.print(f"verdict: {verdict}")
    said.verdict.write_text(verdict)
    return VERDICTS[verdict]


def watched(command: Sequence[str]) -> int:
    """Runs the comparison in another process; returns the exit status that its verdict stands for."""
    signal.signal(signal.SIGTERM, lambda number, _: sys.exit(128 + number))  # takes the other process along
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "verdict"
        status = subprocess.run([sys.executable, *command, "--verdict", str(file)], check=False).returncode
        verdict = file.read_text() if file.is_file() else ""
    if verdict in VERDICTS and status == VERDICTS[verdict]:
        return status
    for stream in (sys.stdout, sys.stderr):
        print(f"no result: {ending(status)} {'after its' if verdict else 'before a'} verdict", file=stream, flush=True)
    return NO_VERDICT


def ending(status: int) -> str:
    """Says how a process ended."""
    if status >= 0:
        return f"the comparison ended with exit status {status}"
    name = signal.Signals(-status).name
    return f"the comparison was ended by {name}" + (" (out of memory?)" if name == "SIGKILL" else "")


if __name__ == "__main__":
    main()
