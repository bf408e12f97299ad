"""From an artifact folder to the runner that its `artifact.json` names."""

from __future__ import annotations

import importlib
import importlib.util
import re
from contextlib import AbstractContextManager
from importlib.metadata import entry_points
from pathlib import Path, PurePosixPath
from typing import cast

from edgewright.core.codec import decode_stored
from edgewright.core.target import Artifact, Runner, RunOptions, Runtime
from edgewright.errors import Corrupt, ToolchainMissing

ARTIFACT = "artifact.json"
GROUP = "edgewright.runtimes"
_NAME = re.compile(r"[a-z0-9][a-z0-9_-]*")


def open_runner(artifact: Path, options: RunOptions | None = None) -> AbstractContextManager[Runner]:
    """Opens the artifact folder with the runtime it was made for.

    Raises:
        ToolchainMissing: The runtime is not installed.
        Corrupt: The artifact cannot be read.
    """
    described = read_artifact(artifact)
    return find_runtime(described.runtime).open(artifact, options or RunOptions())


def load_artifact(path: Path) -> Artifact:
    """Reads `artifact.json` and checks that the files it lists are there.

    Args:
        path: The artifact folder.

    Raises:
        Corrupt: It is missing or malformed, names a path outside the folder, or a file is missing.
    """
    artifact = read_artifact(path)
    missing = [name for name in artifact.files if not (path / name).is_file()]
    if missing:
        raise Corrupt(f"{path}: the artifact's file {missing[0]} is missing", hint="compile or unpack it again")
    return artifact


def read_artifact(path: Path) -> Artifact:
    """Reads `artifact.json` without looking at the other files.

    Raises:
        Corrupt: It is missing or malformed, or names a path outside the folder.
    """
    file = path / ARTIFACT
    try:
        artifact = decode_stored(Artifact, file.read_bytes())
    except FileNotFoundError as error:
        raise Corrupt(f"{file} does not exist", hint="give the folder that a target wrote") from error
    except ValueError as error:
        raise Corrupt(
            f"{file}: not a description of an artifact: {error}", hint="compile or unpack it again"
        ) from error
    for name in (*artifact.files, *artifact.extras):
        _refuse_outside(file, name)
    if not artifact.files:
        raise Corrupt(f"{file}: lists no files, expected at least the one to open", hint="compile it again")
    return artifact


def find_runtime(name: str) -> Runtime:
    """Returns the runtime called `name`; nothing of its framework is imported.

    Raises:
        ToolchainMissing: Neither Edgewright nor an installed package provides it.
    """
    module = f"edgewright.runtimes.{name.replace('-', '_')}"
    if _NAME.fullmatch(name) and importlib.util.find_spec(module) is not None:
        plugin = getattr(importlib.import_module(module), "plugin", None)
        if plugin is not None:
            return _instance(plugin)
    for entry in entry_points(group=GROUP):
        if entry.name == name:
            return _instance(entry.load())
    raise ToolchainMissing(
        f'no runtime is called "{name}"', hint=f"install the package that provides it (entry-point group {GROUP})"
    )


def _instance(plugin: object) -> Runtime:
    return cast(Runtime, plugin() if isinstance(plugin, type) else plugin)


def _refuse_outside(file: Path, name: str) -> None:
    relative = PurePosixPath(name)
    if relative.is_absolute() or ".." in relative.parts or "\\" in name or not relative.parts:
        raise Corrupt(f'{file}: the path "{name}" leaves the artifact folder', hint="do not trust this artifact")
