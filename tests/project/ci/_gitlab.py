"""Runs a GitLab pipeline here: the lines of a job with bash, and a package registry that listens on loopback."""

from __future__ import annotations

import shutil
import string
import subprocess
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import yaml

TOKEN = "a-job-token"


class _Registry(BaseHTTPRequestHandler):
    """Generic packages: what is put can be fetched, by who has the token."""

    stored: dict[str, bytes]

    def do_GET(self) -> None:
        found = self.stored.get(self.path)
        self._answer(401 if self.headers["JOB-TOKEN"] != TOKEN else 404 if found is None else 200, found or b"")

    def do_PUT(self) -> None:
        content = self.rfile.read(int(self.headers["Content-Length"]))
        allowed = self.headers["JOB-TOKEN"] == TOKEN
        if allowed:
            self.stored[self.path] = content
        self._answer(201 if allowed else 401, b"")

    def _answer(self, code: int, content: bytes) -> None:
        self.send_response(code)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, format: str, *given: Any) -> None:
        pass


@contextmanager
def registry() -> Iterator[tuple[str, dict[str, bytes]]]:
    """Yields the address of a registry, and what it holds: path -> content."""
    stored: dict[str, bytes] = {}
    handler = type("Registry", (_Registry,), {"stored": stored})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/api/v4", stored
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


@dataclass
class JobRun:
    code: int
    log: str


class Gitlab:
    """A server with one repository and one machine; its workspace may be that of another, to share the cache."""

    def __init__(self, repository: Path, root: Path, workspace: Path, tools: Path, api: str) -> None:
        self.repository, self.root, self.workspace, self.tools, self.api = repository, root, workspace, tools, api
        self.artifacts = root / "artifacts"
        (root / "home").mkdir(parents=True, exist_ok=True)

    def job(self, name: str) -> dict[str, Any]:
        """Returns a job with what it extends filled in, as the server merges it: key by key, lists replaced."""
        pipeline = yaml.safe_load((self.repository / ".gitlab-ci.yml").read_text())
        own = pipeline[name]
        base = pipeline[own["extends"]] if "extends" in own else {}
        merged = {**base, **own, "variables": {**base.get("variables", {}), **own.get("variables", {})}}
        assert merged["stage"] in pipeline["stages"]
        return merged

    def run(self, name: str, cache: Path | None = None, **variables: str) -> JobRun:
        """Runs a job; `cache` is where `.edgewright-cache` is kept from one run to the next."""
        job = self.job(name)
        shutil.rmtree(self.workspace, ignore_errors=True)
        self.workspace.mkdir(parents=True)
        if job["variables"].get("GIT_STRATEGY") != "none":
            shutil.copytree(self.repository, self.workspace, dirs_exist_ok=True, copy_function=shutil.copyfile)
        elif self.artifacts.exists():
            shutil.copytree(self.artifacts, self.workspace, dirs_exist_ok=True)
        if cache is not None and cache.exists():
            shutil.copytree(cache, self.workspace / ".edgewright-cache")
        environment = self._environment(job, variables)
        done = self._shell(job["script"], environment)
        after = self._shell(job.get("after_script", []), environment)
        assert after.code == 0, after.log
        self._keep(job, environment)
        return done

    def _environment(self, job: Mapping[str, Any], variables: Mapping[str, str]) -> dict[str, str]:
        known = {
            "PATH": f"{self.tools}:/usr/local/bin:/usr/bin:/bin",
            "HOME": str(self.root / "home"),
            "LANG": "C.UTF-8",
            "CI": "true",
            "PIP_NO_INDEX": "1",
            "CI_PROJECT_DIR": str(self.workspace),
            "CI_PROJECT_ID": "7",
            "CI_API_V4_URL": self.api,
            "CI_JOB_TOKEN": TOKEN,
            **variables,
        }
        return known | {name: string.Template(value).substitute(known) for name, value in job["variables"].items()}

    def _shell(self, lines: list[str], environment: Mapping[str, str]) -> JobRun:
        script = self.root / "job.sh"
        script.write_text("\n".join(lines))
        found = subprocess.run(
            ["bash", "--noprofile", "--norc", "-eo", "pipefail", str(script)],
            cwd=self.workspace,
            env=dict(environment),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
        )
        return JobRun(found.returncode, found.stdout)

    def _keep(self, job: Mapping[str, Any], environment: Mapping[str, str]) -> None:
        """Uploads what `artifacts` names; reports must be inside of it here, and excluded files are left out."""
        artifacts = job.get("artifacts")
        if artifacts is None:
            return
        assert artifacts["when"] == "always"
        (path,) = (string.Template(each).substitute(environment) for each in artifacts["paths"])
        (excluded,) = (string.Template(each).substitute(environment) for each in artifacts["exclude"])
        assert excluded == f"{path}.work/**/*"
        shutil.rmtree(self.artifacts, ignore_errors=True)
        if (self.workspace / path).exists():
            shutil.copytree(self.workspace / path, self.artifacts / path, ignore=shutil.ignore_patterns(".work"))
