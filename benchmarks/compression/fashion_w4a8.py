"""ResNet-20 with weights of 4 bits: what rounding costs, what training with quantisers brings back; beside NNCF.

Weights are stored as int8 with integers from -7 to 7, which every runtime's integer kernels take; the size in 4 bits is
what packing two of them into a byte would give. ONNX Runtime's integer kernels are what is judged, on all 10,000 test
images. NNCF starts from the same network, and learns from the same images and labels for as many epochs; it is judged
by OpenVINO, which it is made for.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Mapping, Sequence
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
    """How long everybody trains.

    Attributes:
        images: To learn from.
        epochs: Over them.
        rate: For narrow weights.
        peer_rate: For both sides of the comparison, where rounding has cost little: at 5e-4 both lose by it.
    """

    images: int = 4000
    epochs: int = 1
    rate: float = 5e-4
    peer_rate: float = 1e-4


def run(options: Options) -> tuple[Row, ...]:
    """Quantises, trains, scores, times steps, and prints every figure."""
    plan = Plan(images=320) if options.quick else Plan()
    torch.set_num_threads(options.threads)
    bench = _Bench(options, plan)
    rows = bench.narrow("1d W4A8, one scale per tensor", {"weight_bits": 4, "weight_per_channel": False})
    rows += bench.beside_nncf(4)
    rows += bench.narrow("1d W3A8, one scale per tensor", {"weight_bits": 3, "weight_per_channel": False})
    return (*rows, *bench.beside_nncf(8))


DISTILLED: Mapping[str, Any] = {"labels": 0.0, "logits": 1.0}
LABELLED: Mapping[str, Any] = {"labels": 1.0, "logits": 0.0}
LESSONS = {"labels": LABELLED, "the float model": DISTILLED}


class _Bench:
    def __init__(self, options: Options, plan: Plan) -> None:
        self.options, self.plan = options, plan
        self.images = training_images(options)
        self.setting = _setting(options, plan, self.images)
        self.float = self.setting.apply([CLEAN_UP])
        self.reference = self.setting.judge(self.setting.compile(self.float))
        print(f"  float: top-1 {self.reference.value:.4f}", flush=True)

    def narrow(self, claim: str, changes: Mapping[str, Any]) -> list[Row]:
        """Rounds by every rule, and trains from the plainest, without labels."""
        float_, scheme = self.reference.value, replace(EIGHT, name="benchmark", **changes)
        rounded = {rule: self._judged(self._quantised(scheme, rule)).value - float_ for rule in RULES}
        shown = ", ".join(f"{rule} {value * 100:+.2f}" for rule, value in rounded.items())
        print(f"  {claim}: PTQ {shown}", flush=True)
        trained = self._trained(scheme, DISTILLED)
        gained = self._judged(trained).value - float_
        text = f"PTQ {shown}, QAT {gained * 100:+.2f} points of {float_:.4f}; {_size(trained, scheme.weight_bits)}"
        print(f"  {claim}: {text}; {trained.record.seconds:.0f} s, {_history(trained)}", flush=True)
        return [
            Row(f"{claim}: QAT", "at most 1 point below float", text, gained >= -LOSS),
            Row(f"{claim}: PTQ", "loses more", shown, max(rounded.values()) < gained),
        ]

    def beside_nncf(self, bits: int) -> list[Row]:
        """Both learn from the same images and labels, one scale per output channel."""
        scheme = EIGHT if bits == 8 else replace(EIGHT, name="benchmark", weight_bits=bits)
        rows = []
        for title, learnt in LESSONS.items() if bits < 8 else [("labels", LABELLED)]:
            trained = self._trained(scheme, {**learnt, "learning_rate": self.plan.peer_rate})
            ours = self._judged(trained).value
            print(f"  W{bits}A8, {title}: {ours:.4f}, {trained.record.seconds:.0f} s, {_history(trained)}", flush=True)
            rows.append((f"5 beside NNCF, W{bits}A8, ours by {title}", ours))
        return self._against(bits, rows, self._quantised(scheme, RULES[0]))

    def _against(self, bits: int, ours: Sequence[tuple[str, float]], start: Result) -> list[Row]:
        from nncf_training import NncfTraining

        held, _ = _tensors(self._path("heldout"), 100)
        images, labels = _tensors(self.images, self.plan.images)
        peer = NncfTraining(_network(), held, bits, self.plan.peer_rate)
        mine, theirs = _steps(_our_step(start, self.float, self.plan.peer_rate), peer.step, images, labels)
        peer = NncfTraining(_network(), held, bits, self.plan.peer_rate)
        seconds = peer.train(images, labels, self.plan.epochs, BATCH, self.options.seed)
        shown, wanted = _tensors(self._path("test"), None)
        value = float((peer.converted(shown) == wanted.numpy()).mean())
        print(f"  NNCF W{bits}A8: {value:.4f}, {seconds:.0f} s; step {theirs:.0f} ms, ours {mine:.0f}", flush=True)
        rows = [_beside(claim, found, value) for claim, found in ours]
        text = f"{theirs / mine:.2f}x as fast ({mine:.0f} ms of {BATCH} images)"
        return [*rows, Row(f"5 a training step of W{bits}A8", "not slower", text, mine <= theirs)]

    def _trained(self, scheme: Scheme, learnt: Mapping[str, Any]) -> Result:
        return self.setting.apply([CLEAN_UP, _static(scheme, RULES[0]), self._qat(learnt)])

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


def _beside(claim: str, ours: float, theirs: float) -> Row:
    text = f"{ours:.4f}, NNCF {theirs:.4f}: {(ours - theirs) * 100:+.2f} points"
    return Row(claim, "not worse (0.3 points)", text, ours >= theirs - 0.003)


def _static(scheme: Scheme, rule: str) -> StepSpec:
    return StepSpec("static-int8", {"scheme": encode(scheme), "weights": rule})


def _setting(options: Options, plan: Plan, images: Any) -> Setting:
    known = load_project(EXAMPLES / "fashion_mnist" / "edgewright.toml").file.data
    data = {**known, "train": {"path": str(images), "rows": f"0:{plan.images}"}}
    return open_setting("fashion_mnist/edgewright.toml", options, data=data)


def _history(model: Result) -> str:
    history = decode_stored(History, (model.path / TRAINING_FILE).read_bytes())
    return f"loss {history.epochs[-1].loss:.3f}"


def _size(model: Result, bits: int) -> str:
    stored = [q.integers() for q in all_quantisers(load(model.path).graph) if q.dtype == "int8"]
    count = sum(integers.size for integers in stored if integers is not None)
    return (
        f"{count} weights, {count * bits / 8e3:.0f} kB packed, {count / 1e3:.0f} kB as stored, {count / 250:.0f} float"
    )


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
