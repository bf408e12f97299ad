"""A study in SQLite: values, workers that stop in the middle, passwords."""

from __future__ import annotations

import math
from collections.abc import Mapping
from contextlib import contextmanager
from pathlib import Path

import pytest

from edgewright.errors import ConfigError, StepFailed, UsageError
from edgewright.search.tuning import storage as storages
from edgewright.search.tuning.ranges import Choices, Parameter, Plain, Span
from edgewright.search.tuning.ranges import Path as Place
from edgewright.search.tuning.results import BOTH, QUALITY, Outcome
from edgewright.search.tuning.study import Plan, identity, importance, open_study, tried, work

pytest.importorskip("optuna")
PARAMETERS = (
    Parameter("rate", ("rate",), Span(1e-4, 1.0, log=True)),
    Parameter("epochs", ("epochs",), Span(1, 8)),
    Parameter("norm", ("norm",), Choices(("train", "frozen"))),
)


def attempt(number: int, values: Mapping[Place, Plain]) -> Outcome:
    """The best rate is 0.01; more epochs are better and slower."""
    rate, epochs = float(values[("rate",)] or 0), int(values[("epochs",)] or 0)  # type: ignore[call-overload, arg-type]
    if rate > 0.9:
        return Outcome((), "failed", error="out of reach")
    return Outcome((), "met", 1 - abs(math.log10(rate) + 2) / 10 + epochs / 1000, 9.0 - epochs, 1.0, 9.0)


@contextmanager
def session(folder: Path, objective: str = QUALITY, name: str = "s"):
    plan = Plan(name, PARAMETERS, objective, seed=3, heartbeat=1)
    with storages.open_storage(f"sqlite:///{folder / 'study.db'}", 1) as storage:
        yield plan, open_study(plan, storage)


@pytest.mark.slow
def test_values_stay_in_their_ranges_and_the_study_goes_on_where_it_was(tmp_path: Path) -> None:
    with session(tmp_path) as (plan, study):
        work(study, plan, 2, attempt)
        assert len(tried(study)) == 2
    with session(tmp_path) as (plan, study):
        work(study, plan, 9, attempt)
        found = tried(study)
        assert set(importance(study, plan)) == {"rate", "epochs", "norm"}
    assert len(found) == 9
    for trial in found:
        assert 1e-4 <= trial.values["rate"] <= 1
        assert trial.values["epochs"] in range(1, 9)
        assert isinstance(trial.values["epochs"], int)
        assert trial.values["norm"] in ("train", "frozen")


@pytest.mark.slow
def test_two_objectives_have_two_values(tmp_path: Path) -> None:
    with session(tmp_path, BOTH, "both") as (plan, study):
        work(study, plan, 2, attempt)
        assert [len(trial.values) for trial in study.get_trials()] == [2, 2]


@pytest.mark.slow
def test_what_stops_a_worker_leaves_its_trial_to_the_next(tmp_path: Path) -> None:
    asked: list[Mapping[Place, Plain]] = []

    def stopped(number: int, values: Mapping[Place, Plain]) -> Outcome:
        asked.append(values)
        raise StepFailed("no space left", hint="make room")

    with session(tmp_path) as (plan, study), pytest.raises(StepFailed):
        work(study, plan, 1, stopped)
    with session(tmp_path) as (plan, study):
        assert [trial.state for trial in tried(study)] == ["failed", "waiting"]
        work(study, plan, 1, attempt)
        last = tried(study)[-1]
    assert last.state == "complete"
    assert last.values == {name: asked[0][(name,)] for name in ("rate", "epochs", "norm")}


@pytest.mark.slow
def test_the_same_seed_asks_for_the_same_values(tmp_path: Path) -> None:
    values = []
    for folder in (tmp_path / "one", tmp_path / "two"):
        with session(folder) as (plan, study):
            work(study, plan, 2, attempt)
            values.append([trial.values for trial in tried(study)])
    assert values[0] == values[1]


def test_another_question_is_another_study() -> None:
    assert identity({"a": 1}, Span(0, 1)) == identity({"a": 1}, Span(0, 1)) != identity({"a": 1}, Span(0, 2))


def test_a_password_is_never_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    for url in ("postgresql://me:s3cret@host/db", "postgresql+psycopg://me:s3cret@host:5432/db?x=1"):
        assert "s3cret" not in storages.shown(url)
        address, arguments = storages._address(url)
        assert "s3cret" not in address
        assert arguments["password"] == "s3cret"
    monkeypatch.setenv(storages.PASSWORD_VARIABLE, "hush!")
    assert storages._address("postgresql://me@host/db")[1]["password"] == "hush!"
    assert storages.shown("could not log in with hush!") == "could not log in with ***"


def test_what_is_no_database_is_said(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="mysql://me:\\*\\*\\*@host/db"):
        storages.open_storage("mysql://me:s3cret@host/db").__enter__()
    with pytest.raises(UsageError, match="storage postgresql://me:\\*\\*\\*@localhost:1/db") as caught:
        storages.open_storage("postgresql://me:s3cret@localhost:1/db").__enter__()
    assert "s3cret" not in str(caught.value) + str(caught.value.__cause__) + str(caught.value.__context__.args[0])
    with pytest.raises(UsageError, match="sqlite"):
        storages.open_storage(f"sqlite:///{tmp_path}").__enter__()


def test_the_storage_comes_from_the_environment_unless_it_is_given(monkeypatch: pytest.MonkeyPatch) -> None:
    assert storages.chosen("", Path("out")) == "sqlite:///out/study.db"
    monkeypatch.setenv(storages.STORAGE_VARIABLE, "postgresql://me@host/db")
    assert storages.chosen("", Path("out")) == "postgresql://me@host/db"
    assert storages.chosen("sqlite:///x.db", Path("out")) == "sqlite:///x.db"
