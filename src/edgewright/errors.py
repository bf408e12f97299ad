"""Every error Edgewright raises on purpose, in one tree.

```
EdgewrightError          message + hint + exit code
├── UsageError       (2) the request cannot be carried out as written
│   ├── ConfigError      edgewright.toml or a step's fields are wrong
│   ├── DataError        samples or labels do not fit what was declared
│   └── SourceError      the model given cannot be read
├── ToolchainMissing (3) a library that this work needs is not installed
├── StepFailed       (4) a step ran and failed
│   ├── MetricFailed     the user's metric raised
│   ├── OutOfSpace       the disk is full
│   └── ConnectionLost   another process or machine ended, or does not answer
└── Corrupt          (5) a file does not hold what its digest or format promises
```

Exit code 0 means done and the budget met; 1 means done and the budget not met.
A message says what, where, expected and got; the hint names the fix.
"""

from __future__ import annotations

from typing import ClassVar

BUDGET_MET = 0
BUDGET_NOT_MET = 1


class EdgewrightError(Exception):
    """Base of the tree.

    Attributes:
        message: What went wrong and where, with the expected and the found value.
        hint: What the reader can do about it.
        exit_code: The process exit code of the command line.
    """

    exit_code: ClassVar[int] = 4

    def __init__(self, message: str, *, hint: str) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint

    def __str__(self) -> str:
        return f"{self.message}\n  fix: {self.hint}" if self.hint else self.message


class UsageError(EdgewrightError):
    """The request cannot be carried out as written."""

    exit_code = 2


class ConfigError(UsageError):
    """A configuration file or a step's fields are wrong."""


class DataError(UsageError):
    """Samples or labels do not fit what was declared."""


class SourceError(UsageError):
    """The model given cannot be read."""


class ToolchainMissing(EdgewrightError):
    """A library that this work needs is not installed here."""

    exit_code = 3


class StepFailed(EdgewrightError):
    """A step ran and failed."""

    exit_code = 4


class MetricFailed(StepFailed):
    """A metric written by the user raised."""


class OutOfSpace(StepFailed):
    """The disk is full."""


class ConnectionLost(StepFailed):
    """The process or machine that does the work ended, or does not answer."""


class Corrupt(EdgewrightError):
    """A file does not hold what its digest or its format promises."""

    exit_code = 5
