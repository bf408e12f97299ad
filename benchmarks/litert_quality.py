"""Quality of integer LiteRT files beside ONNX Runtime, from one set of statistics and one plan per scheme.

    python benchmarks/litert_quality.py --model kws
    python benchmarks/litert_quality.py --model fashion --limit 2000 --schemes litert-s8s8,litert-s16s8

Every model is calibrated once. Each scheme's plan is applied once; the same file of ONNX with quantisers then goes to
LiteRT and to ONNX Runtime. Rows are judged on `test` (keyword spotting: all 1000 clips, the first 100 of which also
calibrate) against the float model in ONNX Runtime and against ONNX Runtime on the same quantised file, paired, with 95%
intervals. `same` is the share of samples with equal decisions, `dB` the signal over the difference of the first output,
both against the quantisers computed as written, in float32; `integers` says how many operators of the file compute in
integers. Needs EDGEWRIGHT_BENCH.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from peers.bench import PROJECTS, Bench, prepare
from rich.console import Console
from rich.table import Table

from edgewright.core.codec import decode_stored
from edgewright.core.measurement import PairedDifference, Quality
from edgewright.core.recipe import StepSpec
from edgewright.core.target import RunOptions
from edgewright.data import open_data
from edgewright.errors import EdgewrightError
from edgewright.formats.tflite.reader import parse
from edgewright.graph.load import load, tensor_specs
from edgewright.passes._infer import open_infer
from edgewright.runtimes import open_runner

CONSOLE = Console(width=150)
CONVERSIONS = ("QUANTIZE", "DEQUANTIZE")
ROWS = {"kws": "0:1000"}
"""Where the published figure is that of all samples."""
PARITY = 100


@dataclass(frozen=True, slots=True)
class Row:
    """One artifact, judged.

    Attributes:
        name: Scheme and runtime.
        artifact: Its folder.
        outcomes: Folder of its evaluation.
        to_float: Difference to float.
        to_same: Difference to ONNX Runtime on the same file; None for ONNX Runtime itself.
    """

    name: str
    artifact: Path
    outcomes: Path
    quality: Quality
    to_float: PairedDifference | None = None
    to_same: PairedDifference | None = None


@dataclass(slots=True)
class Judge:
    """Runs `evaluate` once per artifact and reference."""

    bench: Bench
    limit: int | None
    rows: list[Row] = field(default_factory=list)

    def quality(self, artifact: Path, reference: Path | None = None) -> tuple[Quality, Path]:
        config = {"split": "test", "metrics": list(self.bench.metrics), "limit": self.limit}
        inputs = {"artifact": artifact, "data": self.bench.data, **({"reference": reference} if reference else {})}
        out = self.bench.step("measure", StepSpec("evaluate", config), **inputs)
        return decode_stored(Quality, (out / "quality.json").read_bytes()), out

    def add(self, name: str, artifact: Path, base: Row | None = None, same: Row | None = None) -> Row:
        quality, outcomes = self.quality(artifact, base.outcomes if base else None)
        beside = self.quality(artifact, same.outcomes)[0].difference[0] if same else None
        row = Row(name, artifact, outcomes, quality, quality.difference[0] if base else None, beside)
        self.rows.append(row)
        CONSOLE.print(f"  {name}: {quality.figures[0].value:.4f}  {told(row.to_float)}  {told(row.to_same)}")
        return row


def told(found: PairedDifference | None) -> str:
    """Returns a paired difference in points."""
    return "" if found is None else f"{100 * found.value:+.2f} [{100 * found.low:+.2f}, {100 * found.high:+.2f}]"


def parity(bench: Bench, model: Path, artifact: Path, samples: int) -> tuple[float, float]:
    """Returns the share of samples whose largest output is the same, and decibels, against the plan as written."""
    loaded = load(model)
    specs, outputs = tensor_specs(loaded)
    infer, name = open_infer(loaded, integers=False, threads=1), outputs[0].name
    wanted: list[NDArray[Any]] = []
    got: list[NDArray[Any]] = []
    with open_runner(artifact, RunOptions(threads=1)) as runner:
        for count, (_, _, stacked) in enumerate(open_data(bench.data, specs).batches("test", 1)):
            if count == samples:
                break
            feed = {spec.name: stacked[spec.name] for spec in specs}
            wanted.append(np.asarray(infer(feed)[name], np.float64))
            got.append(np.asarray(runner.run(feed)[name], np.float64))
    signal, noise = (
        sum(float((a**2).sum()) for a in wanted),
        sum(float(((a - b) ** 2).sum()) for a, b in zip(wanted, got, strict=True)),
    )
    same = np.mean([int(a.argmax()) == int(b.argmax()) for a, b in zip(wanted, got, strict=True)])
    return float(same), 10 * float(np.log10(signal / noise)) if noise else float("inf")


def integer_share(artifact: Path) -> str:
    """Returns how many operators of a file compute in integers, of how many, and which do not."""
    graph = parse((artifact / "model.tflite").read_bytes())
    kinds: dict[str, int] = {}
    total = 0
    for operator in graph.operators:
        if operator.op in CONVERSIONS:
            continue
        total += 1
        touched = [graph.tensors[n].dtype for n in (*operator.inputs[:1], *operator.outputs) if n >= 0]
        if "float32" in touched:
            kinds[operator.op] = kinds.get(operator.op, 0) + 1
    floats = ", ".join(f"{count} {op}" for op, count in sorted(kinds.items()))
    return f"{total - sum(kinds.values())}/{total}" + (f" (float: {floats})" if floats else "")


def widen(bench: Bench, rows: str) -> None:
    """Lets `test` take other rows of its file."""
    said = json.loads(bench.data.read_text())
    said["splits"]["test"]["rows"] = rows
    bench.data.write_text(json.dumps(said))


def run(model: str, work: Path, schemes: tuple[str, ...], passes: Mapping[str, Any], limit: int | None) -> None:
    """Prints the table of one model."""
    bench = prepare(model, work)
    if model in ROWS:
        widen(bench, ROWS[model])
    statistics = bench.step("passes", StepSpec("calibrate", {"channels": True}), model=bench.model, data=bench.data)
    judge, notes = Judge(bench, limit), {}
    base = judge.add("float, ONNX Runtime", bench.step("targets", StepSpec("onnxruntime"), model=bench.model))
    judge.add("float, LiteRT", bench.step("targets", StepSpec("litert"), model=bench.model), base, base)
    own = bench.step(
        "passes", StepSpec("static-int8", {"scheme": "onnxruntime-u8s8", **passes}), **_inputs(bench, statistics)
    )
    judge.add("onnxruntime-u8s8, ONNX Runtime", bench.step("targets", StepSpec("onnxruntime"), model=own), base)
    for scheme in schemes:
        quantised = bench.step(
            "passes", StepSpec("static-int8", {"scheme": scheme, **passes}), **_inputs(bench, statistics)
        )
        same = None
        try:
            same = judge.add(
                f"{scheme}, ONNX Runtime", bench.step("targets", StepSpec("onnxruntime"), model=quantised), base
            )
        except EdgewrightError as error:
            CONSOLE.print(f"  {scheme}, ONNX Runtime: {error.message.splitlines()[0]}")
        config = {"integer_only": "int8"} if scheme.endswith("-full") else {}
        try:
            artifact = bench.step("targets", StepSpec("litert", config), model=quantised)
        except EdgewrightError as error:
            CONSOLE.print(f"  {scheme}, LiteRT: {error.message}")
            continue
        row = judge.add(f"{scheme}, LiteRT", artifact, base, same)
        equal, decibels = parity(bench, quantised, artifact, PARITY)
        size = (artifact / "model.tflite").stat().st_size / 2**20
        notes[row.name] = (f"{equal:.1%}", f"{decibels:.1f}", f"{size:.2f}", integer_share(artifact))
    table = Table("", judge.rows[0].quality.figures[0].metric, "minus float", "minus ONNX Runtime, same file")
    for title in ("same", "dB", "MiB", "integers"):
        table.add_column(title)
    table.title = f"{model}, {judge.rows[0].quality.figures[0].samples} samples"
    for row in judge.rows:
        figure = f"{row.quality.figures[0].value:.4f}"
        table.add_row(row.name, figure, told(row.to_float), told(row.to_same), *notes.get(row.name, ("",) * 4))
    CONSOLE.print(table)


def _inputs(bench: Bench, statistics: Path) -> dict[str, Path]:
    return {"model": bench.model, "statistics": statistics}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", choices=list(PROJECTS), default="kws")
    parser.add_argument("--schemes", default="litert-s8s8,litert-s8s8-full")
    parser.add_argument("--ranges", default="minmax", help="of activations, see static-int8")
    parser.add_argument("--weights", default="minmax", help="of weights, see static-int8")
    parser.add_argument("--limit", type=int, default=None, help="samples to judge")
    said = parser.parse_args()
    with tempfile.TemporaryDirectory() as work:
        passes = {"ranges": said.ranges, "weights": said.weights}
        run(said.model, Path(work), tuple(said.schemes.split(",")), passes, said.limit)


if __name__ == "__main__":
    main()
