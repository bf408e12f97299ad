"""The generated workflows as files: valid, pinned, with the least permissions, and never written over by accident."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml
from check_jsonschema.builtin_schemas import get_builtin_schema

from edgewright.errors import ConfigError, ToolchainMissing, UsageError
from edgewright.project.ci import SERVERS, Settings, plan_jobs, render, write_workflow
from edgewright.project.ci.pins import pinned

SCHEMAS = {"github": "vendor.github-workflows", "gitlab": "vendor.gitlab-ci"}
EVERYTHING = Settings(
    branch="trunk: a 'strange' one",
    install="pip install a\npip install b",
    prepare='make "data"\nmake weights',
    baseline="/mnt/the last's release",
    diff="--max-drop 0.01",
    toolchains=("tensorflow",),
)
TARGETS = """
[[targets]]
name = "null"
label = "pi"
device = "ssh://pi@host"
"""


@pytest.fixture
def two_targets(repository: Path) -> Path:
    toml = repository / "edgewright.toml"
    toml.write_text(toml.read_text() + TARGETS)
    return repository


@pytest.mark.parametrize("settings", [Settings(), EVERYTHING], ids=["plain", "everything"])
@pytest.mark.parametrize("server", SERVERS)
def test_the_workflow_fits_the_schema_of_its_server(server: str, settings: Settings, two_targets: Path) -> None:
    validate(server, rendered(server, two_targets, settings))


@pytest.mark.parametrize("server", SERVERS)
def test_a_workflow_that_no_server_takes_is_noticed(server: str, two_targets: Path) -> None:
    found = rendered(server, two_targets)
    found["stages" if server == "gitlab" else "jobs"] = 7
    with pytest.raises(jsonschema.ValidationError):
        validate(server, found)


def validate(server: str, workflow: dict[Any, Any]) -> None:
    """Holds a workflow against the schema that SchemaStore or GitLab publishes; YAML reads the key `on` as true."""
    schema = get_builtin_schema(SCHEMAS[server])
    named = {"on" if key is True else key: value for key, value in workflow.items()}
    jsonschema.validators.validator_for(schema)(schema).validate(named)


def rendered(server: str, root: Path, settings: Settings = EVERYTHING) -> dict[Any, Any]:
    return dict(yaml.safe_load(render(server, plan_jobs([root], root), settings)))


def test_github_gets_one_job_per_target_with_the_least_rights(two_targets: Path) -> None:
    text = render("github", plan_jobs([two_targets], two_targets), Settings())
    found = yaml.safe_load(text)
    assert found["permissions"] == {"contents": "read"}
    assert found["jobs"]["release"]["permissions"] == {"contents": "write"}
    assert "permissions" not in found["jobs"]["optimise"]
    entries = found["jobs"]["optimise"]["strategy"]["matrix"]["include"]
    assert [(e["target"], e["runner"]) for e in entries] == [("onnxruntime", "ubuntu-24.04"), ("pi", "self-hosted")]
    uses = re.findall(r"uses: (.*)", text)
    assert len(uses) == 6
    assert all(re.fullmatch(r"actions/[\w/-]+@[0-9a-f]{40} # v\d+\.\d+\.\d+", use) for use in uses)
    assert all(job["timeout-minutes"] for job in found["jobs"].values())
    assert found["concurrency"]


@pytest.mark.parametrize("server", SERVERS)
def test_what_a_user_says_reaches_the_shell_as_said(server: str, two_targets: Path) -> None:
    found = rendered(server, two_targets)
    if server == "github":
        assert found[True]["push"]["branches"] == [EVERYTHING.branch]
        steps = {step["name"]: step for step in found["jobs"]["optimise"]["steps"]}
        script = "\n".join(step.get("run", "") for step in steps.values())
        assert steps["Fetch the last release"]["env"] == {"BASELINE": EVERYTHING.baseline}
    else:
        assert found["workflow"]["rules"][-1] == {"if": f'$CI_COMMIT_BRANCH == "{EVERYTHING.branch}"'}
        script = "\n".join(found[".optimise"]["script"])
        printing = f'{_line(script, "baseline=")}; echo -n "$baseline"'
        shown = subprocess.run(["bash", "-c", printing], capture_output=True, text=True, check=True)
        assert shown.stdout == EVERYTHING.baseline
    assert EVERYTHING.install in script
    assert EVERYTHING.prepare in script
    assert "edgewright toolchain install tensorflow" in script
    assert "--time --max-drop 0.01 --markdown" in script
    assert "release" not in found.get("jobs", found), "who keeps releases in a folder publishes them there"


def _line(script: str, start: str) -> str:
    return next(line for line in script.splitlines() if line.startswith(start))


def test_what_is_there_already_is_not_written_over(repository: Path) -> None:
    (repository / ".gitlab-ci.yml").write_text("mine")
    with pytest.raises(UsageError, match="is there already"):
        write_workflow("gitlab", [repository], Settings(), root=repository)
    assert (repository / ".gitlab-ci.yml").read_text() == "mine"
    write_workflow("gitlab", [repository], Settings(), root=repository, force=True)
    assert "shop-onnxruntime" in (repository / ".gitlab-ci.yml").read_text()


def test_everything_the_project_needs_is_pinned(repository: Path) -> None:
    written = write_workflow("github", [repository], Settings(), root=repository)
    lines = (repository / "edgewright-requirements.txt").read_text().splitlines()
    pins = [line for line in lines if not line.startswith(("#", "--"))]
    assert all(re.fullmatch(r"[a-z0-9.\[\],_-]+==[^=\s]+", pin) for pin in pins), pins
    names = {re.split(r"[\[=]", pin)[0] for pin in pins}
    assert {"edgewright", "onnxruntime", "numpy", "onnx", "onnx-ir", "jinja2", "typer"} <= names
    assert "torch" not in names, "nothing in this project needs it"
    assert written.files[0] == repository / ".github" / "workflows" / "edgewright.yml"


def test_what_is_not_installed_cannot_be_pinned(monkeypatch: pytest.MonkeyPatch) -> None:
    import importlib.metadata

    real = importlib.metadata.distribution

    def without(name: str) -> importlib.metadata.Distribution:
        if name == "jinja2":
            raise importlib.metadata.PackageNotFoundError(name)
        return real(name)

    monkeypatch.setattr(importlib.metadata, "distribution", without)
    with pytest.raises(ToolchainMissing, match="jinja2 is not installed"):
        pinned(["build"])


def test_a_server_nobody_knows_and_a_project_elsewhere_are_refused(repository: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no workflow is known"):
        render("jenkins", (), Settings())
    with pytest.raises(ConfigError, match="outside the repository"):
        plan_jobs([repository], tmp_path / "other")
    with pytest.raises(ConfigError, match="would be called"):
        plan_jobs([repository, repository], repository)
