"""Edgewright: from a trained model to a proven, packed, running artifact.

    import edgewright

    project = edgewright.load_project("edgewright.toml")
    outcome = edgewright.optimize(project)
    print(outcome.met, outcome.bundles)

Every name below is imported when it is first used, so that importing the package costs nothing.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

if TYPE_CHECKING:
    from edgewright.bundle import Bundle, open_bundle, pack, verify
    from edgewright.core.budget import Budget, Violation
    from edgewright.core.measurement import Measurement
    from edgewright.core.recipe import Candidate, Recipe, StepSpec, Study
    from edgewright.core.target import Artifact, Plan, RunOptions, Scheme
    from edgewright.core.tensors import TensorSpec
    from edgewright.errors import EdgewrightError
    from edgewright.project.config import Project, load_project
    from edgewright.project.optimize import Outcome, optimize
    from edgewright.report import write_report
    from edgewright.runtimes import load_artifact, open_runner
    from edgewright.store.cache import Cache

_HOMES = {
    "Artifact": "core.target",
    "Budget": "core.budget",
    "Bundle": "bundle",
    "Cache": "store.cache",
    "Candidate": "core.recipe",
    "EdgewrightError": "errors",
    "Measurement": "core.measurement",
    "Outcome": "project.optimize",
    "Plan": "core.target",
    "Project": "project.config",
    "Recipe": "core.recipe",
    "RunOptions": "core.target",
    "Scheme": "core.target",
    "StepSpec": "core.recipe",
    "Study": "core.recipe",
    "TensorSpec": "core.tensors",
    "Violation": "core.budget",
    "load_artifact": "runtimes",
    "load_project": "project.config",
    "open_bundle": "bundle",
    "open_runner": "runtimes",
    "optimize": "project.optimize",
    "pack": "bundle",
    "verify": "bundle",
    "write_report": "report",
}

__all__ = [
    "Artifact",
    "Budget",
    "Bundle",
    "Cache",
    "Candidate",
    "EdgewrightError",
    "Measurement",
    "Outcome",
    "Plan",
    "Project",
    "Recipe",
    "RunOptions",
    "Scheme",
    "StepSpec",
    "Study",
    "TensorSpec",
    "Violation",
    "load_artifact",
    "load_project",
    "open_bundle",
    "open_runner",
    "optimize",
    "pack",
    "verify",
    "write_report",
]


def __getattr__(name: str) -> Any:
    import importlib

    if name not in _HOMES:
        raise AttributeError(f"module 'edgewright' has no attribute {name!r}")
    return getattr(importlib.import_module(f"edgewright.{_HOMES[name]}"), name)
