"""`lab.toml`: the devices somebody has, by name.

```toml
[[devices]]
name = "pi4"
address = "ssh://pi@raspberry.local"
python = "~/venv/bin/python"
labels = ["arm", "kitchen"]
```
"""

from __future__ import annotations

import sys
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from edgewright.core.codec import decode
from edgewright.errors import ConfigError, UsageError
from edgewright.measure.devices.address import Address, parse_address

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib


@dataclass(frozen=True, slots=True)
class LabDevice:
    """One `[[devices]]`.

    Attributes:
        name: What it is called on the command line and in reports.
        address: `ssh://user@host`, `adb://serial` or `local`.
        python: Interpreter on the device, where it is not the one that is found.
        root: Folder on the device for files and jobs.
        config: ssh configuration file, relative to the lab file; the user's own by default.
        labels: Words to choose devices by.
        power_mode: Mode or governor that it is put into before something is measured; empty to leave it alone.
    """

    name: str
    address: str
    python: str = ""
    root: str = ""
    config: str = ""
    labels: tuple[str, ...] = ()
    power_mode: str = ""


@dataclass(frozen=True, slots=True)
class _File:
    devices: tuple[LabDevice, ...] = ()


@dataclass(frozen=True, slots=True)
class Lab:
    """The devices of a lab file.

    Attributes:
        devices: In the order of the file.
    """

    devices: tuple[LabDevice, ...]

    def chosen(self, names: Iterable[str], labels: Iterable[str] = ()) -> tuple[LabDevice, ...]:
        """Returns the devices of these names, and those that carry one of these labels.

        Raises:
            UsageError: No device is called or labelled so.
        """
        names, labels = list(names), list(labels)
        known = {each.name for each in self.devices}
        carried = {label for each in self.devices for label in each.labels}
        for name in [n for n in names if n not in known] + [each for each in labels if each not in carried]:
            listed = ", ".join([*sorted(known), *sorted(carried)]) or "none"
            raise UsageError(f'the lab has no device "{name}"', hint=f"names and labels there are: {listed}")
        return tuple(each for each in self.devices if each.name in names or set(each.labels) & set(labels))


def load_lab(path: Path) -> Lab:
    """Reads a lab file.

    Raises:
        ConfigError: It is malformed, an address is none, or two devices have one name.
    """
    try:
        data = tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise ConfigError(f"{path} does not exist", hint="write one: [[devices]] with name and address") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: not TOML: {error}", hint="correct it") from error
    devices = [_completed(each, path) for each in decode(_File, data, str(path)).devices]
    names = [each.name for each in devices]
    for name in names:
        if names.count(name) > 1 or not name:
            raise ConfigError(f'{path}: {names.count(name)} devices are called "{name}"', hint="give each its own name")
    return Lab(tuple(devices))


def address_of(device: LabDevice) -> Address:
    """Returns the address of a device with what the lab file says about it."""
    found = parse_address(device.address)
    names = ("name", "python", "root", "config", "power_mode")
    given: dict[str, Any] = {name: getattr(device, name) for name in names}
    return replace(found, **{key: value for key, value in given.items() if value})


def device_of(text: str, lab: Lab) -> Address:
    """Returns the address of a name of the lab, or of an address.

    Raises:
        UsageError: It is neither.
    """
    if "://" in text or text.partition("?")[0] == "local":
        return parse_address(text)
    return address_of(lab.chosen([text])[0])


def _completed(device: LabDevice, path: Path) -> LabDevice:
    try:
        parse_address(device.address)
    except UsageError as error:
        raise ConfigError(f'{path}, device "{device.name}": {error.message}', hint=error.hint) from error
    if not device.config or device.config.startswith("~"):
        return device
    return replace(device, config=str(path.resolve().parent / device.config))
