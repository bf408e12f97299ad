"""Hyper-parameters of a project's recipes, found by trying: one worker, several, or many machines on one study."""

from __future__ import annotations

import contextlib
import os
import platform
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgewright.core.codec import encode
from edgewright.core.recipe import Recipe, TargetSpec
from edgewright.engine import registry
from edgewright.engine.execute import Executor
from edgewright.errors import ConfigError, StepFailed
from edgewright.project.config import FILE_NAME, Project, training_config
from edgewright.project.question import ask
from edgewright.project.select import narrowed
from edgewright.project.tuned import write_results
from edgewright.runtimes._machine import local_device
from edgewright.search.compression import pipeline, why_not
from edgewright.search.observer import Observer, Silent
from edgewright.search.opening import Opening, open_search
from edgewright.search.repair import Chain
from edgewright.search.rungs import Rung
from edgewright.search.tuning import storage as storages
from edgewright.search.tuning.ranges import Path as Place
from edgewright.search.tuning.ranges import Plain
from edgewright.search.tuning.results import Outcome, Tuning, concluded, finished, outcome_of
from edgewright.search.tuning.study import Plan, identity, importance, open_study, tried, work
from edgewright.search.tuning.subject import TRAINING, Subject, choose_objective, choose_subject, recipe
from edgewright.store.cache import Cache

if TYPE_CHECKING:
    import optuna

SCHEMA = 1
FOLDER = "tune"
_POLL_SECONDS = 1.0


@dataclass(frozen=True, slots=True)
class Options:
    """How to tune.

    Attributes:
        trials: Finished trials that the study shall hold, whoever finishes them; 0 to look at what there is.
        storage: URL of the study's database; see `search.tuning.storage.chosen`.
        workers: Processes on this machine.
        recipe: Title of the recipe, or `training`; the only one with ranges where empty.
        target: Label of the target; the first where empty.
        objective: `quality`, `speed` or `both`; by the budget where empty.
        study: Name of the study; from what is asked where empty, so that another question is another study.
        heartbeat: Seconds between signs of life of a worker.
        worker: Index of this process among those of its machine.
        file: The project file, for workers that are started.
    """

    trials: int = 20
    storage: str = ""
    workers: int = 1
    recipe: str = ""
    target: str = ""
    objective: str = ""
    study: str = ""
    heartbeat: int = storages.HEARTBEAT_SECONDS
    worker: int = 0
    file: Path | None = None


@dataclass(frozen=True, slots=True)
class Tuned:
    """What `tune` leaves behind.

    Attributes:
        tuning: Everything found out.
        folder: `tuning.json`, `tuning.html` and `best.toml`.
    """

    tuning: Tuning
    folder: Path

    @property
    def met(self) -> bool:
        """True when the best trial is inside the budget."""
        best = self.tuning.best
        outcome = self.tuning.trial(best).outcome if best is not None else None
        return outcome is not None and outcome.inside


def tune(project: Project, options: Options, *, cache: Cache | None = None, observer: Observer | None = None) -> Tuned:
    """Tries values until the study holds as many trials as asked, then writes what was found.

    The same call on another machine with the same storage is another worker of the same study.

    Args:
        project: From `load_project`; one of its recipes, or `[training]`, holds ranges.
        options: How.
        cache: Where finished steps are kept.
        observer: Told what happens.

    Raises:
        ConfigError: There is nothing to tune.
        ToolchainMissing: Optuna is not installed.
        EdgewrightError: The fault lies outside of one trial; what was finished is kept in the study.
    """
    observer = observer or Silent()
    cache = cache or Cache.default()
    folder = project.output / FOLDER
    url = storages.chosen(options.storage, folder)
    with storages.open_storage(url, options.heartbeat) as storage, cache.shared():
        session = _begin(project, options, cache, observer)
        study = open_study(session.plan, storage, options.worker)
        if options.workers > 1:
            _share(project, options, url, study, observer)
        else:
            work(study, session.plan, options.trials, session.attempt)
        tuning = _concluded(session, study)
    if options.worker == 0:
        write_results(tuning, session.subject, folder)
    return Tuned(tuning, folder)


@dataclass(frozen=True, slots=True)
class _Session:
    """One worker, ready to try values."""

    project: Project
    subject: Subject
    target: TargetSpec
    opening: Opening
    plan: Plan
    observer: Observer
    asked: int

    def attempt(self, number: int, values: Mapping[Place, Plain]) -> Outcome:
        """Tries one set of values."""
        title = ", ".join(f"{p.name}={_short(values[p.path])}" for p in self.subject.parameters)
        self.observer.candidate_started(title, self.target.label, number + 1, max(self.asked, number + 1))
        rung = Rung(self.subject.title, self.recipe(values, title), self.target.step, tentative=True)
        search, began = self.project.file.search, time.monotonic()
        candidate = self.opening.trials.run(rung, self.target, search.threads[0], search.batch[0])
        self.observer.candidate_finished(candidate)
        return outcome_of(candidate, platform.node(), time.monotonic() - began)

    def recipe(self, values: Mapping[Place, Plain], title: str) -> Recipe:
        """Returns what the values come to."""
        table = self.subject.filled(values)
        if self.subject.title != TRAINING:
            return recipe(table, title)
        training = self.opening.facts.training
        assert training is not None
        target: Any = registry.make("targets", self.target.step)
        schemes = target.schemes(self.opening.trials.place(self.target).device)
        made = pipeline(replace(training, config=training_config(table)), Chain(schemes[0]) if schemes else None)
        return replace(made, title=title)


def _begin(project: Project, options: Options, cache: Cache, observer: Observer) -> _Session:
    """Prepares what every trial needs: import, data, the original judged."""
    file = project.file
    recipes = {each.title: encode(each) for each in file.recipes}
    subject = choose_subject(recipes, file.training, options.recipe)
    target = narrowed(project, (options.target,) if options.target else ()).targets[0]
    objective = choose_objective(options.objective, file.budget)
    example = subject.example
    plain = replace(file, recipes=(), training=example if subject.title == TRAINING else None)
    request = ask(replace(narrowed(project, (target.label,)), file=plain), project.output / FOLDER / ".work")
    own = () if subject.title == TRAINING else (recipe(example, subject.title),)
    request = replace(request, recipes=own, targets=tuple(t for t in request.targets if t.label == target.label))
    executor = Executor(cache, project.root, local_device(), seed=file.seed, progress=observer.progress)
    opening = open_search(request, executor, observer)
    _refuse_what_cannot_train(subject, opening)
    assert opening.reference.measurement is not None
    figure = opening.reference.measurement.tune.figures[0]
    parts = (subject.table, target, file.quality, file.budget, objective, file.seed, request.source)
    name = options.study or f"{file.name}/{subject.title}/{identity(*parts, *_digests(request.model))}"
    sign = 1.0 if figure.higher_is_better else -1.0
    plan = Plan(name, subject.parameters, objective, sign, file.seed, options.heartbeat)
    return _Session(project, subject, request.targets[0], opening, plan, observer, options.trials)


def _digests(inputs: Mapping[str, Any]) -> tuple[str, ...]:
    return tuple(f"{name}={given.digest}" for name, given in sorted(inputs.items()))


def _refuse_what_cannot_train(subject: Subject, opening: Opening) -> None:
    training = opening.facts.training
    if subject.title == TRAINING and training is not None and (refused := why_not(training)):
        raise ConfigError(f"[training]: {refused}", hint="add [data.train], or [data.unlabelled] without labels")


def _concluded(session: _Session, study: optuna.Study) -> Tuning:
    measured = session.opening.reference.measurement
    assert measured is not None
    figure = measured.tune.figures[0]
    return concluded(
        Tuning(
            *(SCHEMA, session.project.file.name, session.plan.name, session.subject.title, session.target.label),
            *(session.plan.objective, figure.metric, figure.higher_is_better, figure.value),
            parameters=tuple(each.name for each in session.subject.parameters),
            trials=tried(study),
            importance=importance(study, session.plan),
        )
    )


def _share(project: Project, options: Options, url: str, study: optuna.Study, observer: Observer) -> None:
    """Starts workers, each the same command, and watches the study until they have ended.

    Raises:
        StepFailed: All of them ended before the trials were finished.
    """
    with _workers(project, options, url) as workers:
        seen = (-1, 0)
        while any(worker.poll() is None for worker in workers):
            seen = _tell(study, seen, options.trials, observer)
            time.sleep(_POLL_SECONDS)
    if finished(tried(study)) < options.trials:
        endings = ", ".join(str(worker.returncode) for worker in workers)
        message = f"all {len(workers)} workers ended before the trials were finished (exit status {endings})"
        raise StepFailed(message, hint="see what they said above; the same command goes on from there")


@contextlib.contextmanager
def _workers(project: Project, options: Options, url: str) -> Iterator[list[subprocess.Popen[bytes]]]:
    """Starts the workers; they end with this process. The storage's URL goes by the environment: arguments are seen."""
    threads = str(max(1, (os.cpu_count() or 1) // options.workers))
    environment = {"OMP_NUM_THREADS": threads, **os.environ, storages.STORAGE_VARIABLE: url}
    commands = [_command(project, options, index) for index in range(1, options.workers + 1)]
    started: list[subprocess.Popen[bytes]] = []
    try:
        started.extend(subprocess.Popen(command, env=environment) for command in commands)
        yield started
    finally:
        for worker in started:
            if worker.poll() is None:
                worker.kill()
            worker.wait()


def _command(project: Project, options: Options, index: int) -> Sequence[str]:
    given = {"recipe": options.recipe, "target": options.target, "objective": options.objective, "study": options.study}
    named = [text for name, value in given.items() if value for text in (f"--{name}", value)]
    numbers = {"trials": options.trials, "heartbeat": options.heartbeat, "worker": index}
    counted = [text for name, number in numbers.items() for text in (f"--{name}", str(number))]
    return [
        sys.executable,
        "-m",
        "edgewright.cli",
        "tune",
        str(options.file or project.root / FILE_NAME),
        "--quiet",
        *named,
        *counted,
    ]


def _tell(study: optuna.Study, seen: tuple[int, int], asked: int, observer: Observer) -> tuple[int, int]:
    """Says how many trials are finished and in work, where that has changed since it was last `seen`."""
    trials = tried(study)
    now = finished(trials), sum(trial.state == "running" for trial in trials)
    if now != seen:
        title = f"{now[0]} of {asked} trials, {now[1]} in work"
        observer.candidate_started(title, "all workers", min(now[0] + 1, asked), asked)
    return now


def _short(value: Plain) -> str:
    return f"{value:.3g}" if isinstance(value, float) else str(value)
