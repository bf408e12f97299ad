"""Who watches a search: the terminal, a test, nobody."""

from __future__ import annotations

from typing import Protocol

from edgewright.core.recipe import Candidate


class Observer(Protocol):
    """Told what a search does, as it does it."""

    def phase(self, text: str) -> None:
        """A new part of the work begins."""

    def candidate_started(self, title: str, target: str, index: int, total: int) -> None:
        """A candidate is about to be tried; `total` is an estimate."""

    def progress(self, fraction: float, note: str) -> None:
        """The running step is `fraction` (0 to 1) done."""

    def candidate_finished(self, candidate: Candidate) -> None:
        """A candidate has been judged."""


class Silent:
    """Watches without a word."""

    def phase(self, text: str) -> None: ...

    def candidate_started(self, title: str, target: str, index: int, total: int) -> None: ...

    def progress(self, fraction: float, note: str) -> None: ...

    def candidate_finished(self, candidate: Candidate) -> None: ...
