"""Exact versions of everything a workflow installs: those installed here, where the project was seen to work."""

from __future__ import annotations

import importlib.metadata
import json
from collections.abc import Sequence

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from edgewright.errors import ToolchainMissing

OWN = "edgewright"
CPU_INDEX = "https://download.pytorch.org/whl/cpu"
_CPU_BUILD = "+cpu"


def pinned(extras: Sequence[str]) -> str:
    """Returns a requirements file with Edgewright, its extras, and all that they need, at the versions installed here.

    Raises:
        ToolchainMissing: One of them is not installed here.
    """
    found: dict[str, str] = {}
    _walk(OWN, frozenset(extras), found, set())
    versions = {name: version for name, version in found.items() if name != OWN}
    local = any(version.endswith(_CPU_BUILD) for version in versions.values())
    lines = [
        "# Written by `edgewright ci init`: the versions that were installed where it ran.",
        *([f"--extra-index-url {CPU_INDEX}"] if local else []),
        _own_line(extras, found[OWN]),
        *(f"{name}=={_public(version)}" for name, version in sorted(versions.items())),
    ]
    return "\n".join(lines) + "\n"


def _own_line(extras: Sequence[str], version: str) -> str:
    """Pins Edgewright to its release, or to the commit it was installed from."""
    named = f"{OWN}[{','.join(extras)}]"
    origin = json.loads(importlib.metadata.distribution(OWN).read_text("direct_url.json") or "{}")
    commit = origin.get("vcs_info", {}).get("commit_id")
    return f"{named} @ git+{origin['url']}@{commit}" if commit else f"{named}=={version}"


def is_checkout() -> bool:
    """Says whether Edgewright runs from an editable checkout: what is pinned is then the release it calls itself."""
    origin = json.loads(importlib.metadata.distribution(OWN).read_text("direct_url.json") or "{}")
    return bool(origin.get("dir_info", {}).get("editable"))


def _walk(name: str, extras: frozenset[str], found: dict[str, str], seen: set[tuple[str, frozenset[str]]]) -> None:
    """Collects a distribution and what it needs with the given extras, each in the version installed here."""
    key = canonicalize_name(name)
    if (key, extras) in seen:
        return
    seen.add((key, extras))
    try:
        distribution = importlib.metadata.distribution(name)
    except importlib.metadata.PackageNotFoundError as error:
        hint = f"install it here first, so that its version is known: pip install {name}"
        raise ToolchainMissing(f"{name} is not installed here", hint=hint) from error
    found[key] = distribution.version
    for line in distribution.requires or []:
        wanted = Requirement(line)
        if any(_applies(wanted, extra) for extra in extras or {""}) or _applies(wanted, ""):
            _walk(wanted.name, frozenset(wanted.extras), found, seen)


def _applies(wanted: Requirement, extra: str) -> bool:
    return wanted.marker is None or wanted.marker.evaluate({"extra": extra})


def _public(version: str) -> str:
    """Leaves the name of a build out: another index calls the same version otherwise."""
    return version.partition("+")[0]
