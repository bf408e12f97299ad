"""`edgewright tune`: a study in SQLite, its table, its page, and a recipe that can be pasted in."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from edgewright.core.codec import decode_stored
from edgewright.errors import ConfigError
from edgewright.project.config import load_project
from edgewright.project.tune import Options, tune
from edgewright.project.tuned import best_toml
from edgewright.report.tuning import headline, show_tuning, tuning_html
from edgewright.search.tuning.results import BOTH, QUALITY, SPEED, Outcome, Tried, Tuning, concluded
from edgewright.search.tuning.subject import choose_subject
from edgewright.store.cache import Cache

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

RECIPE = """
[[recipes]]
title = "int8"
[[recipes.passes]]
name = "clean-up"
[[recipes.passes]]
name = "static-int8"
scheme = "onnxruntime-u8s7"
ranges = "percentile"
percent = {low = 98.0, high = 99.99}
"""
TABLE = {
    "title": "int8",
    "passes": ({"name": "static-int8", "percent": {"low": 98.0, "high": 99.99}, "keep_float": ("a", "b")},),
}


def outcome(quality: float, speedup: float, broken: tuple[str, ...] = ()) -> Outcome:
    excess = 0.5 if broken else 0.0
    return Outcome((), "met", quality, speedup, speedup - 0.1, speedup + 0.1, 5000, 0.0, excess, broken, "pi", 3.0)


def example(objective: str = QUALITY) -> Tuning:
    trials = (
        Tried(0, "complete", {"static-int8.percent": 98.5}, outcome(0.90, 2.0)),
        Tried(1, "complete", {"static-int8.percent": 99.5}, outcome(0.92, 1.5)),
        Tried(2, "complete", {"static-int8.percent": 99.9}, outcome(0.95, 1.0, ("speed-up: 1 (limit 1.2)",))),
        Tried(3, "failed", {"static-int8.percent": 98.1}, Outcome((), "failed", error="<b>out of reach</b>")),
        Tried(4, "failed", {"static-int8.percent": 98.2}),
        Tried(5, "running", {"static-int8.percent": 98.2}, retry_of=4),
    )
    names, importance = ("static-int8.percent",), {"static-int8.percent": 1.0}
    found = Tuning(1, "p", "s", "int8", "onnxruntime", objective, "top-1", True, 0.94, names, trials)
    return concluded(Tuning(*[getattr(found, f) for f in found.__slots__][:11], importance=importance))


def test_the_best_recipe_is_toml_that_can_be_pasted_in() -> None:
    subject = choose_subject({"int8": TABLE}, None, "")
    (best,) = tomllib.loads(best_toml(example(), subject))["recipes"]
    assert best == {
        "title": "int8, trial 1",
        "passes": [{"name": "static-int8", "percent": 99.5, "keep_float": ["a", "b"]}],
    }
    front = tomllib.loads(best_toml(example(BOTH), subject))["recipes"]
    assert [recipe["title"] for recipe in front] == ["int8, trial 0", "int8, trial 1", "int8, trial 2"]
    assert "# trial 0: quality 0.9000 on tune, 2.00 times as fast" in best_toml(example(BOTH), subject)


def test_the_table_training_comes_back_as_a_table() -> None:
    table = {"epochs": 4, "latency": {"low": 0.3, "high": 0.7}, "fit": {"warmup": 0.1}}
    subject = choose_subject({}, table, "")
    trials = (Tried(0, "complete", {"latency": 0.4}, outcome(0.9, 2.0)),)
    found = concluded(Tuning(1, "p", "s", "training", "t", QUALITY, "top-1", True, 0.9, ("latency",), trials))
    made = tomllib.loads(best_toml(found, subject))
    assert made == {"training": {"epochs": 4, "latency": 0.4, "fit": {"warmup": 0.1}}}
    assert best_toml(concluded(Tuning(*[getattr(found, f) for f in found.__slots__][:10], ())), subject).startswith("#")


@pytest.mark.parametrize("objective", [QUALITY, SPEED, BOTH])
def test_the_page_opens_offline_and_trusts_no_text(objective: str) -> None:
    page = tuning_html(example(objective))
    assert "script-src 'sha256-" in page
    assert "http" not in page.split("<script")[0].replace("http-equiv", "")
    assert "<b>out of reach" not in page
    for plot in ("history", "front", "importance", "slice-0"):
        assert f'id="{plot}"' in page
    assert "again for trial 4" not in page  # it has not come to anything yet
    assert "tried again" in page


def test_the_table_names_the_best_and_what_others_broke(capsys: pytest.CaptureFixture[str]) -> None:
    show_tuning(example())
    told = capsys.readouterr().out
    assert "trial 1 of 3: static-int8.percent = 99.5: top-1 92.0% on tune (-2.0 points), 1.50x the speed" in told
    assert "no trial was judged yet" in headline(
        concluded(Tuning(*[getattr(example(), f) for f in Tuning.__slots__][:10], ()))
    )


def test_a_project_without_ranges_is_told_how_to_write_one(tiny: Path) -> None:
    pytest.importorskip("optuna")
    with pytest.raises(ConfigError, match="nothing to tune") as caught:
        tune(load_project(tiny), Options())
    assert "{low = 0.3, high = 0.7}" in caught.value.hint


@pytest.mark.slow
def test_trials_are_recipes_that_the_cache_keeps_and_the_study_goes_on(tiny: Path, tmp_path: Path) -> None:
    pytest.importorskip("optuna")
    tiny.write_text(tiny.read_text() + RECIPE)
    cache = Cache(tmp_path / "cache")
    first = tune(load_project(tiny), Options(trials=1), cache=cache)
    found = tune(load_project(tiny), Options(trials=2), cache=cache)
    assert [trial.number for trial in found.tuning.trials] == [0, 1]
    assert found.tuning.trials[0] == first.tuning.trials[0]
    assert found.tuning.objective == BOTH
    assert decode_stored(Tuning, (found.folder / "tuning.json").read_bytes()) == found.tuning
    assert (found.folder / "tuning.html").is_file()
    pasted = tomllib.loads((found.folder / "best.toml").read_text())["recipes"]
    assert 98.0 <= pasted[0]["passes"][1]["percent"] <= 99.99
    text = tiny.read_text().replace(RECIPE, (found.folder / "best.toml").read_text())
    tiny.write_text(text)
    assert len(load_project(tiny).recipes) == len(pasted)
