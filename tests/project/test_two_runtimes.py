"""One search over two runtimes: winners beside each other, a bundle for each that opens with its own runtime."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("ai_edge_litert.interpreter")

from edgewright.bundle import open_bundle, verify
from edgewright.core.codec import decode_stored
from edgewright.core.recipe import Study
from edgewright.project.config import load_project
from edgewright.project.optimize import optimize
from edgewright.runtimes import open_runner


@pytest.mark.slow
def test_the_winner_beside_each_runtime_alone(tiny: Path) -> None:
    ladder = '[search]\nladder = ["bf16"]\n'
    text = tiny.read_text().replace("[search]\n", ladder)
    tiny.write_text(text + '[[targets]]\nname = "litert"\n')
    outcome = optimize(load_project(tiny))
    study = decode_stored(Study, outcome.study_json.read_bytes())
    assert set(study.winners) == {"onnxruntime", "litert"}
    best, other = study.standings
    assert {best.target, other.target} == set(study.winners)
    assert best.advantage.value == 1
    assert other.advantage.low <= other.advantage.value <= other.advantage.high
    assert "is the best" in (outcome.folder / "report.html").read_text()
    assert not any("no picture per layer" in warning for warning in study.warnings)
    tried = [c for c in study.of_target("litert") if c.measurement is not None]
    assert tried
    assert {node.where for c in tried for node in c.placement} <= {"XNNPACK", "CPU"}
    answers = []
    for target, path in outcome.bundles.items():
        assert verify(path).ok, target
        with open_runner(open_bundle(path).artifact) as runner:
            answers.append(runner.run({"image": np.full((2, 1, 8, 8), 0.5, np.float32)})["logits"])
    assert answers[0].shape == answers[1].shape == (2, 10)
