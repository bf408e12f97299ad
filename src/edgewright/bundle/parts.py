"""The artifacts of one bundle, gathered from a study: the manifest's own and one per variant."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from edgewright.bundle.archive import digest_content
from edgewright.bundle.open import DEFAULT, read_pairs
from edgewright.core.bundle import GoldenRef, RuntimeRef, Variant
from edgewright.core.codec import decode_stored
from edgewright.core.digest import Digest
from edgewright.core.recipe import Candidate, Study
from edgewright.core.target import Artifact
from edgewright.core.variant import Choice, Condition
from edgewright.errors import Corrupt, UsageError

PAIRS = "golden.json"
_NAME = re.compile(r"[a-z0-9][a-z0-9-]*")

Files = Callable[[Digest], Path]
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Part:
    """One artifact of a bundle.

    Attributes:
        choice: Which machines run it.
        candidate: That it comes from.
        artifact: What it says about itself.
        folder: Where it lies in the bundle.
        golden: Its golden pairs in the bundle.
        evidence: Folder of the golden step.
        contents: Name in the bundle -> its files and its list of golden pairs.
    """

    choice: Choice
    candidate: Candidate
    artifact: Artifact
    folder: str
    golden: GoldenRef
    evidence: Path
    contents: Mapping[str, Path]

    @property
    def runtime(self) -> RuntimeRef:
        """Who runs it."""
        return RuntimeRef(self.artifact.runtime, self.artifact.runtime_version, self.artifact.runtime_range)

    @property
    def precision(self) -> str:
        """Main compute precision."""
        return self.candidate.precision or self.artifact.precision

    def variant(self) -> Variant:
        """Returns how the manifest describes it."""
        return Variant(
            name=self.choice.name,
            when=self.choice.when,
            artifact=self.folder,
            candidate=self.candidate.id,
            precision=self.precision,
            recipe=self.candidate.recipe,
            runtime=self.runtime,
            golden=self.golden,
            session=self.choice.session,
            measurement=self.candidate.measurement,
            why=self.choice.why,
        )


def collect(study: Study, target: str, files: Files) -> tuple[Part, ...]:
    """Returns the artifacts of one bundle, the one for any machine first.

    Raises:
        UsageError: The study has no winner for `target`, its variants cannot be told apart, they do not fit together,
            or the evidence is no longer in the store.
        Corrupt: The evidence cannot be read.
    """
    choices = _choices(study, target)
    parts: list[Part] = []
    for choice in choices:
        same = next((part for part in parts if part.candidate.id == choice.candidate), None)
        if same is None:
            parts.append(_part(choice, study.candidate(choice.candidate), files))
        else:
            parts.append(
                Part(choice, same.candidate, same.artifact, same.folder, same.golden, same.evidence, same.contents)
            )
    for part in parts[1:]:
        _require_fit(parts[0], part)
    return tuple(parts)


def read_evidence(kind: type[T], file: Path) -> T:
    """Reads what a step wrote.

    Raises:
        Corrupt: It cannot be read.
    """
    try:
        return decode_stored(kind, file.read_bytes())
    except (OSError, ValueError) as error:
        raise Corrupt(f"{file}: {error}", hint="run `edgewright optimize` again") from error


def _choices(study: Study, target: str) -> Sequence[Choice]:
    if target not in study.winners:
        known = ", ".join(sorted(study.winners)) or "none"
        raise UsageError(f'the study has no winner for target "{target}"', hint=f"targets with a winner: {known}")
    choices = study.variants.get(target, ()) or (Choice(DEFAULT, study.winners[target]),)
    *special, own = choices
    names = [choice.name for choice in special]
    if own.when != Condition() or len({*names, DEFAULT}) <= len(names) or not all(map(_NAME.fullmatch, names)):
        raise UsageError(
            f'the variants of target "{target}" are {", ".join(f"{c.name}: {c.when}" for c in choices)}',
            hint=f'give each a name of its own other than "{DEFAULT}"; the last one must be for any machine',
        )
    return (own, *special)


def _part(choice: Choice, candidate: Candidate, files: Files) -> Part:
    if candidate.artifact is None:
        raise UsageError(f"{candidate.id} has no artifact: {candidate.error or candidate.why}", hint=_AGAIN)
    own = choice.when == Condition()
    folder = "artifact" if own else f"variants/{choice.name}"
    listed = "golden/golden.json" if own else f"golden/{choice.name}.json"
    made = _evidence(candidate, "artifact", files)
    artifact = read_evidence(Artifact, made / "artifact.json")
    evidence = _evidence(candidate, "golden", files)
    pairs = read_pairs(evidence / PAIRS)
    contents = {f"{folder}/{name}": made / name for name in ("artifact.json", *artifact.files, *artifact.extras)}
    contents[listed] = evidence / PAIRS
    contents |= {f"golden/{pair.input}": evidence / pair.input for pair in pairs} if own else {}
    golden = GoldenRef(listed, len(pairs), max((pair.tolerance for pair in pairs), default=0.0))
    return Part(choice, candidate, artifact, folder, golden, evidence, contents)


_AGAIN = "run `edgewright optimize` again: only what is missing is made anew"


def _evidence(candidate: Candidate, name: str, files: Files) -> Path:
    digest = candidate.evidence.get(name, candidate.artifact if name == "artifact" else None)
    folder = files(digest) if digest else None
    if folder is None or not folder.is_dir():
        where = digest or "not recorded"
        raise UsageError(f"the {name} of {candidate.id} is no longer in the store ({where})", hint=_AGAIN)
    return folder


def _require_fit(own: Part, part: Part) -> None:
    """Checks that a variant can stand in for the manifest's own artifact."""
    name = part.choice.name
    if (part.artifact.inputs, part.artifact.outputs) != (own.artifact.inputs, own.artifact.outputs):
        raise UsageError(f"variant {name} takes or gives other tensors than {own.candidate.id}", hint=_AGAIN)
    if _inputs(part) != _inputs(own):
        raise UsageError(f"the golden inputs of variant {name} are not those of {own.candidate.id}", hint=_AGAIN)


def _inputs(part: Part) -> dict[str, Digest]:
    return {pair.input: digest_content(part.evidence / pair.input)[1] for pair in read_pairs(part.evidence / PAIRS)}
