"""The one idea: everything expensive is a step, and its fields are its whole configuration."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, Protocol

from edgewright.core.digest import Digest


class Context(Protocol):
    """What a running step may use besides its inputs."""

    seed: int
    scratch: Path
    """A folder kept per key until the step succeeds: checkpoints of long work."""

    def progress(self, fraction: float, note: str = "") -> None:
        """Reports how far the step is, 0 to 1; the terminal turns it into a bar with ETA."""


class Step(Protocol):
    """Turns files into files. Implementations are frozen dataclasses; their fields are the configuration.

    Attributes:
        name: The open string it is found by; equals its module's name with `-` for `_`.
        version: Raised when the same fields would give other bytes.
        requires: Distributions whose installed versions enter the cache key.
    """

    name: ClassVar[str]
    version: ClassVar[int]
    requires: ClassVar[tuple[str, ...]]

    def run(self, inputs: Mapping[str, Path], out: Path, context: Context) -> None:
        """Reads `inputs`, writes into the empty folder `out`.

        Raises:
            EdgewrightError: With a hint. Anything else becomes a `StepFailed` that carries the traceback.
        """


@dataclass(frozen=True, slots=True)
class StepRecord:
    """What happened when a step ran: its line in the lineage of a bundle.

    Attributes:
        step: Name of the step.
        version: Version of the step.
        config: Its fields, JSON-able.
        key: The cache key.
        inputs: Input name -> digest.
        output: Digest of the output tree.
        tools: Distribution -> version.
        seconds: Wall-clock seconds of the run.
        peak_memory_bytes: Peak resident memory of its process.
    """

    step: str
    version: int
    config: Mapping[str, Any]
    key: Digest
    inputs: Mapping[str, Digest]
    output: Digest
    tools: Mapping[str, str] = field(default_factory=dict)
    seconds: float = 0.0
    peak_memory_bytes: int = 0
