"""Checks that a bundle is whole and still decides as it did when it was packed."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edgewright.bundle.compare import difference
from edgewright.bundle.decide import open_decider
from edgewright.bundle.open import Bundle, check_runtime, open_bundle
from edgewright.bundle.raw import read_raw
from edgewright.core.bundle import GoldenPair
from edgewright.core.decision import Decision, decision_from_json
from edgewright.core.digest import Digest
from edgewright.errors import Corrupt


@dataclass(frozen=True, slots=True)
class PairResult:
    """One golden pair, run again.

    Attributes:
        input: File of the raw input.
        difference: See `edgewright.bundle.compare.difference`.
        tolerance: What is allowed.
    """

    input: str
    difference: float
    tolerance: float

    @property
    def ok(self) -> bool:
        """True when the decision is the recorded one within tolerance."""
        return self.difference <= self.tolerance


@dataclass(frozen=True, slots=True)
class VerifyReport:
    """What `verify` saw; damage does not get this far, it raises.

    Attributes:
        bundle: Path of the archive.
        digest: Identity of the bundle.
        files: How many files had the promised digest.
        runtime: Name and installed version of the runtime.
        pairs: Every golden pair.
    """

    bundle: str
    digest: Digest
    files: int
    runtime: str
    pairs: tuple[PairResult, ...]

    @property
    def ok(self) -> bool:
        """True when every golden pair is within tolerance."""
        return all(pair.ok for pair in self.pairs)

    def require(self) -> None:
        """Does nothing when all is well.

        Raises:
            Corrupt: A golden pair came out differently.
        """
        wrong = [pair for pair in self.pairs if not pair.ok]
        if wrong:
            worst = max(wrong, key=lambda pair: pair.difference)
            raise Corrupt(
                f"{self.bundle}: {len(wrong)} of {len(self.pairs)} golden pairs differ, the worst is {worst.input}: "
                f"{worst.difference:.3g}, at most {worst.tolerance:g} is allowed",
                hint=f"do not ship it to this device; compare {self.runtime} with the versions in the manifest",
            )


def verify(path: Path, cache: Path | None = None) -> VerifyReport:
    """Checks digests, schema and runtime, and re-runs the golden pairs.

    Args:
        path: The `.ewb` file.
        cache: Where to unpack; the user's cache by default.

    Raises:
        UsageError: There is no such file.
        Corrupt: The archive is damaged or was changed.
        ToolchainMissing: The runtime is not installed in a version of the bundle's range.
    """
    bundle = open_bundle(path, cache)
    pairs = bundle.golden_pairs()
    version = check_runtime(bundle.manifest)
    return VerifyReport(
        bundle=str(path),
        digest=bundle.digest,
        files=len(bundle.manifest.files),
        runtime=f"{bundle.manifest.runtime.name} {version}",
        pairs=_run_pairs(bundle, pairs),
    )


def _run_pairs(bundle: Bundle, pairs: tuple[GoldenPair, ...]) -> tuple[PairResult, ...]:
    folder = (bundle.folder / bundle.manifest.golden.file).parent
    with open_decider(bundle) as decide:

        def fresh(value: Any) -> Decision:
            decide.reset()
            return decide(value)

        return tuple(_run_pair(fresh, folder, pair, bundle.path) for pair in pairs)


def _run_pair(decide: Callable[[Any], Decision], folder: Path, pair: GoldenPair, path: Path) -> PairResult:
    try:
        expected = decision_from_json(pair.decision)
    except ValueError as error:
        raise Corrupt(f"{path}: the golden decision for {pair.input}: {error}", hint="pack it anew") from error
    return PairResult(pair.input, difference(expected, decide(read_raw(folder / pair.input))), pair.tolerance)
