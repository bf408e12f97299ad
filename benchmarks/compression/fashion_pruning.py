"""ResNet-20 pruned by measured latency: float, INT8, and beside Torch-Pruning, which goes by multiply-accumulates.

Everybody starts from the example's trained network and learns from the same images for as many epochs at the same rate
with the same augmentation. First the network as it is, from labels: what pruning costs is counted from what that
reaches, and it teaches all the others, besides the labels. Everybody is judged on the 10,000 test images and timed in
turn with the network as it was. Torch-Pruning keeps as many multiply-accumulates as the network that is pruned to half
of the latency; which of our networks is as accurate as what it makes, and how much faster, is then counted.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from setting import CLEAN_UP, EXAMPLES, Judged, Options, Row, Setting, open_setting, training_images

from edgewright.core.codec import decode_stored
from edgewright.core.measurement import Timing
from edgewright.core.pruning import PRUNING_FILE, Pruning
from edgewright.core.recipe import StepSpec
from edgewright.engine.execute import Input, Result
from edgewright.errors import ConfigError
from edgewright.project.config import load_project
from edgewright.store.files import digest_path

sys.path.append(str(Path(__file__).resolve().parents[1] / "peers"))

BATCH = 128
SPEED, SPEED_INT8 = 2.0, 3.0
LOSS, LOSS_INT8 = 0.005, 0.01
BASELINE = 0.925
SCHEME = "onnxruntime-u8s8-pairs"
KEPT_FLOAT = ("@first", "@last")
"""One channel in and ten values out: integer kernels are slower there than float ones."""
EQUAL = 0.003
FIT: Mapping[str, Any] = {
    "optimiser": "sgd",
    "schedule": "one-cycle",
    "warmup": 0.2,
    "weight_decay": 5e-4,
    "validation": 0.0,
    "augment": [{"op": "flip"}],
}


@dataclass(frozen=True, slots=True)
class Plan:
    """How long everybody trains, and how much faster than asked everybody is to be predicted."""

    images: int = 56_000
    epochs: int = 6
    rate: float = 0.1
    margin: float = 1.08
    seconds: float = 20.0


@dataclass(frozen=True, slots=True)
class Outcome:
    """One network, judged and timed."""

    title: str
    model: Result
    quality: Judged
    timing: Timing

    @property
    def shown(self) -> str:
        ratio = self.timing.speedup
        return f"top-1 {self.quality.value:.4f}, {ratio.value:.2f}x [{ratio.low:.2f}, {ratio.high:.2f}]"


def run(options: Options) -> tuple[Row, ...]:
    """Prunes, trains, scores, times, and prints every figure."""
    plan = Plan(images=2000, epochs=1, seconds=5.0) if options.quick else Plan()
    race = _Race(options, plan)
    longer = race.outcome("baseline, as many epochs more", race.longer)
    pruning = _prune(1 / SPEED / plan.margin)
    ours = race.outcome("pruned by latency", race.trained([pruning]))
    told = _told(race.pruned([pruning]))
    _show_widths(told)
    best = max(longer.quality.value, race.reference.value)
    integers, further = _int8(race, best)
    return (
        Row("1 baseline", f"at least {BASELINE:.1%}", f"{best:.2%}", best >= BASELINE),
        _row("1a pruned by latency", ours, best, SPEED, LOSS),
        integers,
        _beside(race, (ours, *further), told.macs),
    )


def _int8(race: _Race, best: float) -> tuple[Row, tuple[Outcome, ...]]:
    """Prunes as far as INT8 alone leaves to do, by what INT8 costs; returns the same network in float, too."""
    claim = "1b pruned by latency, INT8"
    share = min(race.quantised_speed() / SPEED_INT8 / race.plan.margin, 1.0)
    pruning = _prune(share, scheme=SCHEME, keep_float=KEPT_FLOAT)
    try:
        found = race.outcome("pruned by INT8 latency, INT8", race.quantised([pruning, race.learn]))
    except ConfigError as error:
        asked = f"{SPEED_INT8:g}x, at most {LOSS_INT8 * 100:g} point lost"
        return Row(claim, asked, error.message, met=False), ()
    _show_widths(_told(race.pruned([pruning])))
    as_float = race.outcome("pruned by INT8 latency, left in float", race.trained([pruning]))
    return _row(claim, found, best, SPEED_INT8, LOSS_INT8), (as_float,)


def _beside(race: _Race, ours: Sequence[Outcome], macs: float) -> Row:
    claim = "5 beside Torch-Pruning by MACs"
    try:
        peer = race.outcome(f"Torch-Pruning to {macs:.3f} of the MACs", race.trained((), race.peer(macs)))
    except (RuntimeError, subprocess.CalledProcessError) as error:
        return Row(claim, "faster, at equal accuracy", f"the peer does not run here: {error}", met=False)
    return _against(claim, ours, peer)


class _Race:
    """One setting for all."""

    def __init__(self, options: Options, plan: Plan) -> None:
        self.plan, self.options = plan, options
        self.setting = _setting(options, plan.images)
        self.artifact = self.setting.compile(self.setting.apply([CLEAN_UP]))
        self.reference = self.setting.judge(self.artifact)
        print(f"  baseline: top-1 {self.reference.value:.4f}", flush=True)
        self.longer = self.setting.apply([StepSpec("fine-tune", self._regime()), CLEAN_UP])

    def pruned(self, passes: Sequence[StepSpec], model: Result | None = None) -> Result:
        return self.setting.apply(passes, model)

    def trained(self, passes: Sequence[StepSpec], model: Result | None = None) -> Result:
        """Prunes and trains, everybody alike."""
        return self.setting.apply([*passes, self.learn, CLEAN_UP], model)

    def quantised(self, passes: Sequence[StepSpec]) -> Result:
        integers = StepSpec("static-int8", {"scheme": SCHEME, "keep_float": KEPT_FLOAT})
        return self.setting.apply([*passes, CLEAN_UP, integers])

    def quantised_speed(self) -> float:
        """Returns how many times faster INT8 alone makes the network: what pruning need not do."""
        return self.outcome("INT8 alone", self.quantised(())).timing.speedup.value

    def outcome(self, title: str, model: Result) -> Outcome:
        artifact = self.setting.compile(model)
        timing = self.setting.time(artifact, self.artifact, self.plan.seconds)
        found = Outcome(title, model, self.setting.judge(artifact), timing)
        print(f"  {title}: {found.shown}", flush=True)
        return found

    def peer(self, macs: float) -> Result:
        """Prunes the example's network with Torch-Pruning to a share of the MACs, and imports what it exported."""
        from environments import call

        out = self.options.work / f"torch-pruning-{macs:.3f}.onnx"
        call("torch-pruning", str(EXAMPLES / "fashion_mnist"), str(out), f"{macs:.4f}")
        given = Input(out, digest_path(out))
        return self.setting.executor.run("sources", StepSpec("onnx"), {"model": given, "data": self.setting.data})

    @property
    def learn(self) -> StepSpec:
        """How everything pruned learns: labels, and what the network trained further says."""
        return StepSpec("distill", {**self._regime(), "labels": 0.5, "teacher": str(self.longer.path)})

    def _regime(self) -> Mapping[str, Any]:
        return {
            "epochs": self.plan.epochs,
            "batch": BATCH,
            "learning_rate": self.plan.rate,
            "split": "train",
            "fit": FIT,
        }


def _prune(latency: float, **fields: Any) -> StepSpec:
    return StepSpec("prune", {"latency": latency, "blocks": True, **fields})


def _setting(options: Options, images: int) -> Setting:
    known = load_project(EXAMPLES / "fashion_mnist" / "edgewright.toml").file.data
    data = {**known, "train": {"path": str(training_images(options)), "rows": f"0:{images}"}}
    return open_setting("fashion_mnist/edgewright.toml", options, data=data)


def _told(model: Result) -> Pruning:
    return decode_stored(Pruning, (model.path / PRUNING_FILE).read_bytes())


def _show_widths(told: Pruning) -> None:
    widths = ", ".join(f"{group.before}->{group.after}" for group in told.groups)
    print(
        f"  MACs {told.macs:.3f}, weights {told.parameters:.3f}, predicted {told.predicted:.3f}: {widths}", flush=True
    )


def _row(claim: str, found: Outcome, best: float, speed: float, loss: float) -> Row:
    lost = best - found.quality.value
    met = found.timing.speedup.value >= speed and lost <= loss
    shown = f"{found.timing.speedup.value:.2f}x, {-lost * 100:+.2f} points (baseline {best:.4f})"
    return Row(claim, f"{speed:g}x, at most {loss * 100:g} points lost", shown, met)


def _against(claim: str, ours: Sequence[Outcome], peer: Outcome) -> Row:
    """Compares the peer with the fastest of ours that is as accurate; with the most accurate where none is."""
    asked = f"faster, at equal accuracy ({EQUAL * 100:g} points)"
    equal = [each for each in ours if each.quality.value >= peer.quality.value - EQUAL]
    best = max(equal, key=lambda o: o.timing.speedup.value) if equal else max(ours, key=lambda o: o.quality.value)
    faster = best.timing.speedup.value / peer.timing.speedup.value
    gain = best.quality.value - peer.quality.value
    shown = f"{best.title}: {faster:.2f}x as fast, {gain * 100:+.2f} points"
    return Row(claim, asked, shown, faster > 1 and bool(equal))
