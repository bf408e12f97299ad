"""Checks that a bundle is whole and still decides as it did when it was packed."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from edgewright.bundle.compare import difference
from edgewright.bundle.decide import open_decider
from edgewright.bundle.open import DEFAULT, Bundle, check_runtime, open_bundle
from edgewright.bundle.raw import read_raw
from edgewright.core.bundle import GoldenPair
from edgewright.core.decision import Decision, decision_from_json
from edgewright.core.digest import Digest
from edgewright.core.measured import GoldenCheck
from edgewright.errors import Corrupt
from edgewright.runtimes import load_artifact
from edgewright.runtimes._ort_custom import kind_of


@dataclass(frozen=True, slots=True)
class VerifyReport:
    """What `verify` saw; damage does not get this far, it raises.

    Attributes:
        bundle: Path of the archive.
        digest: Identity of the bundle.
        files: How many files had the promised digest.
        runtime: Name and installed version of the runtime.
        pairs: Every golden pair of the variant that runs here.
        variant: What this machine runs: the name of a variant, or `default`.
        variants: Every artifact of the bundle and the machines that run it; all were checked.
        native: Path in the bundle -> `system-machine` of every native library: code that runs in the process.
    """

    bundle: str
    digest: Digest
    files: int
    runtime: str
    pairs: tuple[GoldenCheck, ...]
    variant: str = DEFAULT
    variants: Mapping[str, str] = field(default_factory=dict)
    native: Mapping[str, str] = field(default_factory=dict)

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
    """Checks digests, schema and runtime, and re-runs the golden pairs of the artifact that this machine runs.

    Of the other variants, the description, the files and the list of golden pairs are checked; they are not run.

    Args:
        path: The `.ewb` file.
        cache: Where to unpack; the user's cache by default.

    Raises:
        UsageError: There is no such file.
        Corrupt: The archive is damaged or was changed.
        ToolchainMissing: The runtime is not installed in a version of the bundle's range.
    """
    bundle = open_bundle(path, cache)
    _check_artifacts(bundle)
    pairs = bundle.golden_pairs()
    version = check_runtime(bundle.runtime)
    return VerifyReport(
        bundle=str(path),
        digest=bundle.digest,
        files=len(bundle.manifest.files),
        runtime=f"{bundle.runtime.name} {version}",
        pairs=_run_pairs(bundle, pairs),
        variant=bundle.runs,
        variants={**{v.name: str(v.when) for v in bundle.manifest.variants}, DEFAULT: _others(bundle)},
        native=_native(bundle),
    )


def _native(bundle: Bundle) -> dict[str, str]:
    """Looks into every file: what a library is called, or where it lies, says nothing."""
    kinds = {name: kind_of(bundle.folder / name) for name in sorted(bundle.manifest.files)}
    return {name: kind for name, kind in kinds.items() if kind}


def _others(bundle: Bundle) -> str:
    return "any other machine" if bundle.manifest.variants else "any machine"


def _check_artifacts(bundle: Bundle) -> None:
    """Reads what each artifact says about itself and its golden pairs, also of variants that do not run here."""
    promised = (bundle.manifest.inputs, bundle.manifest.outputs)
    for each in bundle.manifest.artifacts:
        described = load_artifact(bundle.folder / each.artifact)
        if (described.inputs, described.outputs) != promised:
            problem = f"{each.artifact} takes or gives other tensors than the manifest says"
            raise Corrupt(f"{bundle.path}: {problem}", hint="pack it anew")
        bundle.golden_pairs(each.golden)


def _run_pairs(bundle: Bundle, pairs: tuple[GoldenPair, ...]) -> tuple[GoldenCheck, ...]:
    folder = (bundle.folder / bundle.golden.file).parent
    with open_decider(bundle) as decide:

        def fresh(value: Any) -> Decision:
            decide.reset()
            return decide(value)

        return tuple(_run_pair(fresh, folder, pair, bundle.path) for pair in pairs)


def _run_pair(decide: Callable[[Any], Decision], folder: Path, pair: GoldenPair, path: Path) -> GoldenCheck:
    try:
        expected = decision_from_json(pair.decision)
    except ValueError as error:
        raise Corrupt(f"{path}: the golden decision for {pair.input}: {error}", hint="pack it anew") from error
    return GoldenCheck(pair.input, difference(expected, decide(read_raw(folder / pair.input))), pair.tolerance)
