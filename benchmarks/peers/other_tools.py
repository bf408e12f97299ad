"""Olive and Neural Compressor: their ONNX paths, each in an environment of its own."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from bench import Bench
from environments import call

from edgewright.core.recipe import StepSpec
from edgewright.graph.load import MODEL_FILE

VARIANTS = {
    "olive": ("static MinMax", "static Percentile", "dynamic"),
    "neural-compressor": ("static default", "static kl", "dynamic"),
}
"""What each script makes, by the name it is given on its command line."""


def add(bench: Bench) -> None:
    """Adds every variant of both tools; what cannot be installed or fails is listed with its reason."""
    samples = bench.folder("samples") / "calibration.npz"
    feeds = list(bench.feeds())
    np.savez(samples, **{name: np.concatenate([feed[name] for feed in feeds]) for name in feeds[0]})
    for tool, variants in VARIANTS.items():
        for variant in variants:
            bench.attempt(tool, variant, "onnxruntime", lambda t=tool, v=variant: _made(bench, t, v, samples))


def _made(bench: Bench, tool: str, variant: str, samples: Path) -> Path:
    hub = bench.folder(tool)
    call(tool, variant, str(bench.model / MODEL_FILE), str(samples), str(hub / MODEL_FILE))
    return bench.step("targets", StepSpec("onnxruntime"), model=hub)
