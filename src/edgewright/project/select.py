"""A project narrowed to some of its targets, or told to write elsewhere."""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from edgewright.errors import ConfigError
from edgewright.project.config import Project


def narrowed(project: Project, targets: Sequence[str] = (), output: Path | None = None) -> Project:
    """Returns the project with some of its targets only.

    Args:
        project: From `load_project`.
        targets: Labels of `[[targets]]` (the names, where they have none); empty for all of them.
        output: Folder for the results instead of the project's own; relative to the working directory.

    Raises:
        ConfigError: The project has no such target.
    """
    known = [target.label for target in project.targets]
    for name in targets:
        if name not in known:
            near = difflib.get_close_matches(name, known, n=1)
            hint = f'did you mean "{near[0]}"?' if near else f"it has {', '.join(known)}"
            raise ConfigError(f'the project has no target "{name}"', hint=hint)
    file = project.file
    if targets:
        kept = zip(file.targets, known, strict=True)
        file = replace(file, targets=tuple(table for table, label in kept if label in targets))
    if output is not None:
        file = replace(file, output=replace(file.output, folder=str(output.resolve())))
    return replace(project, file=file)
