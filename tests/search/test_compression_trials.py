"""What a pass refuses is the fault of the search where the search chose the value, and of the user where it did not."""

from __future__ import annotations

from dataclasses import replace

import pytest

from edgewright.core.recipe import FAILED, Recipe, StepSpec, TargetSpec
from edgewright.errors import ConfigError, DataError
from edgewright.search.rungs import Rung
from edgewright.search.trial import Trials

TARGET = TargetSpec("onnxruntime", StepSpec("onnxruntime"))
RUNG = Rung("prune", Recipe("latency to 0.50", (StepSpec("prune"),)), TARGET.step, tentative=True)


def trials_that_raise(error: Exception, monkeypatch: pytest.MonkeyPatch) -> Trials:
    def judged(*given: object) -> None:
        raise error

    monkeypatch.setattr(Trials, "_judged", judged)
    return Trials.__new__(Trials)


def test_a_goal_out_of_reach_fails_its_candidate_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    trials = trials_that_raise(ConfigError("latency 0.5 is out of reach", hint="ask for 0.7"), monkeypatch)
    found = trials.run(RUNG, TARGET, 1, 1)
    assert (found.verdict, found.why) == (FAILED, "latency 0.5 is out of reach")
    with pytest.raises(ConfigError):
        trials.run(replace(RUNG, name="own", tentative=False), TARGET, 1, 1)


def test_data_at_fault_end_the_search_whoever_chose(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(DataError):
        trials_that_raise(DataError("sample 3 is not finite", hint="repair it"), monkeypatch).run(RUNG, TARGET, 1, 1)
