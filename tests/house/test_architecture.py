"""The house keeps its own rules: layers, independence, public names."""

from __future__ import annotations

import itertools
import subprocess
import sys
from pathlib import Path

import grimp
import pytest

from edgewright.engine import registry

ROOT = Path(__file__).parents[2]
SOURCE = ROOT / "src" / "edgewright"


@pytest.fixture(scope="module")
def graph() -> grimp.ImportGraph:
    return grimp.build_graph("edgewright", cache_dir=None)


def lint_imports(*options: str, folder: Path = ROOT) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", "from importlinter.cli import lint_imports_command as run; run()"]
    return subprocess.run(
        [*command, "--no-logo", "--no-cache", *options], cwd=folder, capture_output=True, text=True, check=False
    )


def test_import_contracts_are_kept() -> None:
    found = lint_imports()
    assert found.returncode == 0, found.stdout + found.stderr


@pytest.mark.slow
def test_import_contracts_can_be_broken(tmp_path: Path) -> None:
    """A contract that cannot fail would be a decoration."""
    package = tmp_path / "edgewright"
    package.mkdir()
    for path in SOURCE.iterdir():
        if (path / "__init__.py").is_file():
            (package / path.name).mkdir()
            (package / path.name / "__init__.py").write_text("")
        elif path.suffix == ".py":
            (package / path.name).write_text("")
    (tmp_path / "pyproject.toml").write_text((ROOT / "pyproject.toml").read_text())
    assert lint_imports(folder=tmp_path).returncode == 0
    (package / "core" / "__init__.py").write_text("import torch\nfrom edgewright import search\n")
    (package / "stray").mkdir()
    (package / "stray" / "__init__.py").write_text("")
    found = lint_imports(folder=tmp_path)
    assert found.returncode == 1
    assert "edgewright.core is not allowed to import edgewright.search" in found.stdout
    assert "edgewright.core -> torch" in found.stdout
    assert "stray" in found.stdout


@pytest.mark.parametrize("group", ["targets", "passes", "sources", "runtimes"])
def test_plugins_of_a_group_do_not_know_each_other(graph: grimp.ImportGraph, group: str) -> None:
    modules = [f"edgewright.{group}.{name.replace('-', '_')}" for name in registry.names(group)]
    modules = [module for module in modules if module in graph.modules]
    assert len(modules) > 1
    known = [(a, b) for a, b in itertools.permutations(modules, 2) if graph.chain_exists(importer=a, imported=b)]
    assert not known


def test_no_vague_module_names(graph: grimp.ImportGraph) -> None:
    vague = {"utils", "util", "common", "helpers", "helper", "manager", "misc"}
    assert not [m for m in graph.modules if vague & {part.strip("_") for part in m.split(".")}]


def test_files_are_short() -> None:
    long = {str(p.relative_to(ROOT)): n for p in SOURCE.rglob("*.py") if (n := p.read_text().count("\n")) > 400}
    assert not long


def test_every_package_says_what_it_is() -> None:
    silent = [p for p in SOURCE.rglob("*.py") if not p.read_text().lstrip().startswith(('"""', 'r"""'))]
    assert not silent


def test_public_names_exist_and_are_complete() -> None:
    import edgewright

    assert sorted(edgewright.__all__) == list(edgewright.__all__), "sorted, so that a change is easy to read"
    assert len(edgewright.__all__) <= 30
    for name in edgewright.__all__:
        assert getattr(edgewright, name).__doc__ or name == "__version__"
