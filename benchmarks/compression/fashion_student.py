"""A student of less than a tenth of the parameters: 2,000 labels and a teacher, against the same 2,000 labels alone.

The teacher is the example's ResNet-20, trained with all 56,000 labels. The student never sees more labels than its
baseline; what the teacher says about the other 54,000 images carries some of what their labels taught the teacher. So
that nobody takes that for more than it is, a second teacher is trained here from the same 2,000 labels as the baseline,
and the student learns from that one as well (one seed): then no other label is used anywhere.

Baselines get the same schedule, rate and number of steps, and mirrored and moved images on top.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from statistics import mean, stdev
from typing import Any

from setting import CLEAN_UP, EXAMPLES, Options, Row, Setting, open_setting, training_images

from edgewright.core.recipe import StepSpec
from edgewright.engine.execute import Result
from edgewright.graph.cost import model_cost
from edgewright.graph.load import load
from edgewright.graph.shapes import infer_shapes
from edgewright.project.config import load_project

STUDENT = StepSpec("student", {"network": "resnet8-0.5"})
IMAGES, LABELLED = 56_000, 2000
SEEDS = (0, 1, 2)
BATCH = 128
RATE = 0.2
FIT: Mapping[str, Any] = {
    "optimiser": "sgd",
    "schedule": "one-cycle",
    "warmup": 0.25,
    "weight_decay": 5e-4,
    "validation": 0.0,
}
AUGMENTED: Mapping[str, Any] = {**FIT, "augment": [{"op": "flip"}, {"op": "crop", "pixels": 2}]}


@dataclass(frozen=True, slots=True)
class Plan:
    """How long; `epochs` are passes over all images."""

    epochs: int = 8
    images: int = IMAGES
    labelled: int = LABELLED

    def epochs_over(self, samples: int) -> int:
        """Returns how many passes over fewer samples are as many steps."""
        return max(round(self.epochs * self.images / samples), 1)


def run(options: Options) -> tuple[Row, ...]:
    """Trains, scores on the 10,000 test images, and prints every figure."""
    plan = Plan(epochs=1, images=6000) if options.quick else Plan()
    seeds = SEEDS[:1] if options.quick else SEEDS
    runs = [_Run(replace(options, seed=100 + seed), plan, seed) for seed in seeds]
    alone = [each.alone(plan.labelled) for each in runs]
    taught = [each.taught("train+unlabelled", labels=1.0) for each in runs]
    _show("student from 2,000 labels alone", alone)
    _show("student, 2,000 labels and 54,000 images without, ResNet-20 teaches", taught)
    whole = [_Run(replace(options, seed=100 + seed), plan, seed, every_label=True) for seed in seeds]
    plain, kd = (
        [each.alone(plan.images) for each in whole],
        [each.taught("train", labels=0.5, fit=AUGMENTED) for each in whole],
    )
    _show("student, all labels, no teacher", plain)
    _show("student, all labels and the teacher", kd)
    own = runs[0].own_teacher()
    _show("teacher from the same 2,000 labels, one seed", [runs[0].judged(own)])
    fair = [runs[0].taught("train+unlabelled", labels=1.0, teacher=own)]
    _show("student, that teacher, one seed", fair)
    share = runs[0].parameters(runs[0].fresh()) / runs[0].parameters(runs[0].setting.original)
    return (
        Row("1c size of the student", "at most 0.1 of the parameters", f"{share:.3f}", share <= 0.1),
        _gain("1c 2,000 labels, the rest without: gain over the labels alone", taught, alone, least=0.01),
        _gain("1c the same, teacher from those 2,000 labels too, one seed", fair, alone[:1]),
        _gain("1c all labels: gain of the teacher", kd, plain),
    )


class _Run:
    """One seed: its labelled images, its fresh weights, its order."""

    def __init__(self, options: Options, plan: Plan, seed: int, *, every_label: bool = False) -> None:
        self.plan = plan
        first = seed * plan.labelled
        ours = f"{first}:{first + plan.labelled}"
        others = ", ".join(f"{a}:{b}" for a, b in ((0, first), (first + plan.labelled, plan.images)) if b > a)
        self.setting = _setting(options, f"0:{plan.images}" if every_label else ours, "" if every_label else others)

    def fresh(self) -> Result:
        return self.setting.apply([STUDENT])

    def alone(self, samples: int) -> float:
        """Trains from labels alone."""
        return self.judged(self.setting.apply([STUDENT, self._fine_tune(samples), CLEAN_UP]))

    def taught(
        self, split: str, *, labels: float, fit: Mapping[str, Any] = FIT, teacher: Result | None = None
    ) -> float:
        """Distils, in as many steps."""
        config = {"epochs": self.plan.epochs, "batch": BATCH, "learning_rate": RATE, "split": split}
        spec = StepSpec("distill", {**config, "labels": labels, "fit": fit, **_named(teacher)})
        return self.judged(self.setting.apply([STUDENT, spec, CLEAN_UP]))

    def own_teacher(self) -> Result:
        """Trains a ResNet-20 of the catalogue from the labelled images alone."""
        network = StepSpec("student", {"network": "resnet20"})
        return self.setting.apply([network, self._fine_tune(self.plan.labelled)])

    def judged(self, model: Result, split: str = "test") -> float:
        return self.setting.judge(self.setting.compile(model), split).value

    def parameters(self, model: Result) -> int:
        return model_cost(infer_shapes(load(model.path))).parameters

    def _fine_tune(self, samples: int) -> StepSpec:
        config = {"epochs": self.plan.epochs_over(samples), "batch": BATCH, "learning_rate": RATE, "fit": AUGMENTED}
        return StepSpec("fine-tune", config)


def _named(teacher: Result | None) -> dict[str, str]:
    return {} if teacher is None else {"teacher": str(teacher.path)}


def _setting(options: Options, labelled: str, others: str) -> Setting:
    images = str(training_images(options))
    known = load_project(EXAMPLES / "fashion_mnist" / "edgewright.toml").file.data
    data = {**known, "train": {"path": images, "rows": labelled}}
    if others:
        data["unlabelled"] = {"path": images, "rows": others}
    return open_setting("fashion_mnist/edgewright.toml", options, data=data)


def _show(what: str, found: Sequence[float]) -> None:
    print(f"  {what}: {_spread(found)} ({', '.join(f'{each:.4f}' for each in found)})", flush=True)


def _spread(found: Sequence[float]) -> str:
    return f"{mean(found):.2%} ± {stdev(found) if len(found) > 1 else 0:.2%}"


def _gain(claim: str, ours: Sequence[float], theirs: Sequence[float], least: float | None = None) -> Row:
    gains = [a - b for a, b in zip(ours, theirs, strict=True)]
    spread = stdev(gains) if len(gains) > 1 else 0.0
    shown = f"{_spread(theirs)} -> {_spread(ours)}: {mean(gains) * 100:+.2f} ± {spread * 100:.2f} points"
    asked = f"{least * 100:+.1f} points, three seeds" if least is not None else "reported"
    return Row(claim, asked, shown, least is None or mean(gains) >= least)
