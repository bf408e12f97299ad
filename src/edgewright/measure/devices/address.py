"""Where a device is: `ssh://pi@host:22`, `adb://SERIAL` or `local`, with options behind a question mark."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any
from urllib.parse import parse_qsl, urlencode, urlsplit

from edgewright.core.codec import unknown_key
from edgewright.errors import UsageError

SSH, ADB, LOCAL = "ssh", "adb", "local"
_OPTIONS = ("config", "name", "power_mode", "python", "root")
_FORMS = "ssh://user@host, ssh://host:port, adb://serial, adb://host:port or local"
_USER, _HOST = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.$-]*"), re.compile(r"[A-Za-z0-9_\[:][A-Za-z0-9_.:%\]-]*")


@dataclass(frozen=True, slots=True)
class Address:
    """A device and how to work on it.

    Attributes:
        scheme: `ssh`, `adb` or `local`.
        host: Name, address or alias of the user's ssh configuration; the serial number for adb.
        user: Login name; empty for what the ssh configuration says.
        port: None for what the ssh configuration says.
        python: Interpreter on the device; empty for the environment that was sent, else `python3`.
        root: Folder on the device for files and jobs; empty for `~/.cache/edgewright/device`.
        config: ssh configuration file to use instead of the user's.
        name: What reports call it; the address by default.
        power_mode: Mode or governor that it is held in while something is timed; empty to leave it alone.
    """

    scheme: str
    host: str = ""
    user: str = ""
    port: int | None = None
    python: str = ""
    root: str = ""
    config: str = ""
    name: str = ""
    power_mode: str = ""

    def __str__(self) -> str:
        given = {key: str(getattr(self, key)) for key in _OPTIONS if getattr(self, key)}
        place = f"{self.user}@{self.host}" if self.user else self.host
        place += f":{self.port}" if self.port else ""
        base = LOCAL if self.scheme == LOCAL else f"{self.scheme}://{place}"
        return f"{base}?{urlencode(given)}" if given else base

    @property
    def title(self) -> str:
        """What reports call it."""
        if self.name or self.scheme == LOCAL:
            return self.name or LOCAL
        return f"{self.scheme}://{self.user}@{self.host}" if self.user else f"{self.scheme}://{self.host}"


def parse_address(text: str) -> Address:
    """Reads an address.

    Raises:
        UsageError: It is none. A password is refused without being shown.
    """
    place, _, query = text.partition("?")
    options = _options(query, place)
    if place == LOCAL:
        return Address(LOCAL, **options)
    scheme, separator, rest = place.partition("://")
    if scheme == ADB and separator and _HOST.fullmatch(rest):
        return Address(ADB, rest, **options)
    if scheme != SSH or not separator:
        raise UsageError(f'"{_shown(place)}" is no address of a device', hint=f"write {_FORMS}")
    return _ssh(place, options)


def _ssh(place: str, options: dict[str, Any]) -> Address:
    parts = urlsplit(place)
    if parts.password is not None:
        raise UsageError(
            f"the address of {parts.hostname} holds a password, which is not taken",
            hint="log in with a key: ssh-copy-id, and an agent or an unencrypted key for unattended use",
        )
    try:
        port = parts.port
    except ValueError as error:
        raise UsageError(f'"{place}": {error}', hint=f"write {_FORMS}") from error
    host, user = _host(parts.netloc), parts.username or ""
    sound = _HOST.fullmatch(host) and (not user or _USER.fullmatch(user)) and parts.path in ("", "/")
    if not sound:
        raise UsageError(f'"{place}" is no address of a device', hint=f"write {_FORMS}")
    return Address(SSH, host, user, port, **options)


def _host(netloc: str) -> str:
    """Keeps the case, which an alias may depend on."""
    host = netloc.rpartition("@")[2]
    if host.startswith("["):
        return host[1:].partition("]")[0]
    return host.partition(":")[0]


def _options(query: str, place: str) -> dict[str, Any]:
    found = dict(parse_qsl(query, keep_blank_values=True))
    for key in found:
        if key not in _OPTIONS:
            raise unknown_key(key, _OPTIONS, f"address {_shown(place)}")
    return found


def _shown(place: str) -> str:
    return re.sub(r"(://[^@/:]*):[^@]*@", r"\1:...@", place)
