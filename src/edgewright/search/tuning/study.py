"""A study in its storage: asked for values, told what they came to. Optuna's names end here."""

from __future__ import annotations

import hashlib
import os
import platform
import time
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from edgewright.core.codec import decode_stored, encode, encode_json
from edgewright.errors import EdgewrightError
from edgewright.search.tuning.ranges import Choices, Parameter, Path, Plain
from edgewright.search.tuning.results import BOTH, QUALITY, Outcome, Tried, excess, finished, goals

if TYPE_CHECKING:
    import optuna

_OUTCOME = "outcome"
_WORKER = "worker"
_POLL_SECONDS = 2.0
_APART = 97
"""Between the seeds of workers, so that those that start together do not begin with the same values."""
Try = Callable[[int, Mapping[Path, Plain]], Outcome]
"""Number of a trial and its values -> what it came to."""


class _CandidateFailed(Exception):
    """Marks a trial as failed in the study without ending the worker."""


@dataclass(frozen=True, slots=True)
class Plan:
    """What is asked.

    Attributes:
        name: Of the study.
        parameters: That vary.
        objective: `quality`, `speed` or `both`.
        sign: -1 where less of the metric is better.
        seed: Of the sampler.
        heartbeat: Seconds between signs of life.
    """

    name: str
    parameters: tuple[Parameter, ...]
    objective: str = QUALITY
    sign: float = 1.0
    seed: int = 0
    heartbeat: int = 30


def identity(*parts: Any) -> str:
    """Returns twelve letters that differ where any of `parts`, plain or dataclasses, differs."""
    return hashlib.sha256(encode_json([encode(part) for part in parts])).hexdigest()[:12]


def open_study(plan: Plan, storage: optuna.storages.RDBStorage, worker: int = 0) -> optuna.Study:
    """Returns the study of `plan`, made where it is not there yet.

    Args:
        plan: What is asked.
        storage: From `open_storage`.
        worker: Index of this worker on its machine.
    """
    import optuna

    directions = [optuna.study.StudyDirection.MAXIMIZE] * (2 if plan.objective == BOTH else 1)
    study = optuna.create_study(storage=storage, study_name=plan.name, load_if_exists=True, directions=directions)
    seen = len(study.get_trials(deepcopy=False))
    seed = (plan.seed + _APART * worker + 1009 * seen) % 2**32
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        study.sampler = optuna.samplers.TPESampler(seed=seed, multivariate=True, n_startup_trials=_startup(plan))
    return study


def _startup(plan: Plan) -> int:
    """Random trials before the sampler begins to learn: a few per parameter."""
    return max(5, 3 * len(plan.parameters))


def work(study: optuna.Study, plan: Plan, asked: int, attempt: Try) -> None:
    """Tries values until the study holds `asked` finished trials, whoever finished them.

    Waits for the trials of other workers to end: one whose worker was killed is taken over.

    Raises:
        EdgewrightError: The fault lies outside of one candidate; the trial is left for another worker.
    """
    import optuna

    while True:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
            optuna.storages.fail_stale_trials(study)
        trials = tried(study)
        done = finished(trials)
        states = [trial.state for trial in trials]
        if done >= asked:
            return
        if done + states.count("running") < asked or "waiting" in states:
            study.optimize(_objective(plan, asked, attempt), n_trials=1, catch=(_CandidateFailed,))
        else:
            time.sleep(min(_POLL_SECONDS, plan.heartbeat))


def _objective(plan: Plan, asked: int, attempt: Try) -> Callable[[optuna.Trial], tuple[float, ...]]:
    def objective(trial: optuna.Trial) -> tuple[float, ...]:
        import optuna

        if _surplus(trial, asked):
            raise optuna.TrialPruned("other workers have begun enough")
        trial.set_user_attr(_WORKER, f"{platform.node()}:{os.getpid()}")
        values = {parameter.path: suggested(trial, parameter) for parameter in plan.parameters}
        try:
            found = attempt(trial.number, values)
        except (KeyboardInterrupt, EdgewrightError):
            trial.study.enqueue_trial(trial.params)
            raise
        trial.set_user_attr(_OUTCOME, encode(found))
        if found.quality is None:
            raise _CandidateFailed(found.error)
        trial.set_constraint("budget", excess(found, plan.objective))
        return goals(found, plan.objective, plan.sign)

    return objective


def _surplus(trial: optuna.Trial, asked: int) -> bool:
    """Says whether workers that looked at the same moment have begun enough before this one."""
    earlier = [t for t in tried(trial.study) if t.number < trial.number]
    return finished(earlier) + sum(t.state == "running" for t in earlier) >= asked


def suggested(trial: optuna.Trial, parameter: Parameter) -> Plain:
    """Returns the value that the study wants to see tried."""
    span = parameter.range
    if isinstance(span, Choices):
        choice: Plain = trial.suggest_categorical(parameter.name, span.choices)
        return choice
    if span.whole:
        low, high, step = int(span.low), int(span.high), int(span.step or 1)
        return int(trial.suggest_int(parameter.name, low, high, log=span.log, step=step))
    return float(trial.suggest_float(parameter.name, span.low, span.high, log=span.log, step=span.step))


def tried(study: optuna.Study) -> tuple[Tried, ...]:
    """Returns the trials of a study; those that were begun in excess are left out."""
    import optuna

    kept = [t for t in study.get_trials(deepcopy=False) if t.state != optuna.trial.TrialState.PRUNED]
    return tuple(_tried(trial) for trial in kept)


def _tried(trial: optuna.trial.FrozenTrial) -> Tried:
    state = {"FAIL": "failed"}.get(trial.state.name, trial.state.name.lower())
    retry_of = trial.system_attrs.get("failed_trial")
    values = trial.params or dict(trial.system_attrs.get("fixed_params", {}))
    return Tried(trial.number, state, values, _outcome(trial), retry_of)


def _outcome(trial: optuna.trial.FrozenTrial) -> Outcome | None:
    stored = trial.user_attrs.get(_OUTCOME)
    return None if stored is None else decode_stored(Outcome, encode_json(stored))


def importance(study: optuna.Study, plan: Plan) -> dict[str, float]:
    """Returns which parameters the first objective depends on most (PED-ANOVA, Watanabe et al. 2023).

    Empty where there are fewer than eight trials or nothing differs.
    """
    import optuna

    complete = study.get_trials(deepcopy=False, states=(optuna.trial.TrialState.COMPLETE,))
    if len(complete) < 8:
        return {}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            target = (lambda trial: trial.values[0]) if plan.objective == BOTH else None
            found = optuna.importance.get_param_importances(study, target=target)
        except (RuntimeError, ValueError, ZeroDivisionError):
            return {}
    return {name: round(float(value), 4) for name, value in found.items() if value == value}  # noqa: PLR0124 - not NaN
