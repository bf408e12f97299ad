"""What is installed here, and how to get what is not. Reads metadata only; imports nothing."""

from __future__ import annotations

import importlib.metadata
import json
import re
from collections.abc import Iterable
from functools import cache
from pathlib import Path

import edgewright
from edgewright.core.digest import Digest, digest_json
from edgewright.errors import ToolchainMissing
from edgewright.runtimes._require import installed_version
from edgewright.store.files import digest_file

_STEP_PACKAGES = (
    *("core", "pipeline", "runtimes", "formats", "data"),
    *("graph", "training", "sources", "passes", "targets", "measure"),
)
"""Where the code lives that decides which bytes a step makes."""
_NAME = re.compile(r"^[A-Za-z0-9._-]+")
_EXTRA = re.compile(r"extra\s*==\s*['\"]([^'\"]+)['\"]")


@cache
def version(distribution: str) -> str | None:
    """Returns the installed version of a distribution or of another build of it, None where it is absent."""
    return installed_version(distribution)


def versions(distributions: Iterable[str]) -> dict[str, str]:
    """Returns distribution -> installed version, `absent` included: a tool that appears later gives another key."""
    return {name: version(name) or "absent" for name in sorted(set(distributions))}


@cache
def distributions_of(extra: str) -> tuple[str, ...]:
    """Returns the distributions that one extra of Edgewright installs on this machine, from the package's metadata."""
    from packaging.requirements import Requirement

    found: list[str] = []
    for line in importlib.metadata.requires("edgewright") or []:
        marked, name = _EXTRA.search(line), _NAME.match(line)
        if not marked or not name or marked.group(1) != extra or name.group() == "edgewright":
            continue
        marker = Requirement(line).marker
        if marker is None or marker.evaluate({"extra": extra}):
            found.append(name.group())
    return tuple(found)


def missing(extra: str) -> tuple[str, ...]:
    """Returns the distributions of `extra` that are not installed."""
    return tuple(name for name in distributions_of(extra) if version(name) is None)


def install_line(*extras: str) -> str:
    """Returns the command that installs `extras`."""
    return f'pip install "edgewright[{",".join(extras)}]"'


def need(purpose: str, *extras: str) -> None:
    """Checks that `extras` are installed, all at once: one install line, not one per attempt.

    Raises:
        ToolchainMissing: One is not; the hint is the install line.
    """
    lacking = [extra for extra in dict.fromkeys(extras) if missing(extra)]
    if lacking:
        absent = ", ".join(dict.fromkeys(name for extra in lacking for name in missing(extra)))
        raise ToolchainMissing(f"{purpose} needs {absent}, not installed here", hint=install_line(*lacking))


@cache
def own_identity() -> str:
    """Returns what Edgewright itself adds to every cache key.

    An installed release is its version. An editable checkout changes without one, so there it is the digest of the
    sources: whoever edits Edgewright never sees a stale result.
    """
    release = edgewright.__version__
    return f"{release}+{_source_digest()}" if _is_editable() else release


def _is_editable() -> bool:
    try:
        origin = importlib.metadata.distribution("edgewright").read_text("direct_url.json")
    except importlib.metadata.PackageNotFoundError:
        return True
    return bool(origin and json.loads(origin).get("dir_info", {}).get("editable"))


def _source_digest() -> Digest:
    root = Path(edgewright.__file__).parent
    files = sorted(p for package in _STEP_PACKAGES for p in (root / package).rglob("*.py"))
    return digest_json({str(p.relative_to(root)): digest_file(p) for p in files})
