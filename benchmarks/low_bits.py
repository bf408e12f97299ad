"""Fewer bits for weights: what each technique of post-training quantisation brings back at 8 and at 4 bits.

    python benchmarks/low_bits.py --model fashion
    python benchmarks/low_bits.py --model banking77 --samples 400 --steps 200

Two parts. Weights in 8 or 4 bits with activations in 8: quantisers are computed in float32, so integer kernels play no
part. Weights-only, for models with matrix products: real `MatMulNBits` in ONNX Runtime, rounded to nearest or by GPTQ.
Judged on `tune` with the example's first metric; the interval is a paired bootstrap against float. SQNR is that of the
model's first output over all these samples, in decibels. Needs EDGEWRIGHT_BENCH.
"""

from __future__ import annotations

import argparse
import dataclasses
import tempfile
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from peers.bench import PROJECTS, Bench, prepare
from rich.console import Console
from rich.table import Table

from edgewright.core.codec import encode
from edgewright.core.recipe import StepSpec
from edgewright.data import open_data
from edgewright.errors import EdgewrightError
from edgewright.graph.load import load, tensor_specs
from edgewright.graph.schemes import find
from edgewright.measure._decisions import Finiteness, decide
from edgewright.measure.metrics import make_metrics
from edgewright.passes._infer import open_infer

CONSOLE = Console(width=130)
EQUALISE, SMOOTH = StepSpec("equalise"), StepSpec("smooth")
FAST, FULL = (StepSpec("bias-correction", {"method": method}) for method in ("fast", "full"))


@dataclass(frozen=True, slots=True)
class Chain:
    """Passes before `static-int8`, range of weights, passes after it."""

    name: str
    before: tuple[StepSpec, ...] = ()
    weights: str = "mse"
    after: tuple[StepSpec, ...] = ()


@dataclass(frozen=True, slots=True)
class Judged:
    """What came of one model.

    Attributes:
        values: Contribution of every sample to the metric.
        figure: The metric.
        outputs: First output of every sample, [samples, ...].
    """

    values: NDArray[np.float64]
    figure: float
    outputs: NDArray[np.float64]


@dataclass(slots=True)
class Recorder:
    """A model run by ONNX Runtime with the face of a runner; keeps the first output."""

    model: Path
    integers: bool
    inputs: tuple[Any, ...] = ()
    outputs: tuple[Any, ...] = ()
    kept: list[NDArray[Any]] = field(default_factory=list)
    _infer: Any = None

    def __post_init__(self) -> None:
        loaded = load(self.model)
        self.inputs, self.outputs = tensor_specs(loaded)
        self._infer = open_infer(loaded, integers=self.integers, threads=1)

    def run(self, inputs: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
        found = dict(self._infer({spec.name: inputs[spec.name] for spec in self.inputs}))
        self.kept.append(found[self.outputs[0].name])
        return found

    def operator_times(self) -> tuple[()]:
        return ()


def chains(steps: int, transformer: bool) -> tuple[Chain, ...]:
    """The ladder, a technique at a time; `smooth` stands in for `equalise` where there is no convolution."""
    adaround, first = StepSpec("adaround", {"steps": steps}), SMOOTH if transformer else EQUALISE
    return (
        Chain("minmax", weights="minmax"),
        Chain("mse"),
        Chain(f"{first.name} > mse", (first,)),
        Chain("mse > fast bias correction", after=(FAST,)),
        Chain("mse > full bias correction", after=(FULL,)),
        Chain(f"{first.name} > mse > full bias correction", (first,), after=(FULL,)),
        Chain("mse > adaround", after=(adaround,)),
        Chain(f"{first.name} > mse > adaround > fast bias correction", (first,), after=(adaround, FAST)),
    )


def build(bench: Bench, chain: Chain, bits: int) -> Path:
    """Runs the passes of a chain outside of any search."""
    model = bench.model
    for spec in chain.before:
        model = bench.step("passes", spec, model=model, data=bench.data, statistics=_statistics(bench, model))
    start = model
    scheme = dataclasses.replace(find("generic-u8s8"), name=f"generic-u8s{bits}", weight_bits=bits)
    spec = StepSpec("static-int8", {"scheme": encode(scheme), "weights": chain.weights})
    model = bench.step("passes", spec, model=start, statistics=_statistics(bench, start))
    for spec in chain.after:
        model = bench.step("passes", spec, model=model, data=bench.data, float=start)
    return model


def _statistics(bench: Bench, model: Path) -> Path:
    return bench.step("passes", StepSpec("calibrate", {"channels": True}), model=model, data=bench.data)


def judge(bench: Bench, model: Path, samples: int, *, integers: bool = False) -> Judged:
    """Runs the samples of `tune` and scores them."""
    recorder = Recorder(model, integers)
    data = open_data(bench.data, recorder.inputs)
    metric = make_metrics(bench.metrics[:1], data.root)[0]
    decided = decide(recorder, data, "tune", 16, samples, Finiteness())
    values = [metric.contribution(decision, sample.label) for sample, decision in decided]
    outputs = np.concatenate(recorder.kept)[: len(values)].astype(np.float64)
    return Judged(np.asarray(values, np.float64), metric.reduce(values), outputs)


def sqnr(wanted: NDArray[np.float64], got: NDArray[np.float64]) -> float:
    """Signal over quantisation noise in decibels."""
    noise = float(np.square(wanted - got).sum())
    return 10 * float(np.log10(np.square(wanted).sum() / noise)) if noise else float("inf")


def interval(difference: NDArray[np.float64], seed: int = 0) -> tuple[float, float]:
    """Returns the paired 95% bootstrap interval of a mean difference, in points."""
    rng = np.random.default_rng(seed)
    means = [difference[rng.integers(0, len(difference), len(difference))].mean() for _ in range(1000)]
    low, high = np.percentile(means, [2.5, 97.5])
    return 100 * float(low), 100 * float(high)


@dataclass(slots=True)
class Rows:
    """The table as it grows, every row printed at once too."""

    bench: Bench
    samples: int
    base: Judged
    table: Table

    def add(self, kind: str, name: str, model: Path, seconds: float, *, integers: bool = False) -> None:
        found = judge(self.bench, model, self.samples, integers=integers)
        drop, (low, high) = 100 * (found.figure - self.base.figure), interval(found.values - self.base.values)
        noise = sqnr(self.base.outputs, found.outputs)
        size = sum(path.stat().st_size for path in model.iterdir() if path.name.startswith("model.onnx")) / 2**20
        cells = (kind, name, f"{found.figure:.2%}", f"{drop:+.2f} [{low:+.2f}, {high:+.2f}]", f"{noise:.1f}")
        self.table.add_row(*cells, f"{size:.2f}" if integers else "", f"{seconds:.0f}")
        CONSOLE.print("  " + "  ".join((*cells, f"{seconds:.0f} s")))

    def fail(self, kind: str, name: str, error: EdgewrightError) -> None:
        self.table.add_row(kind, name, "", error.message.splitlines()[0], "", "", "")
        CONSOLE.print(f"  {kind}  {name}: {error.message.splitlines()[0]}")


def activations_too(rows: Rows, steps: int, transformer: bool, bits: tuple[int, ...]) -> None:
    """Weights in few bits, activations in 8."""
    for width in bits:
        for chain in chains(steps, transformer):
            start = time.perf_counter()
            try:
                model = build(rows.bench, chain, width)
            except EdgewrightError as error:
                rows.fail(f"W{width}A8", chain.name, error)
                continue
            rows.add(f"W{width}A8", chain.name, model, time.perf_counter() - start)


def weights_only(rows: Rows, block: int) -> None:
    """Weights in few bits, activations in float."""
    for bits in (8, 4):
        for method in ("round", "gptq"):
            start = time.perf_counter()
            spec = StepSpec("weights-only", {"bits": bits, "method": method, "block": block})
            try:
                model = rows.bench.step("passes", spec, model=rows.bench.model, data=rows.bench.data)
            except EdgewrightError as error:
                rows.fail(f"weights int{bits}", method, error)
                continue
            rows.add(
                f"weights int{bits}", f"{method}, blocks of {block}", model, time.perf_counter() - start, integers=True
            )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", choices=("fashion", "mobilenet", "kws", "banking77"), default="fashion")
    parser.add_argument("--samples", type=int, default=1000, help="judge on at most so many samples of tune")
    parser.add_argument("--steps", type=int, default=200, help="of adaround, per block")
    parser.add_argument("--bits", type=int, nargs="+", default=[8, 4], help="of weights, with activations in 8")
    parser.add_argument("--block", type=int, default=32, help="inputs that share a scale in weights-only")
    chosen = parser.parse_args()
    assert chosen.model in PROJECTS
    table = Table(title=f"{chosen.model}: fewer bits for weights")
    with tempfile.TemporaryDirectory(prefix="edgewright-low-bits-") as name:
        bench = prepare(chosen.model, Path(name))
        base = judge(bench, bench.model, chosen.samples)
        for column in ("bits", "what", f"{bench.metrics[0]} (tune)", "points against float", "SQNR dB", "MiB", "s"):
            table.add_column(column)
        table.add_row("float", "", f"{base.figure:.2%}", "", "", "", "")
        rows = Rows(bench, chosen.samples, base, table)
        ops = [node.op_type for node in load(bench.model).graph]
        if "MatMul" in ops:
            weights_only(rows, chosen.block)
        activations_too(rows, chosen.steps, "Conv" not in ops, tuple(chosen.bits))
        CONSOLE.print(table)
        CONSOLE.print(f"{len(base.values)} samples of tune, {chosen.steps} steps of adaround per block")


if __name__ == "__main__":
    main()
