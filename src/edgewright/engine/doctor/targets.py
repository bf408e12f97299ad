"""Targets, runtimes and environments of their own, from metadata: no framework is imported."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from edgewright.core.measurement import Device
from edgewright.engine import environments as installed_environments
from edgewright.engine import registry, toolchain
from edgewright.runtimes._require import installed_version


@dataclass(frozen=True, slots=True)
class TargetState:
    """One target.

    Attributes:
        name: Of the target.
        installed: Its toolchain is here, in this environment or in one of its own.
        versions: Distribution -> version, `absent` where it is missing; empty for a target that needs none.
        install: The line that installs it; empty where it is here.
        elsewhere: Why its artifacts do not run on this machine; empty where they do.
        toolchain: The environment of its own that it compiles in; empty for this one.
    """

    name: str
    installed: bool
    versions: Mapping[str, str] = field(default_factory=dict)
    install: str = ""
    elsewhere: str = ""
    toolchain: str = ""


@dataclass(frozen=True, slots=True)
class RuntimeState:
    """One runtime: its distribution and the version that is here, empty where it is missing."""

    name: str
    distribution: str
    version: str


@dataclass(frozen=True, slots=True)
class EnvironmentState:
    """One toolchain with an environment of its own.

    Attributes:
        name: Of the toolchain.
        state: `ready`, `stale`, `broken` or `absent`.
        purpose: What it is for.
        install: The line that makes it ready; empty when it is.
        megabytes: Its size; None where there is none.
        fits: Whether its locked files install on this kind of machine.
    """

    name: str
    state: str
    purpose: str
    install: str
    megabytes: int | None
    fits: bool


def targets(device: Device) -> tuple[TargetState, ...]:
    """Returns every target, sorted by name."""
    return tuple(_target(name, registry.load("targets", name), device) for name in registry.names("targets"))


def runtimes() -> tuple[RuntimeState, ...]:
    """Returns every runtime, sorted by name."""
    kinds = {name: registry.load("runtimes", name) for name in registry.names("runtimes")}
    found = {name: getattr(kind, "distribution", "") for name, kind in kinds.items()}
    return tuple(
        RuntimeState(name, wheel, installed_version(wheel) or "" if wheel else "") for name, wheel in found.items()
    )


def environments() -> tuple[EnvironmentState, ...]:
    """Returns every toolchain with an environment of its own, sorted by name."""
    return tuple(_environment(name) for name in installed_environments.names())


def _target(name: str, kind: Any, device: Device) -> TargetState:
    extra = getattr(kind, "extra", "")
    # A plugin's extra may belong to another package, or be younger than this installation: then its step says.
    wanted = (toolchain.distributions_of(extra) or getattr(kind, "requires", ())) if extra else ()
    versions = toolchain.versions(wanted)
    absent = [name for name, found in versions.items() if found == "absent"]
    own, install = _own_environment(kind)
    line = install if own else toolchain.install_line(extra) if absent else ""
    return TargetState(name, not line, versions, line, _elsewhere(kind, device), own)


def _own_environment(kind: Any) -> tuple[str, str]:
    """Returns the name of a target's own environment and the line that makes it ready, both empty where it has none."""
    name = getattr(kind, "toolchain", "")
    if not isinstance(name, str) or name not in installed_environments.names():
        return "", ""
    return name, installed_environments.status(name).install


def _elsewhere(kind: Any, device: Device) -> str:
    """Returns why a target as it is without fields of its own does not run here."""
    try:
        asked = getattr(kind(), "elsewhere", None)
        return str(asked(device)) if asked is not None else ""
    except Exception as error:  # a plugin that is broken or needs fields must not hide the others
        return f"it cannot tell: {error}"


def _environment(name: str) -> EnvironmentState:
    status, lock = installed_environments.status(name), installed_environments.read(name)
    size = status.environment.megabytes if status.environment is not None else None
    return EnvironmentState(name, status.state, status.purpose, status.install, size, lock.fits_platform)
