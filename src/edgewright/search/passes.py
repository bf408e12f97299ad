"""Runs passes one after another, each with what it declares it needs: data, statistics, the float model."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from edgewright.core.recipe import StepSpec
from edgewright.engine import registry
from edgewright.engine.execute import Executor, Input, Result
from edgewright.errors import ConfigError

Made = Callable[[StepSpec, Result], None]


@dataclass(frozen=True, slots=True)
class PassRunner:
    """Where passes run.

    Attributes:
        executor: Runs and caches the steps.
        data: The project's data, held against the model's inputs; None where there is no project.
        calibration_limit: Most calibration samples to use.
    """

    executor: Executor
    data: Input | None
    calibration_limit: int | None = None

    def run(self, model: Result, passes: Sequence[StepSpec], made: Made | None = None) -> Result:
        """Runs `passes` on `model`.

        Args:
            model: A hub model.
            passes: In order.
            made: Told of every pass and what it made.

        Raises:
            ConfigError: A pass is unknown, a field does not fit, or it needs data and there are none.
            EdgewrightError: A pass failed.
        """
        float_model = model
        for spec in passes:
            named = self._named_inputs(spec, model, float_model)
            gathered = tuple(found.record for found in named.values() if isinstance(found, Result))
            given = {name: found.as_input() if isinstance(found, Result) else found for name, found in named.items()}
            inputs = {"model": model.as_input(), **given}
            model = self.executor.run("passes", spec, inputs, lineage=(*model.lineage, *gathered))
            if not getattr(registry.load("passes", spec.name), "quantises", False):
                float_model = model
            if made is not None:
                made(spec, model)
        return model

    def _named_inputs(self, spec: StepSpec, model: Result, float_model: Result) -> Mapping[str, Input | Result]:
        """Makes what a pass declares it needs beside the model.

        `data`; `statistics` gathered from the model; `float`, the model as it was before passes that quantise it.
        """
        makers: dict[str, Callable[[], Input | Result]] = {
            "data": lambda: self._data(spec),
            "statistics": lambda: self._statistics(spec, model),
            "float": lambda: float_model,
        }
        needs: tuple[str, ...] = getattr(registry.load("passes", spec.name), "needs", ())
        return {name: makers[name]() for name in needs}

    def _data(self, spec: StepSpec) -> Input:
        if self.data is None:
            raise ConfigError(f"pass {spec.name} needs data", hint="name a project: --project edgewright.toml")
        return self.data

    def _statistics(self, spec: StepSpec, model: Result) -> Result:
        config: dict[str, Any] = {"limit": self.calibration_limit}
        inputs = {"model": model.as_input(), "data": self._data(spec)}
        return self.executor.run("passes", StepSpec("calibrate", config), inputs)
