"""Packs the winner of a recorded study into one archive; the same study gives the same bytes."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import TypeVar

import edgewright
from edgewright.bundle.archive import digest_content, write
from edgewright.bundle.card import model_card
from edgewright.bundle.open import MANIFEST, MODEL_CARD, SBOM, read_pairs
from edgewright.bundle.sbom import bill_of_materials
from edgewright.core.bundle import (
    SCHEMA,
    FileEntry,
    GoldenRef,
    Manifest,
    Options,
    PipelineSpec,
    RuntimeRef,
)
from edgewright.core.codec import decode_stored, encode_json
from edgewright.core.digest import Digest
from edgewright.core.recipe import Candidate, Study
from edgewright.core.target import Artifact
from edgewright.errors import Corrupt, UsageError

SUFFIX = ".ewb"
PIPELINE = "pipeline.json"
PAIRS = "golden.json"

T = TypeVar("T")


def pack(study: Study, target: str, files: Callable[[Digest], Path], out: Path) -> Path:
    """Writes the bundle of one target.

    A pure function of the study: nothing of the machine, the time or the place of the files enters the bytes.

    Args:
        study: The recorded search.
        target: Whose winner is packed.
        files: Digest of a piece of evidence -> its folder in the store.
        out: Folder to write into; the file is called `NAME-TARGET.ewb`.

    Returns:
        The path of the bundle.

    Raises:
        UsageError: The study has no winner for `target`, or its evidence is no longer in the store.
        ToolchainMissing: A library that writes the model card or the SBOM is not installed.
        Corrupt: The evidence is not what the study says.
    """
    winner = _winner(study, target)
    artifact_folder = _evidence(winner, "artifact", files)
    artifact = _read(Artifact, artifact_folder / "artifact.json")
    contents: dict[str, Path | bytes] = {
        f"artifact/{n}": artifact_folder / n for n in ("artifact.json", *artifact.files)
    }
    golden_folder = _evidence(winner, "golden", files)
    pipeline = _read(PipelineSpec, golden_folder / PIPELINE)
    pairs = read_pairs(golden_folder / PAIRS)
    contents |= {f"golden/{name}": golden_folder / name for name in (PAIRS, *(pair.input for pair in pairs))}
    contents |= {name: golden_folder / name for name in sorted(pipeline.resources.values())}
    _require_files(contents)
    golden = GoldenRef(f"golden/{PAIRS}", len(pairs), max((pair.tolerance for pair in pairs), default=0.0))
    manifest = _manifest(study, winner, artifact, pipeline, golden)
    contents[MODEL_CARD] = model_card(manifest).encode()
    contents[SBOM] = bill_of_materials(manifest, _entries(contents)).encode()
    contents[MANIFEST] = encode_json(replace(manifest, files=_entries(contents)))
    path = out / f"{file_name(study.project)}-{file_name(target)}{SUFFIX}"
    write(path, contents)
    return path


def file_name(name: str) -> str:
    """Returns `name` with everything but letters, digits, dot, dash and underscore turned into dashes."""
    return re.sub(r"[^A-Za-z0-9_.-]+", "-", name).strip("-.") or "model"


def _winner(study: Study, target: str) -> Candidate:
    if target not in study.winners:
        known = ", ".join(sorted(study.winners)) or "none"
        raise UsageError(f'the study has no winner for target "{target}"', hint=f"targets with a winner: {known}")
    winner = study.best(target)
    if winner.artifact is None:
        raise UsageError(f"{winner.id} has no artifact: {winner.error or winner.why}", hint="run optimize again")
    return winner


def _evidence(winner: Candidate, name: str, files: Callable[[Digest], Path]) -> Path:
    digest = winner.evidence.get(name, winner.artifact if name == "artifact" else None)
    folder = files(digest) if digest else None
    if folder is None or not folder.is_dir():
        raise UsageError(
            f"the {name} of {winner.id} is no longer in the store ({digest or 'not recorded'})",
            hint="run `edgewright optimize` again: only what is missing is made anew",
        )
    return folder


def _read(kind: type[T], file: Path) -> T:
    try:
        return decode_stored(kind, file.read_bytes())
    except (OSError, ValueError) as error:
        raise Corrupt(f"{file}: {error}", hint="run `edgewright optimize` again") from error


def _require_files(contents: Mapping[str, Path | bytes]) -> None:
    for name, content in contents.items():
        if isinstance(content, Path) and not content.is_file():
            raise Corrupt(
                f"{content} is missing; the bundle needs it as {name}", hint="run `edgewright optimize` again"
            )


def _entries(contents: Mapping[str, Path | bytes]) -> dict[str, FileEntry]:
    return {name: FileEntry(*digest_content(contents[name])) for name in sorted(contents)}


def _manifest(
    study: Study, winner: Candidate, artifact: Artifact, pipeline: PipelineSpec, golden: GoldenRef
) -> Manifest:
    return Manifest(
        schema=SCHEMA,
        edgewright=study.tools.get("edgewright", edgewright.__version__),
        project=study.project,
        target=winner.target,
        candidate=winner.id,
        artifact="artifact",
        precision=winner.precision or artifact.precision,
        inputs=artifact.inputs,
        outputs=artifact.outputs,
        pipeline=pipeline if pipeline.labels else replace(pipeline, labels=study.labels),
        runtime=RuntimeRef(artifact.runtime, artifact.runtime_version, artifact.runtime_range),
        options=Options(winner.threads, winner.batch),
        recipe=winner.recipe,
        budget=study.budget,
        met=study.met.get(winner.target, False),
        device=study.device,
        golden=golden,
        files={},
        violations=winner.violations,
        why=winner.why,
        measurement=winner.measurement,
        reference=study.reference.measurement,
        lineage=winner.lineage,
        tools=study.tools,
        warnings=study.warnings,
    )
