"""Edgewright's side of `benchmarks/litert.py`, in a process of its own.

litert_ours.py export NETWORK OUT.onnx
litert_ours.py convert MODEL.onnx OUT.tflite
litert_ours.py quantise MODEL.onnx SAMPLES.npz OUT.tflite
"""

from __future__ import annotations

import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path


@dataclass(slots=True)
class Context:
    """Of steps that nobody watches."""

    scratch: Path
    seed: int = 0

    def progress(self, fraction: float, note: str = "") -> None:
        """Shows nothing."""


def export(network: str, out: str) -> None:
    """PyTorch to ONNX, batch norm and all."""
    import litert_networks
    import torch

    torch.onnx.export(
        litert_networks.build(network),
        (litert_networks.example(),),
        out,
        input_names=["image"],
        output_names=["scores"],
        opset_version=18,
        dynamo=False,
    )


def convert(model: str, out: str) -> None:
    """ONNX file to .tflite file, nothing else: no framework is imported."""
    from edgewright.core.target import Plan
    from edgewright.graph.load import load
    from edgewright.graph.names import name_nodes
    from edgewright.targets._tflite.compile import compile_model
    from edgewright.targets._tflite.options import Options

    read = load(Path(model))
    name_nodes(read.graph)
    Path(out).write_bytes(compile_model(read, Plan(scheme=""), Options()).content)


def quantise(model: str, samples: str, out: str) -> None:
    """Clean-up, calibration, static INT8 by LiteRT's scheme, compile with proof of placement."""
    from edgewright.core.codec import encode_json
    from edgewright.core.recipe import StepSpec
    from edgewright.data import data_spec
    from edgewright.engine import registry

    with tempfile.TemporaryDirectory() as name:
        root = Path(name)

        def step(group: str, spec: StepSpec, **inputs: Path) -> Path:
            made = root / spec.name
            made.mkdir()
            registry.make(group, spec).run(inputs, made, Context(root / "scratch"))
            return made

        table = {"reader": "npz", "path": samples, "value": "images", "label": "", "calibration": {}}
        (root / "data.json").write_bytes(encode_json(data_spec(root, table)))
        data = root / "data.json"
        clean = step("passes", StepSpec("clean-up"), model=Path(model))
        statistics = step("passes", StepSpec("calibrate"), model=clean, data=data)
        scheme = StepSpec("static-int8", {"scheme": "litert-s8s8"})
        quantised = step("passes", scheme, model=clean, statistics=statistics, data=data)
        artifact = step("targets", StepSpec("litert"), model=quantised)
        Path(out).write_bytes((artifact / "model.tflite").read_bytes())


if __name__ == "__main__":
    {"export": export, "convert": convert, "quantise": quantise}[sys.argv[1]](*sys.argv[2:])
