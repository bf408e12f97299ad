"""The same bundle on this machine, on an x86 without VNNI and on Arm: it decides the same on all of them.

Each test prints its figures (`pytest -m prove -s tests/prove`).
"""

from __future__ import annotations

import importlib.util
import json
import shutil
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgewright.bundle import pack
from edgewright.bundle.decide import decider
from edgewright.bundle.raw import read_raw, write_raw
from edgewright.core.budget import Budget
from edgewright.core.bundle import GoldenPair, PipelineSpec
from edgewright.core.codec import decode_stored, encode_json
from edgewright.core.data import QualityFigure
from edgewright.core.decision import decision_to_json
from edgewright.core.digest import Digest, digest_bytes
from edgewright.core.measurement import Measurement, Quality
from edgewright.core.recipe import MET, Candidate, Recipe, StepSpec, Study
from edgewright.core.target import Artifact, Plan
from edgewright.core.variant import VNNI
from edgewright.project.apply import Job, apply_passes
from edgewright.project.config import load_project
from edgewright.runtimes import open_runner
from edgewright.runtimes._machine import local_device
from edgewright.search.variants import PRECISE, saturates, variants
from edgewright.store.cache import Cache

pytestmark = pytest.mark.prove

EXAMPLE = Path(__file__).parents[2] / "examples" / "fashion_mnist"
POINTS = 0.003
"""Largest difference of top-1 between processors."""
CALIBRATION = 100
PREPROCESS = ({"op": "cast", "dtype": "float32"},)
POSTPROCESS = ({"op": "softmax"}, {"op": "top-k", "k": 1})
TOML = """schema = 1
name = "{name}"
[model]
source = "model.onnx"
[data]
reader = "npz"
path = "data.npz"
[data.calibration]
rows = "0:{calibration}"
[data.test]
rows = "0:{calibration}"
[[preprocess]]
op = "cast"
dtype = "float32"
[[targets]]
name = "onnxruntime"
"""


@dataclass(frozen=True)
class Network:
    """A float model in a folder with `model.onnx`, and what it is tested on."""

    name: str
    folder: Path
    x: Any
    y: Any

    def arrays(self) -> Path:
        """Writes the test inputs once, as every processor reads them."""
        path = self.folder / "test.npy"
        if not path.exists():
            np.save(path, self.x)
        return path

    def top1(self, top: list[int]) -> float:
        return float(np.mean(np.asarray(top) == self.y))


@dataclass(frozen=True)
class Made:
    """A compiled artifact, its plan and its golden pairs."""

    candidate: Candidate
    plan: Plan
    artifact: Path
    golden: Path

    @property
    def described(self) -> Artifact:
        return decode_stored(Artifact, (self.artifact / "artifact.json").read_bytes())


def make(network: Network, scheme: str, session: Mapping[str, str] | None = None) -> Made:
    """Quantises `network` by `scheme` and compiles it, by the same steps as `edgewright optimize`."""
    calibration = network.x[:CALIBRATION]
    np.savez(network.folder / "data.npz", x=calibration, y=np.zeros(len(calibration), np.int64))
    toml = network.folder / "edgewright.toml"
    toml.write_text(TOML.format(name=network.name, calibration=len(calibration)))
    out = network.folder / f"{scheme}-{len(session or {})}"
    passes = (StepSpec("clean-up"), StepSpec("static-int8", {"scheme": f"onnxruntime-{scheme}"}))
    target = StepSpec("onnxruntime", {"session": dict(session)} if session else {})
    job = Job(network.folder / "model.onnx", passes, out, load_project(toml), target)
    made = apply_passes(job, cache=Cache(network.folder / "cache"))
    assert made.artifact is not None
    golden = out / "golden"
    _decide(network, made.artifact, golden)
    evidence = {name: digest_bytes(f"{out}/{name}".encode()) for name in ("artifact", "golden")}
    artifact = decode_stored(Artifact, (made.artifact / "artifact.json").read_bytes())
    quality = Quality((_quality(network, made.artifact),), (), {}, 0.0)
    measured = Measurement(evidence["artifact"], local_device(), quality, None, None)
    candidate = Candidate(
        f"onnxruntime/{scheme}", "onnxruntime", Recipe(scheme, passes), 1, 1, artifact=evidence["artifact"],
        precision=artifact.precision, measurement=measured, verdict=MET, evidence=evidence,
    )  # fmt: skip
    return Made(candidate, decode_stored(Plan, (out / "plan.json").read_bytes()), made.artifact, golden)


def _quality(network: Network, artifact: Path) -> QualityFigure:
    with open_runner(artifact) as runner:
        (scores,) = runner.run({runner.inputs[0].name: network.x}).values()
    right = network.top1(list(scores.argmax(1)))
    return QualityFigure("top-1", right, right, right, len(network.y), "tune")


def _decide(network: Network, artifact: Path, folder: Path) -> None:
    (folder / "inputs").mkdir(parents=True)
    spec = PipelineSpec(PREPROCESS, POSTPROCESS)
    with open_runner(artifact) as runner:
        decide = decider(spec, folder, runner)
        names = [write_raw(value, folder / "inputs", f"{i:04d}") for i, value in enumerate(network.x[:8])]
        decisions = [decision_to_json(decide(read_raw(folder / "inputs" / name))) for name in names]
    pairs = [GoldenPair(f"inputs/{name}", d, 0.05) for name, d in zip(names, decisions, strict=True)]
    (folder / "golden.json").write_bytes(encode_json(pairs))
    (folder / "pipeline.json").write_bytes(encode_json(spec))


def packed(network: Network, winner: Made, *others: Made, alone: bool = False) -> Path:
    """Packs what the search would: variants where the winner could saturate, unless it is to stand `alone`."""
    every = {made.candidate.id: made for made in (winner, *others)}
    artifact = winner.described
    choices = variants(
        winner.candidate,
        [made.candidate for made in every.values()],
        safe=lambda c: not saturates(every[c.id].described),
        signed=lambda c: c.id.endswith("s8s8"),
    )
    device = local_device()
    study = Study(
        1, network.name, device, artifact.inputs, artifact.outputs, Budget(), "latency", winner.candidate,
        tuple(made.candidate for made in every.values()), {"onnxruntime": winner.candidate.id}, {"onnxruntime": True},
        variants={} if alone else {"onnxruntime": choices},
    )  # fmt: skip
    places: dict[Digest, Path] = {}
    for made in every.values():
        places |= {made.candidate.evidence["artifact"]: made.artifact, made.candidate.evidence["golden"]: made.golden}
    folder = network.folder / ("alone" if alone else f"with-{len(others)}-others-{winner.candidate.recipe.title}")
    return pack(study, "onnxruntime", places.__getitem__, folder)


def compared(network: Network, bundle: Path, machines: Mapping[str, Any], names: tuple[str, ...]) -> dict[str, Any]:
    """Runs the bundle on every machine, prints top-1 and agreement with this one, and returns what each said."""
    found = {name: machines[name].feed(bundle, network.arrays()) for name in names}
    native = np.asarray(found["native"]["top"])
    for name, each in found.items():
        agreement = float(np.mean(native == each["top"]))
        print(
            f"{network.name}, {bundle.parent.name}: {name} ({each['machine']}) runs {each['variant']}: "
            f"top-1 {network.top1(each['top']):.4f} of {len(native)}, agrees with native on {agreement:.4f}"
        )
    return found


def spread(network: Network, found: Mapping[str, Any]) -> float:
    """Returns the largest difference of top-1 between machines."""
    scores = [network.top1(each["top"]) for each in found.values()]
    return max(scores) - min(scores)


ALL = ("native", "Haswell", "cortex-a76")
HAS_VNNI = bool(set(VNNI) & set(local_device().isa))


def test_keyword_spotting(bench: Path, machines: Mapping[str, Any], prove_work: Path) -> None:
    with np.load(bench / "kws" / "kws01_mfcc_int8.npz") as arrays:
        x = (arrays["x"].astype(np.float32) - 83) * np.float32(0.5847029089927673)
        y = arrays["y"].astype(int)
    network = Network("keyword-spotting", prove_work / "kws", x, y)
    network.folder.mkdir()
    shutil.copyfile(bench / "kws" / "kws01_ref_model_float32.onnx", network.folder / "model.onnx")
    narrow, wide = make(network, "u8s7"), make(network, "u8s8")
    for bundle in (packed(network, narrow), packed(network, wide), packed(network, wide, narrow)):
        found = compared(network, bundle, machines, ALL)
        assert spread(network, found) <= POINTS
        assert network.top1(found["native"]["top"]) > 0.89
        assert all(machines[name].verify(bundle)["ok"] for name in ALL)


def test_fashion_mnist(bench: Path, machines: Mapping[str, Any], prove_work: Path) -> None:
    with np.load(bench / "fashion_mnist" / "fashion_mnist_test.npz") as arrays:
        chosen = np.random.default_rng(0).permutation(len(arrays["y"]))[:2000]  # the file is ordered by class
        x = ((arrays["x"][chosen].astype(np.float32) / 255 - 0.28604) / 0.35302)[:, None]
        network = Network(
            "fashion-mnist", prove_work / "fashion", x.astype(np.float32), arrays["y"][chosen].astype(int)
        )
    network.folder.mkdir()
    _export_resnet20(network.folder / "model.onnx")
    bundle = packed(network, make(network, "u8s7"))
    found = compared(network, bundle, machines, ALL)
    assert spread(network, found) <= POINTS
    assert network.top1(found["native"]["top"]) > 0.9
    assert all(machines[name].verify(bundle)["ok"] for name in ALL)


def _export_resnet20(path: Path) -> None:
    """Exports the example's network; trains it first where that has not been done."""
    import torch
    from safetensors.torch import load_file

    weights = EXAMPLE / "work" / "resnet20.safetensors"
    if not weights.exists():
        subprocess.run([sys.executable, str(EXAMPLE / "train.py"), "--threads", "2"], check=True, timeout=3600)
    spec = importlib.util.spec_from_file_location("fashion_mnist_network", EXAMPLE / "network.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    model = module.resnet20()
    model.load_state_dict(load_file(weights))
    _export(model.eval(), torch.zeros(1, 1, 28, 28), path)


def _export(model: Any, example: Any, path: Path) -> None:
    import warnings

    import torch

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(
            model, (example,), path, input_names=["x"], output_names=["y"], opset_version=18, dynamo=True,
            dynamic_shapes=({0: torch.export.Dim("batch")},), external_data=False, verbose=False,
        )  # fmt: skip


@pytest.fixture(scope="module")
def extreme(prove_work: Path) -> Network:
    """Digits on white paper, told apart by a perceptron whose hidden weights are all of one size: every pair of equal
    sign saturates."""
    import torch
    from sklearn.datasets import load_digits

    class Signs(torch.autograd.Function):
        @staticmethod
        def forward(ctx: Any, w: Any) -> Any:
            return w.sign() + (w == 0)

        @staticmethod
        def backward(ctx: Any, gradient: Any) -> Any:
            return gradient

    class Perceptron(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.hidden = torch.nn.Parameter(torch.randn(128, 64) * 0.1)
            self.gain = torch.nn.Parameter(torch.ones(128) * 0.05)
            self.bias = torch.nn.Parameter(torch.zeros(128))
            self.head = torch.nn.Linear(128, 10)

        def forward(self, x: Any) -> Any:
            weights = Signs.apply(self.hidden) * self.gain[:, None]
            return self.head(torch.nn.functional.linear(x, weights, self.bias).relu())

    torch.manual_seed(0)
    digits = load_digits()
    x = torch.from_numpy(1 - digits.data.astype(np.float32) / 16)
    y = torch.from_numpy(digits.target)
    model = Perceptron()
    optimiser = torch.optim.Adam(model.parameters(), lr=0.003)
    for _ in range(400):
        rows = torch.randperm(1200)[:128]
        loss = torch.nn.functional.cross_entropy(model(x[rows]), y[rows])
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    folder = prove_work / "extreme"
    folder.mkdir()
    _export(model.eval(), x[:1], folder / "model.onnx")
    return Network("extreme", folder, x[1200:].numpy(), digits.target[1200:])


def test_a_network_that_saturates_loses_as_one_plain_file_and_keeps_its_accuracy_as_ours(
    extreme: Network, machines: Mapping[str, Any]
) -> None:
    everywhere = (*ALL, "Nehalem", "cortex-a72")
    wide = make(extreme, "u8s8")
    (_, layer), *_ = wide.plan.hints["saturation"]["layers"].items()
    print("predicted:", layer)
    assert layer["expected"] > 0.05
    plain = make(extreme, "u8s8", {PRECISE: "0"})
    lost = compared(extreme, packed(extreme, plain, alone=True), machines, everywhere)
    scores = {name: extreme.top1(each["top"]) for name, each in lost.items()}
    assert scores["cortex-a76"] == scores["cortex-a72"] > 0.9
    assert scores["Haswell"] < scores["cortex-a76"] - 0.1, "without VNNI the plain file saturates"
    others = [make(extreme, name) for name in ("u8s7", "s8s8")]
    expected = {"Haswell": "default", "Nehalem": "default", "cortex-a76": "arm", "cortex-a72": "arm"}
    expected["native"] = "x86-vnni" if HAS_VNNI else "default"
    for bundle, picks in ((packed(extreme, wide), dict.fromkeys(everywhere, "default")),
                          (packed(extreme, wide, *others), expected)):  # fmt: skip
        kept = compared(extreme, bundle, machines, everywhere)
        assert spread(extreme, kept) <= POINTS
        assert abs(extreme.top1(kept["native"]["top"]) - scores["cortex-a76"]) <= POINTS
        assert {name: each["variant"] for name, each in kept.items()} == picks
        reports = {name: machines[name].verify(bundle) for name in everywhere}
        assert {name: report["variant"] for name, report in reports.items()} == picks
        assert all(report["ok"] for report in reports.values())


def test_the_processor_that_runs_the_program_counts_not_the_one_the_kernel_lists(machines: Mapping[str, Any]) -> None:
    code = "import json; from edgewright.runtimes._machine import local_device as d; print(json.dumps(d().isa))"
    found = {name: set(json.loads(machine.run("-c", code))) for name, machine in machines.items()}
    assert {"avx2", "fma"} <= found["Haswell"]
    assert found["Nehalem"] == set()
    assert not {name for name in found["Haswell"] if name.startswith(("avx512", "amx", "avx_vnni"))}
    assert "asimddp" in found["cortex-a76"] - found["cortex-a72"]
