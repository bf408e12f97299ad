"""The locked files in `toolchains/`: pip requirements with a hash for every file, below a few lines of facts."""

from __future__ import annotations

import platform
import re
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import edgewright
from edgewright.core.codec import unknown_key
from edgewright.core.digest import Digest
from edgewright.errors import ConfigError
from edgewright.store.files import digest_file

FOLDER = Path(edgewright.__file__).parent / "toolchains"
_FACT = re.compile(r"^# (?P<key>[a-z]+): (?P<value>.+)$", re.M)
_PIN = re.compile(r"^(?P<name>[A-Za-z0-9._-]+)==(?P<version>[^\s;\\]+)", re.M)


@dataclass(frozen=True, slots=True)
class Lock:
    """One locked file.

    Attributes:
        name: Of the toolchain.
        path: The file.
        digest: Of the file: an environment made from another one is stale.
        purpose: What it is for.
        python: Versions of Python it installs on, as a specifier.
        platform: `system-machine` it installs on; empty for any.
        imports: Modules that must import before an environment counts as made.
        megabytes: Of an environment, about.
        pins: Distribution, normalised -> version.
    """

    name: str
    path: Path
    digest: Digest
    purpose: str
    python: str
    platform: str
    imports: tuple[str, ...]
    megabytes: int
    pins: Mapping[str, str]

    def takes_python(self, version: str) -> bool:
        """Tells whether it installs on this version of Python, e.g. `3.11.7`."""
        from packaging.specifiers import SpecifierSet

        return version in SpecifierSet(self.python)

    @property
    def fits_platform(self) -> bool:
        """Whether it installs on this machine."""
        return self.platform in ("", here())


def names() -> tuple[str, ...]:
    """Returns the names of all toolchains, sorted."""
    return tuple(sorted(path.stem for path in FOLDER.glob("*.txt")))


def read(name: str) -> Lock:
    """Reads one locked file.

    Raises:
        ConfigError: There is none of this name; the near one is suggested.
    """
    if name not in names():
        hint = unknown_key(name, names(), "toolchains").hint.replace("known keys", "there are")
        raise ConfigError(f'there is no toolchain "{name}"', hint=hint)
    path = FOLDER / f"{name}.txt"
    text = path.read_text(encoding="utf-8")
    facts = {found["key"]: found["value"].strip() for found in _FACT.finditer(text)}
    return Lock(
        name=name,
        path=path,
        digest=digest_file(path),
        purpose=facts.get("for", ""),
        python=facts.get("python", ""),
        platform=facts.get("platform", ""),
        imports=tuple(filter(None, re.split(r",\s*", facts.get("imports", "")))),
        megabytes=int(facts.get("megabytes", "0")),
        pins={normalised(pin["name"]): pin["version"] for pin in _PIN.finditer(text)},
    )


def normalised(distribution: str) -> str:
    """Returns the one spelling of a distribution's name (PEP 503)."""
    return re.sub(r"[-_.]+", "-", distribution).lower()


def here() -> str:
    """Returns `system-machine` of this machine, e.g. `linux-x86_64`."""
    return f"{sys.platform}-{platform.machine().lower()}"
