"""Mixed precision beside NNCF's accuracy control: the same budget, the full evaluations each takes, and what comes out.

    python benchmarks/mixed_precision.py                 # YOLOX-nano in ONNX Runtime, at most one point of mAP50
    python benchmarks/mixed_precision.py --front         # every rung of the quality-speed front
    python benchmarks/mixed_precision.py --no-peer --photos 24

Both start from the same cleaned-up ONNX model and the same calibration samples and judge on the same photos with the
project's own metric. A full evaluation is one run over all validation photos; the runs in which NNCF ranks its groups
are shown in the same unit.
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
from rich.console import Console
from rich.table import Table

from edgewright.core.recipe import Candidate, Recipe, StepSpec
from edgewright.data import open_data
from edgewright.engine.execute import Executor
from edgewright.graph.load import MODEL_FILE, load, tensor_specs
from edgewright.graph.schemes import find
from edgewright.measure._decisions import Finiteness, _per_sample
from edgewright.measure.metrics import make_metrics
from edgewright.project.config import load_project
from edgewright.project.question import ask
from edgewright.runtimes._machine import local_device
from edgewright.search.imported import Imported
from edgewright.search.mixed import mixed_rungs, order_groups
from edgewright.search.operator_costs import operator_costs
from edgewright.search.repair import Best, Chain
from edgewright.search.rungs import CLEAN_UP, Rung
from edgewright.search.trial import Trials, read
from edgewright.store.cache import Cache

PROJECT = Path(__file__).resolve().parent.parent / "examples" / "yolox_nano" / "edgewright.toml"
CONSOLE = Console(width=150)


@dataclass(slots=True)
class Ours:
    """The search's own steps, with everything it evaluates on record."""

    trials: Trials
    target: StepSpec
    tried: list[Candidate] = field(default_factory=list)

    def run(self, rung: Rung) -> Candidate:
        candidate = self.trials.run(rung, 1, 1)
        self.tried.append(candidate)
        CONSOLE.print(_line(candidate))
        return candidate


def prepare(work: Path, photos: int | None, seconds: float) -> Ours:
    """Imports the model and judges the original."""
    request = ask(load_project(PROJECT), work)
    request = replace(
        request,
        search=replace(request.search, timing_seconds=seconds),
        quality=replace(request.quality, limit=photos),
    )
    executor = Executor(Cache(work / "cache"), PROJECT.parent, local_device(), seed=0)
    imported = executor.run("sources", request.source, {**request.model, "data": request.data(())})
    data = request.data(read(imported, "import.json", Imported).inputs)
    ours = Ours(Trials(executor, request, imported, data), StepSpec("onnxruntime"))
    ours.tried.append(ours.trials.judge_reference(ours.target, 1, 1))
    return ours


def search(ours: Ours, chain: Chain, *, front: bool) -> tuple[Candidate, int, float]:
    """Float, full INT8, then mixed precision; returns the choice, its evaluations and seconds for sensitivity."""
    plain = ours.run(Rung("float", Recipe("float", (CLEAN_UP,)), ours.target))
    whole = ours.run(Rung("static-int8", chain.recipe(), ours.target))
    start = time.monotonic()
    sensitivity = ours.trials.sensitivity(chain.recipe())
    seconds = time.monotonic() - start
    costs = operator_costs(plain, whole, sensitivity.groups)
    for reason in costs.slower().values():
        CONSOLE.print(f"  {reason}")
    before = len(ours.tried)
    steps = mixed_rungs(ours.target, Best(chain, whole), plain, lambda recipe: sensitivity)
    best = _drive(ours, steps)
    evaluations = len(ours.tried) - before
    if front:
        names = order_groups(costs).names
        for count in (1, 2, 4, 8, 12, 20, 32, 48):
            operators = [name for group in names[:count] for name in costs.groups[group].operators]
            ours.run(Rung("mixed", chain.recipe(tuple(operators), f"first {count} groups in float"), ours.target))
    CONSOLE.print(f"sensitivity of {len(sensitivity.groups)} groups: {sensitivity.share:.0%} of the multiplications")
    return best.candidate, evaluations, seconds


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


def peer(ours: Ours, drop: float = 0.01) -> tuple[float, int, float, float]:
    """NNCF's accuracy control on the same ONNX model, judged in ONNX Runtime.

    Returns:
        mAP50 of its model, validations, runs of the model over those of one validation, and seconds.
    """
    import nncf
    import onnx

    model = ours.trials.apply(Recipe("float", (CLEAN_UP,))).path
    inputs, outputs = tensor_specs(load(model))
    data = open_data(ours.trials.data.path, inputs)
    metric = make_metrics(("map50",), data.root)[0]
    seen = [
        (samples[0], prepared[0], {spec.name: feed[spec.name] for spec in inputs})
        for samples, prepared, feed in data.batches("tune", 1, ours.trials.request.quality.limit)
    ]
    calibration = [{spec.name: feed[spec.name] for spec in inputs} for _, _, feed in data.batches("calibration", 1)]
    known = {id(feed): (sample, prepared) for sample, prepared, feed in seen}
    scores: list[float] = []
    runs = 0

    def judge(proto: Any, feeds: Iterable[Any]) -> tuple[float, list[float]]:
        """The metric, and each photo's own value, which NNCF ranks groups by: it has no other way for ONNX models."""
        nonlocal runs
        session = _Session(proto.SerializeToString(), inputs, outputs)
        found = []
        for feed in feeds:
            runs += 1
            sample, prepared = known[id(feed)]
            for each, decision in _per_sample(data, [sample], [prepared], session.run(feed), Finiteness()):
                found.append(metric.contribution(decision, each.label))
        scores.append(metric.reduce(found))
        CONSOLE.print(f"  NNCF validation {len(scores)} on {len(found)} photos: mAP50 {scores[-1]:.4f}")
        return scores[-1], [metric.reduce([one]) for one in found]

    start = time.monotonic()
    nncf.quantize_with_accuracy_control(
        onnx.load(model / MODEL_FILE),
        nncf.Dataset(calibration),
        nncf.Dataset([feed for _, _, feed in seen]),
        judge,
        max_drop=drop,
        subset_size=len(calibration),
    )
    return scores[-1], len(scores), runs / len(seen), time.monotonic() - start


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
    for column in ("what", "mAP50 (tune)", "speed-up", "95%", "inside the budget"):
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


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--scheme", default="onnxruntime-u8s7")
    parser.add_argument("--ranges", default="percentile")
    parser.add_argument("--percent", type=float, default=99.99)
    parser.add_argument("--photos", type=int, help="judge on at most so many photos")
    parser.add_argument("--seconds", type=float, default=20.0, help="longest timing of one candidate")
    parser.add_argument("--front", action="store_true", help="also measure fixed numbers of groups in float")
    parser.add_argument("--no-peer", action="store_true", help="leave NNCF out")
    chosen = parser.parse_args()
    chain = Chain(find(chosen.scheme), {"ranges": chosen.ranges, "percent": chosen.percent}, done=(chosen.ranges,))
    with tempfile.TemporaryDirectory(prefix="edgewright-mixed-") as name:
        ours = prepare(Path(name), chosen.photos, chosen.seconds)
        best, evaluations, seconds = search(ours, chain, front=chosen.front)
        show(ours.tried)
        CONSOLE.print(f"ours: {best.recipe.title}; {evaluations} full evaluations, sensitivity in {seconds:.0f} s")
        if not chosen.no_peer:
            quality, calls, full, took = peer(ours)
            CONSOLE.print(f"NNCF accuracy control: mAP50 {quality:.4f}, {took:.0f} s")
            CONSOLE.print(
                f"full evaluations, ours to NNCF's: {evaluations} to {calls}, in runs over all photos {full:.1f}"
            )


if __name__ == "__main__":
    main()
