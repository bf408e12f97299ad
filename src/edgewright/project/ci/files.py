"""Writes a workflow and its pinned requirements into a repository; what is there already is not lost."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from edgewright.errors import UsageError
from edgewright.project.ci.pins import is_checkout, pinned
from edgewright.project.ci.plan import Job, Settings, extras_of, plan_jobs, toolchains_of
from edgewright.project.ci.render import render, server
from edgewright.project.config import load_project
from edgewright.store.files import write_atomic


@dataclass(frozen=True, slots=True)
class Written:
    """What was written.

    Attributes:
        files: The workflow first.
        jobs: One per target.
        notes: What a reader must know or do.
    """

    files: tuple[Path, ...]
    jobs: tuple[Job, ...]
    notes: tuple[str, ...]


def repository_of(folder: Path) -> Path:
    """Returns the root of the repository that `folder` lies in; the folder itself where it lies in none."""
    start = folder.resolve()
    return next((each for each in (start, *start.parents) if (each / ".git").exists()), start)


def write_workflow(
    name: str, projects: Sequence[Path], settings: Settings, *, root: Path, force: bool = False
) -> Written:
    """Writes the workflow for a build server, and the requirements it installs unless told how to install.

    Args:
        name: `github` or `gitlab`.
        projects: Project files, or the folders that hold them.
        settings: What the user chose.
        root: Of the repository.
        force: Overwrite what is there.

    Raises:
        UsageError: A file is there already, or there is no workflow for this server.
        ConfigError: A project is wrong.
        ToolchainMissing: Something a project needs is not installed here, so its version is not known.
    """
    workflow = root / server(name).path
    jobs = plan_jobs(projects, root)
    loaded = [load_project(path) for path in projects]
    settings = replace(settings, toolchains=toolchains_of(loaded))
    contents = {workflow: render(name, jobs, settings)}
    if not settings.install:
        contents[root / settings.requirements] = pinned(extras_of(loaded))
    for path in contents:
        if path.exists() and not force:
            raise UsageError(f"{path} is there already", hint="look at it, then give --force to write it anew")
    for path, text in contents.items():
        path.parent.mkdir(parents=True, exist_ok=True)
        write_atomic(path, text.encode())
    return Written(tuple(contents), jobs, _notes(jobs, settings))


def _notes(jobs: Sequence[Job], settings: Settings) -> tuple[str, ...]:
    own = [job.name for job in jobs if job.runner == "own"]
    notes = []
    if own:
        notes.append(f"{', '.join(own)} need a runner of your own that reaches the device")
    if not settings.install and is_checkout():
        notes.append("this Edgewright is a checkout: the requirements pin the release it calls itself")
    return tuple(notes)
