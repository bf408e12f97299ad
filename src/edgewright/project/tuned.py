"""What a tuning writes down: `tuning.json`, a page, and the best recipe as TOML that can be pasted in."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from edgewright.core.codec import encode, encode_json
from edgewright.project.amend import to_toml
from edgewright.search.tuning.results import BOTH, Outcome, Tried, Tuning
from edgewright.search.tuning.subject import TRAINING, Subject
from edgewright.store.files import write_atomic


def write_results(tuning: Tuning, subject: Subject, folder: Path) -> None:
    """Writes `tuning.json`, `best.toml` and `tuning.html` into `folder`.

    Raises:
        ToolchainMissing: What the page needs is not installed; the other files are written by then.
    """
    write_atomic(folder / "tuning.json", encode_json(tuning))
    write_atomic(folder / "best.toml", best_toml(tuning, subject).encode())
    from edgewright.report.tuning import tuning_html

    write_atomic(folder / "tuning.html", tuning_html(tuning).encode())


def best_toml(tuning: Tuning, subject: Subject) -> str:
    """Returns the best recipe, or all of the front where quality and speed are both sought, as TOML."""
    if tuning.best is None:
        return f"# {tuning.subject}: no trial was judged yet\n"
    numbers = tuning.front if tuning.objective == BOTH else (tuning.best,)
    trials = [tuning.trial(number) for number in numbers]
    if subject.title == TRAINING:
        return "\n".join(_training(trial, subject) for trial in trials)
    tables = [{"title": f"{subject.title}, trial {t.number}", **_passes(t, subject)} for t in trials]
    return "".join(_comment(t) for t in trials) + to_toml(_plain({"recipes": tables}))


def _passes(trial: Tried, subject: Subject) -> dict[str, Any]:
    return {"passes": subject.named(trial.values)["passes"]}


def _training(trial: Tried, subject: Subject) -> str:
    return _comment(trial) + to_toml(_plain({"training": subject.named(trial.values)}))


def _comment(trial: Tried) -> str:
    assert trial.outcome is not None
    return f"# trial {trial.number}: {figures(trial.outcome)}\n"


def figures(outcome: Outcome) -> str:
    """Says what a trial came to, in one line."""
    if outcome.quality is None:
        return f"failed: {outcome.error}"
    speed = f", {outcome.speedup:.2f} times as fast" if outcome.speedup is not None else ""
    broken = f", breaks {'; '.join(outcome.broken)}" if outcome.broken else ""
    return f"quality {outcome.quality:.4f} on tune{speed}{broken}"


def _plain(value: Any) -> Any:
    """Returns lists for tuples, and leaves out what has no value: TOML knows neither."""
    found = json.loads(json.dumps(encode(value)))
    return _without_none(found)


def _without_none(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _without_none(item) for key, item in value.items() if item is not None}
    return [_without_none(item) for item in value] if isinstance(value, list) else value
