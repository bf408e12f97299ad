"""Runs a GitHub workflow here: every `run:` with bash, every `uses:` by what it does to files.

It knows the expressions and actions that our workflows use and fails on any other, so that nothing is passed over.
"""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

EXPRESSION = re.compile(r"\$\{\{\s*(.*?)\s*\}\}")
GH = """#!/usr/bin/env bash
# GitHub's `gh release` on a folder: one folder per release, oldest first by name.
set -euo pipefail
: "${GH_TOKEN:?gh needs a token}"
cd "$RELEASES"
case "$1 $2" in
  "release list") ls | sort | tail -n 1 ;;
  "release view") [ -d "$3" ] || { echo "release not found" >&2; exit 1; }; ls "$3" ;;
  "release download") [ "$4" = --pattern ] && [ "$6" = --dir ] && cp "$3/$5" "$7/" ;;
  "release create") [ "$4" = --verify-tag ] && mkdir "$3" ;;
  "release upload") tag="$3"; shift 4; cd "$OLDPWD"; cp "$@" "$RELEASES/$tag/" ;;
  *) echo "gh $*: not known here" >&2; exit 2 ;;
esac
"""


@dataclass
class StepRun:
    name: str
    outcome: str
    log: str = ""


@dataclass
class JobRun:
    steps: list[StepRun] = field(default_factory=list)
    summary: str = ""

    @property
    def ok(self) -> bool:
        return all(step.outcome != "failure" for step in self.steps)

    @property
    def log(self) -> str:
        return "".join(f"== {step.name}: {step.outcome}\n{step.log}" for step in self.steps)

    def step(self, name: str) -> StepRun:
        return next(step for step in self.steps if step.name == name)


class Github:
    """A server with one repository, one machine, its caches, artifacts and releases."""

    def __init__(self, repository: Path, root: Path, tools: Path) -> None:
        self.repository, self.root, self.tools = repository, root, tools
        self.workspace = root / "work" / "shop"
        self.artifacts, self.caches, self.releases = root / "artifacts", root / "caches", root / "releases"
        for folder in (self.artifacts, self.releases, root / "home", root / "bin"):
            folder.mkdir(parents=True, exist_ok=True)
        (root / "bin" / "gh").write_text(GH)
        (root / "bin" / "gh").chmod(0o755)

    @property
    def workflow(self) -> dict[str, Any]:
        text = (self.repository / ".github" / "workflows" / "edgewright.yml").read_text()
        return dict(yaml.safe_load(text))

    def optimise(self) -> JobRun:
        """Runs the job of the only target."""
        job = self.workflow["jobs"]["optimise"]
        (entry,) = job["strategy"]["matrix"]["include"]
        return self._run(job, {"matrix": entry}, ref="refs/heads/main")

    def release(self, tag: str) -> JobRun:
        """Runs the job that a tag adds."""
        job = self.workflow["jobs"]["release"]
        ref = f"refs/tags/{tag}"
        wanted = re.fullmatch(r"startsWith\(github\.ref, '(.*)'\)", job["if"])
        assert wanted is not None
        assert ref.startswith(wanted[1])
        return self._run(job, {"matrix": {}}, ref=ref)

    def _run(self, job: Mapping[str, Any], known: dict[str, Any], ref: str) -> JobRun:
        shutil.rmtree(self.workspace, ignore_errors=True)
        shutil.rmtree(self.root / "temp", ignore_errors=True)
        self.workspace.mkdir(parents=True)
        (self.root / "temp").mkdir()
        known["github"] = {
            "workspace": str(self.workspace),
            "ref": ref,
            "ref_name": ref.rpartition("/")[2],
            "token": "a-token",
            "repository": "someone/shop",
            "run_id": "7",
            "run_attempt": "1",
            "event_name": "push",
        }
        known["runner"] = {"os": "Linux"}
        run, ids = JobRun(), {}
        summary = self.root / "temp" / "summary.md"
        summary.touch()
        job_env = {name: self._filled(value, known) for name, value in job.get("env", {}).items()}
        for step in job["steps"]:
            done = StepRun(step["name"], "skipped")
            run.steps.append(done)
            if self._wanted(step.get("if", "success()"), run, ids):
                environment = self._environment(job_env, step, known, summary)
                done.outcome, done.log = self._step(step, known, environment)
            ids[step.get("id", "")] = done
        run.summary = summary.read_text()
        return run

    def _wanted(self, condition: str, run: JobRun, ids: Mapping[str, StepRun]) -> bool:
        return all(self._holds(part.strip(), run, ids) for part in condition.split("&&"))

    def _holds(self, condition: str, run: JobRun, ids: Mapping[str, StepRun]) -> bool:
        if condition == "always()":
            return True
        if condition == "success()":
            return run.ok
        found = re.fullmatch(r"steps\.(\w+)\.outcome == '(\w+)'", condition)
        assert found is not None, f"condition not known here: {condition}"
        return ids[found[1]].outcome == found[2]

    def _filled(self, value: Any, known: Mapping[str, Any]) -> str:
        def looked_up(match: re.Match[str]) -> str:
            context, _, name = match[1].partition(".")
            return str(known[context][name])

        return EXPRESSION.sub(looked_up, str(value))

    def _environment(
        self, job: Mapping[str, str], step: Mapping[str, Any], known: Mapping[str, Any], summary: Path
    ) -> dict[str, str]:
        own = {name: self._filled(value, known) for name, value in step.get("env", {}).items()}
        runner = {
            "PATH": f"{self.root / 'bin'}:{self.tools}:/usr/local/bin:/usr/bin:/bin",
            "HOME": str(self.root / "home"),
            "LANG": "C.UTF-8",
            "CI": "true",
            "PIP_NO_INDEX": "1",
            "GITHUB_WORKSPACE": str(self.workspace),
            "GITHUB_STEP_SUMMARY": str(summary),
            "RUNNER_TEMP": str(self.root / "temp"),
            "RELEASES": str(self.releases),
        }
        return {**runner, **job, **own}

    def _step(
        self, step: Mapping[str, Any], known: Mapping[str, Any], environment: Mapping[str, str]
    ) -> tuple[str, str]:
        if "uses" in step:
            options = {name: self._filled(value, known) for name, value in step.get("with", {}).items()}
            self._action(step["uses"].partition("@")[0])(options)
            return "success", ""
        assert "${{" not in step["run"], "an expression in a script is an injection"
        script = self.root / "temp" / "step.sh"
        script.write_text(step["run"])
        found = subprocess.run(
            ["bash", "--noprofile", "--norc", "-eo", "pipefail", str(script)],
            cwd=self.workspace,
            env=dict(environment),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
        )
        return ("failure" if found.returncode else "success"), found.stdout

    def _action(self, name: str) -> Callable[[Mapping[str, str]], None]:
        return {
            "actions/checkout": self._checkout,
            "actions/setup-python": lambda options: None,
            "actions/cache/restore": self._restore,
            "actions/cache/save": self._save,
            "actions/upload-artifact": self._upload,
            "actions/download-artifact": self._download,
        }[name]

    def _checkout(self, options: Mapping[str, str]) -> None:
        assert options["persist-credentials"] == "False"
        shutil.copytree(self.repository, self.workspace, dirs_exist_ok=True, copy_function=shutil.copyfile)

    def _restore(self, options: Mapping[str, str]) -> None:
        assert options["key"].startswith(options["restore-keys"])
        if self.caches.exists():
            shutil.copytree(self.caches, self.workspace / options["path"])

    def _save(self, options: Mapping[str, str]) -> None:
        shutil.rmtree(self.caches, ignore_errors=True)
        shutil.copytree(self.workspace / options["path"], self.caches)

    def _upload(self, options: Mapping[str, str]) -> None:
        """Leaves hidden files out, as the action does."""
        target = self.artifacts / options["name"]
        shutil.rmtree(target, ignore_errors=True)
        shutil.copytree(self.workspace / options["path"], target, ignore=shutil.ignore_patterns(".*"))

    def _download(self, options: Mapping[str, str]) -> None:
        shutil.copytree(self.artifacts, self.workspace / options["path"])
