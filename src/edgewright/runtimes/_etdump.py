"""Reads ETDump, the trace that ExecuTorch writes of a profiled program.

Source: executorch/devtools/etdump/etdump_schema_flatcc.fbs, version 0, a FlatBuffer with the identifier `ED00`. Only
names, instructions and times are read.
"""

from __future__ import annotations

import statistics
import struct
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from edgewright.core.target import OperatorTime
from edgewright.errors import Corrupt

_IDENTIFIER = b"ED00"
_RUN_EVENTS, _RUN_NAME = 3, 0
_PROFILE = 0
_NAME, _CHAIN, _INSTRUCTION, _DELEGATE, _START, _END = 0, 1, 2, 4, 6, 7
_EXECUTE = "Execute"
_WHOLE = ("DELEGATE_CALL", "OPERATOR_CALL")


@dataclass(frozen=True, slots=True)
class Event:
    """One kernel of one run.

    Attributes:
        instruction: Number of the instruction of the program.
        kernel: As the backend names it, or the name of ExecuTorch's own kernel.
        delegated: Whether a delegate ran it.
        microseconds: How long it took.
    """

    instruction: int
    kernel: str
    delegated: bool
    microseconds: float

    @property
    def node(self) -> str:
        """Its name in the program, unique."""
        return f"{self.instruction}/{self.kernel}"


def read_events(content: bytes) -> list[Sequence[Event]]:
    """Returns the kernels of every run of the method, in the order in which they ran.

    Raises:
        Corrupt: It is not a trace.
    """
    try:
        start = 4 if content[8:12] == _IDENTIFIER else 0
        if content[start + 4 : start + 8] != _IDENTIFIER:
            raise ValueError("no identifier ED00")
        buffer = content[start:]
        root = _Table(buffer, _unsigned(buffer, 0))
        runs = list(root.tables(1))
        return [_kernels(run) for run in runs if run.text(_RUN_NAME) == _EXECUTE]
    except (struct.error, ValueError, UnicodeDecodeError) as error:
        raise Corrupt(f"the trace of ExecuTorch cannot be read: {error}", hint="measure without a profile") from error


def summed(runs: Sequence[Sequence[Event]]) -> tuple[OperatorTime, ...]:
    """Returns the median time of every kernel over `runs`, in the order in which they run."""
    times: dict[tuple[str, str], list[float]] = {}
    for run in runs:
        for event in run:
            times.setdefault((event.node, event.kernel), []).append(event.microseconds)
    return tuple(OperatorTime(node, kernel, statistics.median(found)) for (node, kernel), found in times.items())


def _kernels(run: _Table) -> list[Event]:
    """A call of a delegate that tells its kernels is left out; one that does not stands for them."""
    found: list[Event] = []
    inside: set[int] = set()
    for event in run.tables(_RUN_EVENTS):
        profile = event.table(_PROFILE)
        if profile is None or (instruction := profile.integer(_INSTRUCTION, -1)) < 0:
            continue
        name, delegate = profile.text(_NAME), profile.text(_DELEGATE)
        if profile.integer(_CHAIN, 0) < 0 or (name in _WHOLE and (instruction in inside or name != _WHOLE[0])):
            continue
        inside.add(instruction)
        micros = (profile.long(_END) - profile.long(_START)) / 1000
        found.append(Event(instruction, delegate or name, bool(delegate) or name == _WHOLE[0], micros))
    return found


@dataclass(frozen=True, slots=True)
class _Table:
    """A table of a FlatBuffer (google.github.io/flatbuffers, "FlatBuffer Internals")."""

    buffer: bytes
    at: int

    def field(self, index: int) -> int:
        """Returns where a field is stored, 0 where it has its default."""
        table = self.at - struct.unpack_from("<i", self.buffer, self.at)[0]
        size: int = struct.unpack_from("<H", self.buffer, table)[0]
        place = 4 + 2 * index
        offset: int = struct.unpack_from("<H", self.buffer, table + place)[0] if place < size else 0
        return self.at + offset if offset else 0

    def integer(self, index: int, default: int) -> int:
        at = self.field(index)
        return int(struct.unpack_from("<i", self.buffer, at)[0]) if at else default

    def long(self, index: int) -> int:
        at = self.field(index)
        return int(struct.unpack_from("<Q", self.buffer, at)[0]) if at else 0

    def text(self, index: int) -> str:
        at = self.field(index)
        if not at:
            return ""
        at += _unsigned(self.buffer, at)
        size = _unsigned(self.buffer, at)
        return self.buffer[at + 4 : at + 4 + size].decode()

    def table(self, index: int) -> _Table | None:
        at = self.field(index)
        return _Table(self.buffer, at + _unsigned(self.buffer, at)) if at else None

    def tables(self, index: int) -> Iterator[_Table]:
        at = self.field(index)
        if at:
            at += _unsigned(self.buffer, at)
            for number in range(_unsigned(self.buffer, at)):
                entry = at + 4 + 4 * number
                yield _Table(self.buffer, entry + _unsigned(self.buffer, entry))


def _unsigned(buffer: bytes, at: int) -> int:
    return int(struct.unpack_from("<I", buffer, at)[0])
