"""Which jobs a workflow has: one per target of every project, each with what it needs installed."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from edgewright.bundle.packing import file_name
from edgewright.core.recipe import TargetSpec
from edgewright.engine import registry
from edgewright.errors import ConfigError
from edgewright.pipeline.preprocess import PREPROCESSING
from edgewright.project.config import FILE_NAME, Project, load_project
from edgewright.project.question import kind_of

LINUX, MAC, OWN = "linux", "mac", "own"
"""Kinds of runners: hosted Linux, hosted macOS, one of the user's own that reaches the device."""
OUTPUT = "edgewright-out"
_ON_MAC = ("coreml",)
_PIPELINE = ("image", "audio", "text")


@dataclass(frozen=True, slots=True)
class Job:
    """One target of one project.

    Attributes:
        name: Of the job, its artifact and its release file.
        project: Path of the project file from the root of the repository.
        target: Label of the target.
        output: Folder of the results from the root of the repository.
        runner: `linux`, `mac` or `own`.
    """

    name: str
    project: str
    target: str
    output: str
    runner: str


@dataclass(frozen=True, slots=True)
class Settings:
    """What a user may choose about a workflow.

    Attributes:
        branch: Whose pushes run it, beside requests to merge and tags.
        python: Version of the interpreter.
        install: Shell lines that install Edgewright; empty to install the pinned requirements.
        prepare: Shell lines that fetch data and weights; empty where they are in the repository.
        baseline: Folder of the last release, one folder per job in it; empty to take the server's last release.
        diff: Options of `edgewright diff`, e.g. `--max-drop 0.01`.
        requirements: Path of the pinned requirements from the root of the repository.
        toolchains: Environments of their own that the models need.
    """

    branch: str = "main"
    python: str = "3.11"
    install: str = ""
    prepare: str = ""
    baseline: str = ""
    diff: str = ""
    requirements: str = "edgewright-requirements.txt"
    toolchains: tuple[str, ...] = field(default=())


def plan_jobs(projects: Sequence[Path], root: Path) -> tuple[Job, ...]:
    """Returns a job per target of every project.

    Args:
        projects: Project files, or the folders that hold them.
        root: Of the repository.

    Raises:
        ConfigError: A project is wrong, lies outside the repository, or two jobs would be called the same.
    """
    jobs = [job for path in projects for job in _jobs_of(path, root)]
    seen: set[str] = set()
    for job in jobs:
        if job.name in seen:
            raise ConfigError(f'two jobs would be called "{job.name}"', hint="give the projects different names")
        seen.add(job.name)
    return tuple(jobs)


def _jobs_of(path: Path, root: Path) -> list[Job]:
    file = (path / FILE_NAME if path.is_dir() else path).resolve()
    if not file.is_relative_to(root.resolve()):
        raise ConfigError(f"{file} lies outside the repository {root}", hint="give a project of this repository")
    project = load_project(file)
    shown = file.relative_to(root.resolve()).as_posix()
    return [_job(project, target, shown) for target in project.targets]


def _job(project: Project, target: TargetSpec, shown: str) -> Job:
    name = f"{file_name(project.file.name)}-{file_name(target.label)}"
    runner = OWN if target.device else MAC if target.step.name in _ON_MAC else LINUX
    return Job(name, shown, target.label, f"{OUTPUT}/{name}", runner)


def extras_of(projects: Iterable[Project]) -> tuple[str, ...]:
    """Returns the extras of Edgewright that the projects need, in a fixed order."""
    found = {"build"}
    for project in projects:
        found.add(getattr(_source(project), "extra", ""))
        found.add(registry.load("targets", project.file.search.reference).extra)
        found.update(registry.load("targets", target.step.name).extra for target in project.targets)
        found.update(extra for table in project.file.preprocess for extra in _of_operation(table))
    return tuple(sorted(found - {""}))


def toolchains_of(projects: Iterable[Project]) -> tuple[str, ...]:
    """Returns the environments of their own that the models and the targets of the projects need."""
    found: set[str] = set()
    for project in projects:
        targets = (registry.make("targets", target.step) for target in project.targets)
        found.update(getattr(step, "toolchain", "") for step in (_source(project), *targets))
    return tuple(sorted(found - {""}))


def _source(project: Project) -> Any:
    return registry.load("sources", kind_of(project.file.model, project.root))


def _of_operation(table: Mapping[str, Any]) -> tuple[str, ...]:
    """Returns the extra behind a pre-processing operation: decoding takes one for images, another for sound."""
    name = table.get("op")
    if name == "decode":
        return ("audio",) if table.get("sample_rate") else ("image",)
    kind = PREPROCESSING.get(str(name))
    module = kind.__module__.rpartition(".")[2] if kind else ""
    return (module,) if module in _PIPELINE else ()
