"""ResNet-20 with weights of 4 bits: what rounding costs, what training with quantisers brings back; beside NNCF.

Weights are stored as int8 with integers from -7 to 7, which every runtime's integer kernels take; the size in 4 bits is
what packing two of them into a byte would give. ONNX Runtime's integer kernels are what is judged, on all 10,000 test
images. NNCF starts from the same network, and learns from the same images and labels for as many epochs; it is judged
by OpenVINO, which it is made for.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from setting import CLEAN_UP, EXAMPLES, Judged, Options, Row, Setting, open_setting, training_images

from edgewright.core.codec import decode_stored, encode
from edgewright.core.recipe import StepSpec
from edgewright.core.target import Scheme
from edgewright.core.training import TRAINING_FILE, History
from edgewright.engine.execute import Result
from edgewright.graph.load import load
from edgewright.graph.quantisers import all_quantisers
from edgewright.graph.schemes import find
from edgewright.graph.shapes import infer_shapes
from edgewright.project.config import load_project
from edgewright.training.quantised.convert import learnable

BATCH = 64
LOSS = 0.01
STEPS = 12
"""Steps of training timed of each, in turn."""
RULES = ("minmax", "mse")
EIGHT = find("onnxruntime-u8s7")
"""Eight bits of weights, less one where the processor would saturate."""


@dataclass(frozen=True, slots=True)
class Plan:
    """How long everybody trains."""

    images: int = 4000
    epochs: int = 1
    rate: float = 5e-4


@dataclass(frozen=True, slots=True)
class Outcome:
    """One width of weights: after rounding by each rule, and after training."""

    rounded: Mapping[str, float]
    trained: float
    model: Result

    def shown(self, float_: float) -> str:
        rounded = ", ".join(f"{rule} {(value - float_) * 100:+.2f}" for rule, value in self.rounded.items())
        return f"PTQ {rounded}; QAT {(self.trained - float_) * 100:+.2f} points (float {float_:.4f})"


def run(options: Options) -> tuple[Row, ...]:
    """Quantises, trains, scores, times steps, and prints every figure."""
    plan = Plan(images=320) if options.quick else Plan()
    torch.set_num_threads(options.threads)
    bench = _Bench(options, plan)
    float_ = bench.reference.value
    narrow = {"weight_bits": 4}
    tensor = bench.outcome("W4A8, one scale per tensor", {**narrow, "weight_per_channel": False}, DISTILLED)
    three = bench.outcome("W3A8, one scale per tensor", {"weight_bits": 3, "weight_per_channel": False}, DISTILLED)
    eight = bench.outcome("W8A8", {}, LABELLED)
    four = bench.outcome("W4A8, one scale per channel", narrow, LABELLED)
    rows = [
        _row("1d W4A8, one scale per tensor", tensor, float_),
        _row("1d W4A8, one scale per channel", four, float_),
        Row(
            "W3A8, beyond what is asked",
            "QAT above PTQ",
            three.shown(float_),
            three.trained > max(three.rounded.values()),
        ),
        Row("size of the weights", "reported", _size(tensor.model), True),
    ]
    return (*rows, *bench.beside_nncf({8: eight, 4: four}))


DISTILLED: Mapping[str, Any] = {"labels": 0.0, "logits": 1.0}
LABELLED: Mapping[str, Any] = {"labels": 1.0, "logits": 0.0}


class _Bench:
    def __init__(self, options: Options, plan: Plan) -> None:
        self.options, self.plan = options, plan
        self.images = training_images(options)
        self.setting = _setting(options, plan, self.images)
        self.float = self.setting.apply([CLEAN_UP])
        self.reference = self.setting.judge(self.setting.compile(self.float))
        print(f"  float: top-1 {self.reference.value:.4f}", flush=True)

    def outcome(self, title: str, changes: Mapping[str, Any], learnt: Mapping[str, Any]) -> Outcome:
        """Rounds by every rule, and trains from the plainest."""
        scheme = replace(EIGHT, name="benchmark", **changes)
        rounded = {rule: self._quantised(scheme, rule) for rule in RULES}
        values = {rule: self._judged(model).value for rule, model in rounded.items()}
        trained = self.setting.apply([CLEAN_UP, _static(scheme, RULES[0]), self._qat(learnt)])
        found = Outcome(values, self._judged(trained).value, trained)
        seconds = trained.record.seconds
        print(f"  {title}: {found.shown(self.reference.value)}, {seconds:.0f} s, {_history(trained)}", flush=True)
        return found

    def beside_nncf(self, ours: Mapping[int, Outcome]) -> list[Row]:
        rows = []
        for bits, outcome in ours.items():
            start = self._quantised(EIGHT if bits == 8 else replace(EIGHT, name="benchmark", weight_bits=4), RULES[0])
            rows += self._against(bits, outcome, start)
        return rows

    def _against(self, bits: int, ours: Outcome, start: Result) -> list[Row]:
        from nncf_training import NncfTraining

        held, _ = _tensors(self._path("heldout"), 100)
        images, labels = _tensors(self.images, self.plan.images)
        network = _network()
        peer = NncfTraining(network, held, bits, self.plan.rate)
        mine, theirs = _steps(_our_step(start, self.float, self.plan.rate), peer.step, images, labels)
        peer = NncfTraining(network, held, bits, self.plan.rate)
        seconds = peer.train(images, labels, self.plan.epochs, BATCH, self.options.seed)
        shown, wanted = _tensors(self._path("test"), 500 if self.options.quick else None)
        value = float((peer.converted(shown) == wanted.numpy()).mean())
        print(
            f"  NNCF W{bits}A8: top-1 {value:.4f}, {seconds:.0f} s; step {theirs:.0f} ms, ours {mine:.0f}", flush=True
        )
        gain = (ours.trained - value) * 100
        return [
            Row(f"5 beside NNCF, W{bits}A8", "not worse (0.3 points)", f"{gain:+.2f} points", gain >= -0.3),
            Row(
                f"5 a step of W{bits}A8", "not slower", f"{theirs / mine:.2f}x as fast ({mine:.0f} ms)", mine <= theirs
            ),
        ]

    def _path(self, which: str) -> str:
        table = self.setting.project.file.data
        return str(EXAMPLES / "fashion_mnist" / (table["path"] if which == "heldout" else table["test"]["path"]))

    def _quantised(self, scheme: Scheme, rule: str) -> Result:
        return self.setting.apply([CLEAN_UP, _static(scheme, rule)])

    def _judged(self, model: Result) -> Judged:
        return self.setting.judge(self.setting.compile(model))

    def _qat(self, learnt: Mapping[str, Any]) -> StepSpec:
        plan = self.plan
        regime = {"epochs": plan.epochs, "batch": BATCH, "learning_rate": plan.rate, "fit": {"validation": 0.0}}
        return StepSpec("qat", {**regime, "step_rate": 2.0, "split": "train", **learnt})


def _static(scheme: Scheme, rule: str) -> StepSpec:
    return StepSpec("static-int8", {"scheme": encode(scheme), "weights": rule})


def _setting(options: Options, plan: Plan, images: Any) -> Setting:
    known = load_project(EXAMPLES / "fashion_mnist" / "edgewright.toml").file.data
    data = {**known, "train": {"path": str(images), "rows": f"0:{plan.images}"}}
    return open_setting("fashion_mnist/edgewright.toml", options, data=data)


def _history(model: Result) -> str:
    history = decode_stored(History, (model.path / TRAINING_FILE).read_bytes())
    return f"loss {history.epochs[-1].loss:.3f}"


def _size(model: Result) -> str:
    graph = load(model.path).graph
    count = sum(found.size for q in all_quantisers(graph) if (found := q.integers()) is not None and q.dtype == "int8")
    whole = (model.path / "model.onnx").stat().st_size
    widths = f"{count * 4 / 1e3:.0f} kB in float32, {count / 1e3:.0f} kB as stored, {count / 2e3:.0f} kB packed"
    return f"{count} weights: {widths}; whole file {whole / 1e3:.0f} kB"


def _row(claim: str, found: Outcome, float_: float) -> Row:
    met = found.trained >= float_ - LOSS and found.trained > max(found.rounded.values())
    return Row(claim, "at most 1 point below float, PTQ loses more", found.shown(float_), met)


def _network() -> torch.nn.Module:
    """The example's network and its trained weights."""
    from safetensors.torch import load_file

    folder = EXAMPLES / "fashion_mnist"
    sys.path.append(str(folder))
    import network

    made: torch.nn.Module = network.resnet20()
    made.load_state_dict(load_file(folder / "work" / "resnet20.safetensors"))
    return made.eval()


def _tensors(path: Any, count: int | None) -> tuple[torch.Tensor, torch.Tensor]:
    """Images as the project prepares them, and labels."""
    with np.load(path) as arrays:
        images = torch.from_numpy(arrays["x"][:count]).float().div_(255).sub_(0.28604).div_(0.35302)
        return images.unsqueeze(1), torch.from_numpy(arrays["y"][:count].astype(np.int64))


Step = Callable[[torch.Tensor, torch.Tensor], None]


def _our_step(start: Result, reference: Result, rate: float) -> Step:
    """One step as the pass does it."""
    made = learnable(infer_shapes(load(start.path)), load(reference.path))
    network = made.network.to(memory_format=torch.channels_last).train()  # type: ignore[call-overload]
    optimiser = torch.optim.AdamW(network.parameters(), rate, weight_decay=1e-4, fused=True)

    def step(images: torch.Tensor, labels: torch.Tensor) -> None:
        answers = network(images.contiguous(memory_format=torch.channels_last))[0]
        loss = torch.nn.functional.cross_entropy(answers, labels)
        optimiser.zero_grad(set_to_none=True)
        loss.backward()
        optimiser.step()

    return step


def _steps(ours: Step, theirs: Step, images: torch.Tensor, labels: torch.Tensor) -> tuple[float, float]:
    """Median milliseconds of a step of each, in turn, after one of each."""
    seconds: tuple[list[float], list[float]] = ([], [])
    for index in range(STEPS + 1):
        rows = torch.arange(index * BATCH, (index + 1) * BATCH) % len(images)
        for step, found in zip((ours, theirs), seconds, strict=True):
            started = time.perf_counter()
            step(images[rows], labels[rows])
            found.append(time.perf_counter() - started)
    mine, other = (float(np.median(found[1:])) * 1e3 for found in seconds)
    return mine, other
