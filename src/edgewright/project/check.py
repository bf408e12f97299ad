"""Which model and which targets `edgewright check` looks at."""

from __future__ import annotations

from collections.abc import Sequence

from edgewright.core.recipe import StepSpec
from edgewright.project.config import Project
from edgewright.report.inspection import Subject


def subject_of(project: Project) -> Subject:
    """Returns the model of a project, as what can be inspected."""
    model = project.file.model
    source = model.source if ":" in model.source else str(project.root / model.source)
    checkpoint = project.root / model.checkpoint if model.checkpoint else None
    kept = checkpoint if checkpoint is not None and checkpoint.is_file() else None
    return Subject(source, model.inputs, kept, project.root)


def chosen_targets(names: Sequence[str], project: Project | None) -> tuple[StepSpec, ...]:
    """Returns the targets to check for: those named, else those of the project, else all there are.

    Raises:
        ConfigError: There is no such target.
    """
    from edgewright.engine import registry

    known = {entry.step.name: entry.step for entry in project.targets} if project is not None else {}
    for name in names:
        registry.load("targets", name)
    wanted = names or tuple(known) or tuple(n for n in registry.names("targets") if n != "null")
    return tuple(known.get(name, StepSpec(name, {})) for name in wanted)
