"""What a power mode is, and which of them somebody asks for."""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence
from typing import ClassVar, Protocol

from edgewright.errors import UsageError

ALL = "all"


class PowerModes(Protocol):
    """The power modes of a device."""

    kind: ClassVar[str]

    def names(self) -> tuple[str, ...]:
        """Returns the modes there are."""

    def current(self) -> str:
        """Returns the mode the device is in."""

    def choose(self, name: str) -> None:
        """Puts the device into a mode.

        Raises:
            StepFailed: The device does not take it on; the hint says what it needs.
        """

    def snapshot(self) -> Mapping[str, str]:
        """Returns what `put_back` needs to leave the device as it is now."""

    def put_back(self, snapshot: Mapping[str, str]) -> None:
        """Undoes every `choose` since the snapshot.

        Raises:
            StepFailed: See `choose`.
        """


def chosen(wanted: str | Sequence[str], names: Sequence[str], kind: str) -> tuple[str, ...]:
    """Returns the modes to measure in.

    Args:
        wanted: `all`, or names (case, `_` and a leading `MODE_` do not matter).
        names: Of the device.
        kind: Of its modes, for messages.

    Raises:
        UsageError: A name is unknown.
    """
    if wanted == ALL or list(wanted) == [ALL]:
        return tuple(names)
    known = {_plain(name): name for name in names}
    asked = [part.strip() for part in wanted.split(",")] if isinstance(wanted, str) else list(wanted)
    unknown = [name for name in asked if _plain(name) not in known]
    if unknown:
        near = difflib.get_close_matches(_plain(unknown[0]), known, n=1)
        hint = f'did you mean "{known[near[0]]}"?' if near else f"there are: {', '.join(names)}"
        raise UsageError(f'power mode "{unknown[0]}" is not one of this device ({kind})', hint=hint)
    return tuple(dict.fromkeys(known[_plain(name)] for name in asked))


def _plain(name: str) -> str:
    return name.upper().replace("_", "").removeprefix("MODE")
