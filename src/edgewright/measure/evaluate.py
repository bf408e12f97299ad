"""Quality of an artifact on a split, through its own runtime."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from edgewright.core.codec import encode_json
from edgewright.core.data import Metric, Sample
from edgewright.core.decision import Decision
from edgewright.core.measurement import Quality
from edgewright.core.step import Context
from edgewright.core.target import RunOptions
from edgewright.errors import DataError, EdgewrightError
from edgewright.measure import _intervals
from edgewright.measure._decisions import Finiteness, decide
from edgewright.measure._outcomes import Outcome, outcome, read_outcomes, write_outcomes
from edgewright.measure.devices import open_on
from edgewright.measure.metrics import changed, make_metrics
from edgewright.measure.metrics._resampling import PerClass
from edgewright.measure.metrics.agreement import Agreement

if TYPE_CHECKING:
    from edgewright.data import Data

QUALITY = "quality.json"


@dataclass(frozen=True, slots=True)
class Evaluate:
    """Runs every sample of a split and writes `quality.json` (`Quality`) and `outcomes.json` (list of `Outcome`).

    Inputs: `artifact`, `data`, and `reference`, the output folder of the original model's evaluation; without it the
    artifact is the reference. Where the split has no labels the metric is agreement with the reference.

    Attributes:
        split: `tune` or `test`.
        metrics: Names; the first is the one that budgets judge.
        threads: Intra-operator threads.
        batch: Samples per run; a model with a fixed batch axis keeps its own. Dynamic quantisation takes its ranges
            over the whole batch, so a figure belongs to the batch size it was measured with.
        limit: Only this many samples.
        device: Address of the machine that runs the artifact; this one by default. Data and metrics stay here.
    """

    name: ClassVar[str] = "evaluate"
    version: ClassVar[int] = 1
    requires: ClassVar[tuple[str, ...]] = ("numpy",)

    split: str = "tune"
    metrics: tuple[str, ...] = ("top-1",)
    threads: int = 1
    batch: int = 1
    limit: int | None = None
    device: str = ""

    def run(self, inputs: Mapping[str, Path], out: Path, context: Context) -> None:
        """See `edgewright.core.step.Step`.

        Raises:
            MetricFailed: The user's metric raised; the message names the sample.
            DataError: Labels do not fit the metric, the split is empty, or the reference saw other samples.
        """
        from edgewright.data import open_data

        data = open_data(inputs["data"])
        labelled = data.has_labels(self.split)
        metrics = make_metrics(self.metrics if labelled else ("agreement",), data.root)
        reference = read_outcomes(inputs["reference"]) if "reference" in inputs else None
        finite = Finiteness()
        judge = _Judge(metrics, reference)
        self._judge_all(inputs["artifact"], data, judge, finite, context)
        warnings = finite.warnings(len(judge.outcomes))
        quality = judge.quality(self.split, context.seed, data.labels, agreement=not labelled, warnings=warnings)
        write_outcomes(judge.outcomes, out)
        (out / QUALITY).write_bytes(encode_json(quality))

    def _judge_all(self, artifact: Path, data: Data, judge: _Judge, finite: Finiteness, context: Context) -> None:
        total = len(data.dataset(self.split))
        total = total if self.limit is None else min(total, self.limit)
        options, kept = RunOptions(threads=self.threads), context.scratch / "outputs"
        with open_on(self.device, artifact, options, progress=context.progress, kept=kept) as runner:
            decided = decide(runner, data, self.split, self.batch, self.limit, finite)
            for count, (sample, decision) in enumerate(decided, start=1):
                judge.add(sample, decision)
                if count % 16 == 0:
                    context.progress(count / max(total, count), f"{count} of {total} samples")
        if not judge.outcomes:
            raise DataError(f"split {self.split} holds no sample", hint=f"correct [data.{self.split}]")


class _Judge:
    """Collects outcomes and turns them into a `Quality`."""

    def __init__(self, metrics: Sequence[Metric], reference: Sequence[Outcome] | None) -> None:
        self.outcomes: list[Outcome] = []
        self._metrics = metrics
        self._reference = reference
        self._base: list[dict[str, Any]] = []
        self._truth: list[Any] = []

    def add(self, sample: Sample, decision: Decision) -> None:
        """Records one sample."""
        base = self._counterpart(sample)
        original = decision if base is None else base.decided()
        try:
            found = {m.name: m.contribution(decision, _truth(m, sample, original)) for m in self._metrics}
            if base is not None:
                self._base.append({m.name: _of_base(m, base, original, sample) for m in self._metrics})
            differs = changed(decision, original)
        except EdgewrightError as error:
            raise type(error)(f'sample "{sample.id}": {error.message}', hint=error.hint) from error
        self._truth.append(_truth(self._metrics[0], sample, original))
        self.outcomes.append(outcome(sample.id, sample.label, decision, found, differs))

    def _counterpart(self, sample: Sample) -> Outcome | None:
        if self._reference is None:
            return None
        at = len(self.outcomes)
        found = self._reference[at].id if at < len(self._reference) else "nothing"
        if found != sample.id:
            raise DataError(
                f'sample {at} is "{sample.id}", the reference judged "{found}" there',
                hint="evaluate the reference on the same split with the same limit",
            )
        return self._reference[at]

    def quality(
        self, split: str, seed: int, labels: Sequence[str], *, agreement: bool, warnings: tuple[str, ...]
    ) -> Quality:
        """Reduces what was collected; values with intervals, paired differences, classes."""
        found = {m.name: [o.contributions[m.name] for o in self.outcomes] for m in self._metrics}
        figures = tuple(_intervals.figure(m, found[m.name], split, seed) for m in self._metrics)
        base = {m.name: [b[m.name] for b in self._base] for m in self._metrics}
        difference = tuple(
            _intervals.difference(m, found[m.name], base[m.name], split, seed) for m in self._metrics if self._base
        )
        first = self._metrics[0]
        classes = first.per_class(found[first.name], self._truth) if isinstance(first, PerClass) else {}
        share = sum(o.changed for o in self.outcomes) / len(self.outcomes)
        return Quality(figures, difference, _named(classes, labels), share, agreement, warnings)


def _truth(metric: Metric, sample: Sample, original: Decision) -> Any:
    return original if isinstance(metric, Agreement) else sample.label


def _of_base(metric: Metric, base: Outcome, original: Decision, sample: Sample) -> Any:
    if metric.name in base.contributions:
        return base.contributions[metric.name]
    return metric.contribution(original, _truth(metric, sample, original))


def _named(classes: Mapping[int, float], labels: Sequence[str]) -> dict[str, float]:
    return {labels[c] if 0 <= c < len(labels) else str(c): value for c, value in classes.items()}


plugin = Evaluate
