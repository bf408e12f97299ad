"""Training on the terminal: live loss and score, and how long the step still takes."""

from __future__ import annotations

import io

from rich.console import Console

from edgewright.report.terminal import SearchProgress


def test_a_long_step_says_how_long_it_still_takes_beside_the_search() -> None:
    now, said = [0.0], io.StringIO()
    progress = SearchProgress(Console(file=said, width=200), clock=lambda: now[0])
    with progress:
        progress.candidate_started("latency to 0.50, 4 epochs", "onnxruntime", 2, 4)
        now[0] = 30.0
        progress.progress(0.25, "epoch 1 of 4, loss 0.213, top-1 93.1%")
    text = said.getvalue()
    assert "epoch 1 of 4, loss 0.213, top-1 93.1% (25% of this step, 1 min 30 s left)" in text


def test_a_short_step_says_no_more_than_its_note() -> None:
    now, said = [0.0], io.StringIO()
    progress = SearchProgress(Console(file=said, width=200), clock=lambda: now[0])
    with progress:
        progress.candidate_started("float", "onnxruntime", 1, 4)
        now[0] = 16.0
        progress.progress(0.5, "run 10 of 20")
    assert "run 10 of 20, about" in said.getvalue()
