"""Workflow files from jobs. Every step is plain shell, so that it can be run by hand as well."""

from __future__ import annotations

import json
import shlex
import textwrap
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import edgewright
from edgewright.errors import ToolchainMissing, UsageError
from edgewright.project.ci.plan import LINUX, MAC, OWN, Job, Settings


@dataclass(frozen=True, slots=True)
class Server:
    """One kind of build server.

    Attributes:
        path: Of its workflow, from the root of the repository.
        template: Name of the template.
        runners: Kind of runner -> what the server calls it; empty to take whatever there is.
    """

    path: str
    template: str
    runners: dict[str, str]


SERVERS = {
    "github": Server(
        ".github/workflows/edgewright.yml",
        "github.yml.jinja",
        {LINUX: "ubuntu-24.04", MAC: "macos-15", OWN: "self-hosted"},
    ),
    "gitlab": Server(
        ".gitlab-ci.yml",
        "gitlab.yml.jinja",
        {LINUX: "", MAC: "saas-macos-medium-m1", OWN: "edgewright-device"},
    ),
}
ACTIONS = {
    "checkout": "actions/checkout@11bd71901bbe5b1630ceea73d27597364c9af683 # v4.2.2",
    "python": "actions/setup-python@a26af69be951a213d495a4c3e4e4022e16d87065 # v5.6.0",
    "restore": "actions/cache/restore@5a3ec84eff668545956fd18022155c47e93e2684 # v4.2.3",
    "save": "actions/cache/save@5a3ec84eff668545956fd18022155c47e93e2684 # v4.2.3",
    "upload": "actions/upload-artifact@ea165f8d65b6e75b540449e92b4886f43607fa02 # v4.6.2",
    "download": "actions/download-artifact@d3f86a106a0bac45b974a628896c90dbdf5c8093 # v4.3.0",
}
"""What a workflow uses of others: fixed by commit, because a tag can be moved."""


def server(name: str) -> Server:
    """Returns the build server called `name`.

    Raises:
        UsageError: There is no template for it.
    """
    if name not in SERVERS:
        raise UsageError(f'no workflow is known for "{name}"', hint=f"known: {', '.join(SERVERS)}")
    return SERVERS[name]


def render(name: str, jobs: Sequence[Job], settings: Settings) -> str:
    """Returns the workflow.

    Args:
        name: `github` or `gitlab`.
        jobs: From `plan_jobs`.
        settings: What the user chose.

    Raises:
        UsageError: There is no template for this server.
        ToolchainMissing: jinja2 is not installed.
    """
    chosen = server(name)
    try:
        import jinja2
    except ImportError as error:
        raise ToolchainMissing("writing a workflow needs jinja2", hint='pip install "edgewright[build]"') from error
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent / "templates"),
        autoescape=False,  # noqa: S701 - YAML: every value passes the filter that quotes it
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
        variable_start_string="[=",
        variable_end_string="=]",
        block_start_string="<%",
        block_end_string="%>",
        comment_start_string="<#",
        comment_end_string="#>",
    )
    environment.filters |= {"quoted": quoted, "shell": shell, "word": shlex.quote}
    return environment.get_template(chosen.template).render(
        jobs=jobs,
        settings=settings,
        runners=chosen.runners,
        actions=ACTIONS,
        version=edgewright.__version__,
    )


def quoted(text: str) -> str:
    """Returns a YAML scalar: a JSON string is one, whatever it holds."""
    return json.dumps(text, ensure_ascii=False)


def shell(text: str, indent: int) -> str:
    """Returns shell lines for a block scalar whose content is indented by `indent` spaces."""
    return textwrap.indent(text.strip("\n"), " " * indent).lstrip(" ")
