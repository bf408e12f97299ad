"""Mixed precision beside NNCF's accuracy control: the same budget, the full evaluations each takes, and what comes out.

    python benchmarks/mixed_precision.py                 # YOLOX-nano in ONNX Runtime, at most one point of mAP50
    python benchmarks/mixed_precision.py --front         # every rung of the quality-speed front
    python benchmarks/mixed_precision.py --no-peer --samples 24
    python benchmarks/mixed_precision.py --model fashion --metrics agreement --drop 0.0025 --samples 1000 --any-speed

Both start from the same cleaned-up ONNX model and the same calibration samples and judge on the same samples with the
project's own metric. A full evaluation is one run over all validation samples, that of the original included; the runs
in which NNCF ranks its groups, and those in which ours measures sensitivity, are shown in the same unit.
Needs EDGEWRIGHT_BENCH.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from numpy.typing import NDArray
from peers.bench import EXAMPLES, PROJECTS
from rich.console import Console
from rich.table import Table

from edgewright.core.recipe import Candidate, Recipe, StepSpec
from edgewright.data import open_data
from edgewright.engine.execute import Executor
from edgewright.graph.load import MODEL_FILE, load, tensor_specs
from edgewright.graph.schemes import find
from edgewright.measure._decisions import Finiteness, _per_sample
from edgewright.measure.metrics import make_metrics
from edgewright.measure.metrics.agreement import Agreement
from edgewright.project.config import load_project
from edgewright.project.question import ask
from edgewright.runtimes._machine import local_device
from edgewright.search.imported import Imported
from edgewright.search.mixed import mixed_rungs, order_groups
from edgewright.search.operator_costs import operator_costs
from edgewright.search.repair import Best, Chain, inside
from edgewright.search.rungs import CLEAN_UP, Rung
from edgewright.search.trial import Trials, read
from edgewright.store.cache import Cache

CONSOLE = Console(width=150)
_SLOW = 10.0


@dataclass(frozen=True, slots=True)
class Found:
    """What came of one of the two.

    Attributes:
        name: Whose it is.
        quality: The metric on the validation samples.
        calls: How often the whole validation set was run, the original model and full INT8 included.
        runs: Everything else that was run to rank or measure groups, in the same unit.
        in_float: Operators in float that full INT8 has in integers.
        integers: Operators in integers of full INT8.
        seconds: Wall time; for ours without timing and profiling it would be less.
        note: What else is to be known.
    """

    name: str
    quality: float
    calls: int
    runs: float
    in_float: int
    integers: int
    seconds: float
    note: str = ""


class _Late(Exception):
    """The time for the peer is up."""


@dataclass(slots=True)
class Ours:
    """The search's own steps, with everything it evaluates on record."""

    trials: Trials
    target: StepSpec
    samples: int = 0
    tried: list[Candidate] = field(default_factory=list)

    def run(self, rung: Rung) -> Candidate:
        candidate = self.trials.run(rung, 1, 1)
        self.tried.append(candidate)
        CONSOLE.print(_line(candidate))
        return candidate


def prepare(work: Path, chosen: argparse.Namespace) -> Ours:
    """Imports the model and judges the original."""
    project = EXAMPLES / PROJECTS[chosen.model]
    request = ask(load_project(project), work)
    request = replace(
        request,
        search=replace(request.search, timing_seconds=chosen.seconds),
        quality=replace(request.quality, limit=chosen.samples, metrics=chosen.metrics or request.quality.metrics),
        budget=replace(request.budget, quality_drop=chosen.drop),
    )
    executor = Executor(Cache(work / "cache"), project.parent, local_device(), seed=0)
    imported = executor.run("sources", request.source, {**request.model, "data": request.data(())})
    data = request.data(read(imported, "import.json", Imported).inputs)
    size = len(open_data(data.path).dataset("tune"))
    ours = Ours(Trials(executor, request, imported, data), StepSpec("onnxruntime"), min(size, chosen.samples or size))
    ours.tried.append(ours.trials.judge_reference(ours.target, 1, 1))
    CONSOLE.print(_line(ours.tried[0]))
    return ours


def search(ours: Ours, chain: Chain, *, front: bool, any_speed: bool = False) -> Found:
    """Float, full INT8, then mixed precision."""
    start = time.monotonic()
    plain = ours.run(Rung("float", Recipe("float", (CLEAN_UP,)), ours.target))
    whole = ours.run(Rung("static-int8", chain.recipe(), ours.target))
    sensitivity = ours.trials.sensitivity(chain.recipe())
    if any_speed:
        slow = tuple(replace(each, microseconds=_SLOW * each.microseconds) for each in plain.operators)
        plain = replace(plain, operators=slow)
    costs = operator_costs(plain, whole, sensitivity.groups)
    for reason in costs.slower().values():
        CONSOLE.print(f"  {reason}")
    best = Best(chain, whole)
    if not inside(whole):
        best = _drive(ours, mixed_rungs(ours.target, best, plain, lambda recipe: sensitivity))
    calls, took = sum(each.measurement is not None for each in ours.tried), time.monotonic() - start
    if front:
        names = order_groups(costs).names
        for count in (1, 2, 4, 8, 12, 20, 32, 48):
            operators = [name for group in names[:count] for name in costs.groups[group].operators]
            ours.run(Rung("mixed", chain.recipe(tuple(operators), f"first {count} groups in float"), ours.target))
    groups = len(sensitivity.groups)
    CONSOLE.print(f"sensitivity of {groups} groups: {sensitivity.share:.0%} of the multiplications")
    runs = (sensitivity.share or 1.0) * groups * sensitivity.samples / ours.samples
    every = _integers(_proto(ours.trials.apply(chain.recipe()).path))
    kept = every - _integers(_proto(ours.trials.apply(best.candidate.recipe).path))
    note = best.candidate.recipe.title + ("" if inside(best.candidate) else "; outside the budget")
    return Found("ours", _quality(best.candidate), calls, runs, kept, every, took, note)


def _quality(candidate: Candidate) -> float:
    assert candidate.measurement is not None
    return candidate.measurement.tune.figures[0].value


def _proto(folder: Path) -> Any:
    import onnx

    return onnx.load(folder / MODEL_FILE)


def _integers(proto: Any) -> int:
    """Counts the operators whose first two inputs (or the only one) all come from quantisers."""
    made = {name for node in proto.graph.node if node.op_type == "DequantizeLinear" for name in node.output}
    others = [node for node in proto.graph.node if node.op_type not in ("QuantizeLinear", "DequantizeLinear")]
    return sum(all(name in made for name in node.input[:2]) and len(node.input) > 0 for node in others)


def _drive(ours: Ours, steps: Any) -> Best:
    answer = None
    while True:
        try:
            rung = steps.send(answer)
        except StopIteration as end:
            found: Best = end.value
            return found
        answer = ours.run(rung)


class _Session:
    """An ONNX Runtime session with the face of a Runner."""

    def __init__(self, model: Any, inputs: tuple[Any, ...], outputs: tuple[Any, ...]) -> None:
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.log_severity_level, options.intra_op_num_threads = 4, 1
        self._session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
        self.inputs, self.outputs = inputs, outputs

    def run(self, inputs: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
        names = [output.name for output in self.outputs]
        return dict(zip(names, self._session.run(names, dict(inputs)), strict=True))

    def operator_times(self) -> tuple[()]:
        return ()


@dataclass(slots=True)
class _Judge:
    """NNCF's validation function: the metric, and each sample's own value, by which it ranks groups of ONNX models."""

    ours: Ours
    data: Any
    metric: Any
    specs: tuple[tuple[Any, ...], tuple[Any, ...]]
    known: Mapping[int, tuple[Any, Any]]
    truth: dict[str, Any]
    deadline: float
    scores: list[tuple[float, int]] = field(default_factory=list)
    ranked: int = 0
    models: list[int] = field(default_factory=list)

    def __call__(self, proto: Any, feeds: Iterable[Any]) -> tuple[float, list[float]]:
        if time.monotonic() > self.deadline:
            raise _Late
        found = self.contributions(proto, feeds)
        score = self.metric.reduce(found)
        self.models.append(_integers(proto))
        if len(found) == self.ours.samples:
            self.scores.append((score, self.models[-1]))
            CONSOLE.print(f"  NNCF, full evaluation {len(self.scores)}: {score:.4f}, {self.models[-1]} in integers")
        else:
            self.ranked += len(found)
        return score, [self.metric.reduce([one]) for one in found]

    def decide(self, proto: Any, feeds: Iterable[Any]) -> list[tuple[str, Any]]:
        """Returns identity and decision of every sample."""
        session, found = _Session(proto.SerializeToString(), *self.specs), []
        for feed in feeds:
            sample, prepared = self.known[id(feed)]
            decided = _per_sample(self.data, [sample], [prepared], session.run(feed), Finiteness())
            found += [(each.id, decision) for each, decision in decided]
        return found

    def contributions(self, proto: Any, feeds: Iterable[Any]) -> list[Any]:
        return [self.metric.contribution(made, self.truth[name]) for name, made in self.decide(proto, feeds)]


def peer(ours: Ours, chosen: argparse.Namespace) -> Found:
    """NNCF's accuracy control on the same ONNX model, judged in ONNX Runtime."""
    import nncf

    model = ours.trials.apply(Recipe("float", (CLEAN_UP,))).path
    specs = tensor_specs(load(model))
    data = open_data(ours.trials.data.path, specs[0])
    seen = [
        (samples[0], prepared[0], {spec.name: feed[spec.name] for spec in specs[0]})
        for samples, prepared, feed in data.batches("tune", 1, ours.samples)
    ]
    calibration = [{spec.name: feed[spec.name] for spec in specs[0]} for _, _, feed in data.batches("calibration", 1)]
    metric = make_metrics(ours.trials.request.quality.metrics[:1], data.root)[0]
    known = {id(feed): (sample, prepared) for sample, prepared, feed in seen}
    start = time.monotonic()
    judge = _Judge(ours, data, metric, specs, known, {}, start + 60 * chosen.minutes)
    feeds, note = [feed for _, _, feed in seen], ""
    agreement = isinstance(metric, Agreement)
    judge.truth.update(
        judge.decide(_proto(model), feeds) if agreement else {sample.id: sample.label for sample, _, _ in seen}
    )
    try:
        made = nncf.quantize_with_accuracy_control(
            _proto(model),
            nncf.Dataset(calibration),
            nncf.Dataset(feeds),
            judge,
            max_drop=chosen.drop,
            subset_size=len(calibration),
            advanced_accuracy_restorer_parameters=nncf.AdvancedAccuracyRestorerParameters(
                ranking_subset_size=min(chosen.ranking, len(seen) - 1)
            ),
        )
        quality, left = metric.reduce(judge.contributions(made, feeds)), _integers(made)
    except _Late:
        (quality, left), note = judge.scores[-1], f"stopped after {chosen.minutes:g} minutes, counts so far"
    every = max(judge.models, default=left)
    seconds = time.monotonic() - start
    return Found("NNCF", quality, len(judge.scores), judge.ranked / len(seen), every - left, every, seconds, note)


def _line(candidate: Candidate) -> str:
    if candidate.measurement is None:
        return f"  {candidate.recipe.title}: {candidate.why}"
    figure = candidate.measurement.tune.figures[0]
    timing = candidate.measurement.timing
    speed = f", {timing.speedup.value:.2f}x" if timing else ""
    return f"  {candidate.recipe.title}: {figure.metric} {figure.value:.4f}{speed}"


def show(tried: list[Candidate]) -> None:
    """Prints the front, the fastest first."""
    judged = [c for c in tried if c.measurement is not None and c.measurement.timing is not None]
    table = Table(title="quality and speed on this processor, one thread")
    for column in ("what", "quality (tune)", "speed-up", "95%", "inside the budget"):
        table.add_column(column)
    for candidate in sorted(judged, key=_speed, reverse=True):
        assert candidate.measurement is not None
        assert candidate.measurement.timing is not None
        ratio = candidate.measurement.timing.speedup
        quality = candidate.measurement.tune.figures[0].value
        interval = f"{ratio.low:.2f} to {ratio.high:.2f}"
        table.add_row(
            candidate.recipe.title,
            f"{quality:.4f}",
            f"{ratio.value:.2f}",
            interval,
            "no" if candidate.violations else "yes",
        )
    CONSOLE.print(table)


def _speed(candidate: Candidate) -> float:
    timing = candidate.measurement.timing if candidate.measurement else None
    return timing.speedup.value if timing else 0.0


def compare(ours: Ours, founds: list[Found], drop: float) -> None:
    """Prints both beside each other."""
    base = _quality(ours.tried[0])
    table = Table(title=f"original {base:.4f}, at most {drop:g} less, {ours.samples} samples")
    for column in ("", "quality", "full evaluations", "other runs", "together", "in float", "seconds", "note"):
        table.add_column(column)
    for f in founds:
        kept = f"{f.in_float} of {f.integers}"
        counts = (str(f.calls), f"{f.runs:.1f}", f"{f.calls + f.runs:.1f}")
        table.add_row(f.name, f"{f.quality:.4f}", *counts, kept, f"{f.seconds:.0f}", f.note)
    CONSOLE.print(table)
    if len(founds) == 2:
        first, second = founds
        share = (first.calls + first.runs) / (second.calls + second.runs)
        CONSOLE.print(
            f"ours take {first.calls / second.calls:.0%} of NNCF's full evaluations, {share:.0%} with ranking counted"
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", choices=tuple(PROJECTS), default="yolox")
    parser.add_argument("--drop", type=float, default=0.01, help="loss of the metric that is allowed")
    parser.add_argument("--metrics", nargs="+", help="in place of the example's, e.g. agreement with the original")
    parser.add_argument("--scheme", default="onnxruntime-u8s7")
    parser.add_argument("--ranges", default="percentile")
    parser.add_argument("--percent", type=float, default=99.99)
    parser.add_argument("--samples", "--photos", type=int, help="judge on at most so many samples")
    parser.add_argument("--ranking", type=int, default=300, help="samples on which NNCF ranks its groups")
    parser.add_argument("--minutes", type=float, default=60.0, help="stop NNCF after so long")
    parser.add_argument("--seconds", type=float, default=20.0, help="longest timing of one candidate")
    parser.add_argument("--front", action="store_true", help="also measure fixed numbers of groups in float")
    parser.add_argument(
        "--any-speed", action="store_true", help="pretend that float is slow: as NNCF, ours restores at any price"
    )
    parser.add_argument("--no-peer", action="store_true", help="leave NNCF out")
    chosen = parser.parse_args()
    chain = Chain(find(chosen.scheme), {"ranges": chosen.ranges, "percent": chosen.percent}, done=(chosen.ranges,))
    with tempfile.TemporaryDirectory(prefix="edgewright-mixed-") as name:
        ours = prepare(Path(name), chosen)
        found = [search(ours, chain, front=chosen.front, any_speed=chosen.any_speed)]
        show(ours.tried)
        if not chosen.no_peer:
            found.append(peer(ours, chosen))
        compare(ours, found, chosen.drop)


if __name__ == "__main__":
    main()
