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
from edgewright.runtimes._remote import open_remote, this_interpreter

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
        out = self.bench.step_apart("measure", StepSpec("evaluate", config), **inputs)
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
    with open_remote(artifact, RunOptions(threads=1), this_interpreter()) as runner:
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


@dataclass(slots=True)
class Comparison:
    """All rows of one model.

    Attributes:
        bench: The model and its data.
        judge: Scores artifacts.
        passes: Fields of `static-int8` beside the scheme.
        notes: Name of a row -> its last columns.
    """

    bench: Bench
    judge: Judge
    passes: Mapping[str, Any]
    notes: dict[str, tuple[str, ...]] = field(default_factory=dict)

    def quantised(self, scheme: str, statistics: Path) -> Path:
        spec = StepSpec("static-int8", {"scheme": scheme, **self.passes})
        return self.bench.step("passes", spec, model=self.bench.model, statistics=statistics)

    def floats(self) -> Row:
        made = self.bench.step("targets", StepSpec("onnxruntime"), model=self.bench.model)
        base = self.judge.add("float, ONNX Runtime", made)
        made = self.bench.step("targets", StepSpec("litert"), model=self.bench.model)
        self.judge.add("float, LiteRT", made, base, base)
        return base

    def beside(self, name: str, model: Path, base: Row) -> Row | None:
        """Adds ONNX Runtime on a quantised model."""
        try:
            artifact = self.bench.step("targets", StepSpec("onnxruntime"), model=model)
        except EdgewrightError as error:
            CONSOLE.print(f"  {name}, ONNX Runtime: {error.message.splitlines()[0]}")
            return None
        row = self.judge.add(f"{name}, ONNX Runtime", artifact, base)
        equal, decibels = parity(self.bench, model, artifact, PARITY)
        self.notes[row.name] = (f"{equal:.1%}", f"{decibels:.1f}", "", "")
        return row

    def litert(self, name: str, model: Path, base: Row, same: Row | None) -> None:
        """Adds LiteRT on the same."""
        config = {"integer_only": "int8"} if name.endswith("-full") else {}
        try:
            artifact = self.bench.step("targets", StepSpec("litert", config), model=model)
        except EdgewrightError as error:
            CONSOLE.print(f"  {name}, LiteRT: {error.message}")
            return
        row = self.judge.add(f"{name}, LiteRT", artifact, base, same)
        equal, decibels = parity(self.bench, model, artifact, PARITY)
        size = (artifact / "model.tflite").stat().st_size / 2**20
        self.notes[row.name] = (f"{equal:.1%}", f"{decibels:.1f}", f"{size:.2f}", integer_share(artifact))

    def table(self, model: str) -> Table:
        figure = self.judge.rows[0].quality.figures[0]
        made = Table("", figure.metric, "minus float", "minus ONNX Runtime, same file")
        made.title = f"{model}, {figure.samples} samples"
        for title in ("same", "dB", "MiB", "integers"):
            made.add_column(title)
        for row in self.judge.rows:
            value = f"{row.quality.figures[0].value:.4f}"
            notes = self.notes.get(row.name, ("",) * 4)
            made.add_row(row.name, value, told(row.to_float), told(row.to_same), *notes)
        return made


def run(model: str, work: Path, schemes: tuple[str, ...], passes: Mapping[str, Any], limit: int | None) -> None:
    """Prints the table of one model."""
    bench = prepare(model, work)
    if model in ROWS:
        widen(bench, ROWS[model])
    statistics = bench.step("passes", StepSpec("calibrate", {"channels": True}), model=bench.model, data=bench.data)
    compared = Comparison(bench, Judge(bench, limit), passes)
    base = compared.floats()
    compared.beside("onnxruntime-u8s8", compared.quantised("onnxruntime-u8s8", statistics), base)
    for scheme in schemes:
        quantised = compared.quantised(scheme, statistics)
        compared.litert(scheme, quantised, base, compared.beside(scheme, quantised, base))
    CONSOLE.print(compared.table(model))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", choices=list(PROJECTS), default="kws")
    parser.add_argument("--schemes", default="litert-s8s8,litert-s8s8-full")
    parser.add_argument("--ranges", default="minmax", help="of activations, see static-int8")
    parser.add_argument("--weights", default="minmax", help="of weights, see static-int8")
    parser.add_argument("--keep-float", default="", help="node names, patterns or selectors, with commas between")
    parser.add_argument("--limit", type=int, default=None, help="samples to judge")
    said = parser.parse_args()
    with tempfile.TemporaryDirectory() as work:
        kept = tuple(name for name in said.keep_float.split(",") if name)
        passes = {"ranges": said.ranges, "weights": said.weights, "keep_float": kept}
        run(said.model, Path(work), tuple(said.schemes.split(",")), passes, said.limit)


if __name__ == "__main__":
    main()
