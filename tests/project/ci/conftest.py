"""Modules beside the tests, loaded by path, and a repository that was optimised and released once."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest


def beside(name: str) -> ModuleType:
    """Returns a module of this folder: pytest's importlib mode puts no folder on the path."""
    known = f"ci_{name}"
    if known not in sys.modules:
        spec = importlib.util.spec_from_file_location(known, Path(__file__).with_name(f"{name}.py"))
        assert spec is not None
        assert spec.loader is not None
        sys.modules[known] = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(sys.modules[known])
    return sys.modules[known]


shop_files = beside("_shop")


@dataclass
class Shop:
    """A repository with a generated workflow, the server that runs it, and how its first run went."""

    repository: Path
    github: Any
    first: Any
    released: Any
    files: ModuleType = shop_files


def generate(repository: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "edgewright.cli", "ci", "init", *arguments]
    return subprocess.run(command, cwd=repository, capture_output=True, text=True, check=False)


@pytest.fixture(scope="session")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Shop:
    """The good path, run once: optimised without a last release, then released as v1."""
    root = tmp_path_factory.mktemp("ci")
    repository = shop_files.write_repository(root / "repository")
    for server in ("github", "gitlab"):
        made = generate(repository, server, "--diff", "--seconds 1.5", "--force")
        assert made.returncode == 0, made.stderr
    github = beside("_github").Github(repository, root / "github", shop_files.VENV_BIN)
    first = github.optimise()
    return Shop(repository, github, first, github.release("v1") if first.ok else None)


@pytest.fixture
def packages() -> Iterator[tuple[str, dict[str, bytes]]]:
    """A package registry of GitLab's kind."""
    with beside("_gitlab").registry() as found:
        yield found


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    """A repository that nothing was run in."""
    return shop_files.write_repository(tmp_path / "repository")  # type: ignore[no-any-return]


@pytest.fixture
def generated() -> Any:
    return generate


@pytest.fixture
def gitlab_of() -> Any:
    return beside("_gitlab").Gitlab
