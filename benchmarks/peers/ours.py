"""Our points: the original, and every candidate of the example's search that was measured."""

from __future__ import annotations

from bench import EXAMPLES, PROJECTS, Bench, Point

from edgewright.core.recipe import StepSpec
from edgewright.project.config import load_project
from edgewright.project.optimize import optimize
from edgewright.store.cache import Cache

OURS = "Edgewright"
ORIGINAL = "original"


def add(bench: Bench, model: str, everything: bool) -> None:
    """Runs (or takes from the cache) the search of the example and adds what it found.

    Args:
        bench: Gets the points.
        model: Key of `PROJECTS`.
        everything: All candidates that were measured, not only the Pareto fronts of the search.
    """
    for target in ("onnxruntime", "openvino"):
        make = lambda t=target: bench.step("targets", StepSpec(t), model=bench.original)  # noqa: E731
        bench.attempt(ORIGINAL, "float", target, make)
    cache = Cache.default()
    study = optimize(load_project(EXAMPLES / PROJECTS[model]), cache=cache, progress=True).study
    front = {id for ids in study.fronts.values() for id in ids} | set(study.winners.values())
    for candidate in study.candidates:
        if candidate.measurement is None or not (everything or candidate.id in front):
            continue
        path = cache.output_path(candidate.evidence["artifact"])
        bench.points.append(Point(OURS, candidate.recipe.title, candidate.target, path))
