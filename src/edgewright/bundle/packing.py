"""Packs the winner of a recorded study into one archive; the same study gives the same bytes."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path

import edgewright
from edgewright.bundle.archive import digest_content, write
from edgewright.bundle.card import model_card
from edgewright.bundle.open import MANIFEST, MODEL_CARD, SBOM
from edgewright.bundle.parts import Part, collect, read_evidence
from edgewright.bundle.sbom import bill_of_materials
from edgewright.core.bundle import SCHEMA, FileEntry, Manifest, Options, PipelineSpec, Variant
from edgewright.core.codec import encode_json
from edgewright.core.digest import Digest
from edgewright.core.recipe import Candidate, Study
from edgewright.errors import Corrupt

SUFFIX = ".ewb"
PIPELINE = "pipeline.json"


def pack(study: Study, target: str, files: Callable[[Digest], Path], out: Path) -> Path:
    """Writes the bundle of one target.

    Where the study chose different candidates for different kinds of machines, each becomes a variant.
    A pure function of the study: nothing of the machine, the time or the place of the files enters the bytes.

    Args:
        study: The recorded search.
        target: Whose winner is packed.
        files: Digest of a piece of evidence -> its folder in the store.
        out: Folder to write into; the file is called `NAME-TARGET.ewb`.

    Returns:
        The path of the bundle.

    Raises:
        UsageError: The study has no winner for `target`, its evidence is no longer in the store, or its variants
            do not fit together.
        ToolchainMissing: A library that writes the model card or the SBOM is not installed.
        Corrupt: The evidence is not what the study says.
    """
    own, *others = collect(study, target, files)
    pipeline = read_evidence(PipelineSpec, own.evidence / PIPELINE)
    contents: dict[str, Path | bytes] = {}
    for part in (*others, own):
        contents |= part.contents
    contents |= {name: own.evidence / name for name in sorted(pipeline.resources.values())}
    _require_files(contents)
    manifest = _manifest(study, own, tuple(part.variant() for part in others), pipeline)
    contents[MODEL_CARD] = model_card(manifest).encode()
    contents[SBOM] = bill_of_materials(manifest, _entries(contents)).encode()
    contents[MANIFEST] = encode_json(replace(manifest, files=_entries(contents)))
    path = out / f"{file_name(study.project)}-{file_name(target)}{SUFFIX}"
    write(path, contents)
    return path


def file_name(name: str) -> str:
    """Returns `name` with everything but letters, digits, dot, dash and underscore turned into dashes."""
    return re.sub(r"[^A-Za-z0-9_.-]+", "-", name).strip("-.") or "model"


def _require_files(contents: Mapping[str, Path | bytes]) -> None:
    for name, content in contents.items():
        if isinstance(content, Path) and not content.is_file():
            raise Corrupt(
                f"{content} is missing; the bundle needs it as {name}", hint="run `edgewright optimize` again"
            )


def _entries(contents: Mapping[str, Path | bytes]) -> dict[str, FileEntry]:
    return {name: FileEntry(*digest_content(contents[name])) for name in sorted(contents)}


def _manifest(study: Study, own: Part, variants: tuple[Variant, ...], pipeline: PipelineSpec) -> Manifest:
    candidate, artifact = own.candidate, own.artifact
    return Manifest(
        schema=SCHEMA,
        edgewright=study.tools.get("edgewright", edgewright.__version__),
        project=study.project,
        target=candidate.target,
        candidate=candidate.id,
        artifact=own.folder,
        precision=own.precision,
        inputs=artifact.inputs,
        outputs=artifact.outputs,
        pipeline=pipeline if pipeline.labels else replace(pipeline, labels=study.labels),
        runtime=own.runtime,
        options=Options(candidate.threads, candidate.batch),
        recipe=candidate.recipe,
        budget=study.budget,
        met=_met(study, candidate),
        device=study.devices.get(candidate.target, study.device),
        golden=own.golden,
        files={},
        violations=candidate.violations,
        why=own.choice.why or candidate.why,
        measurement=candidate.measurement,
        reference=study.reference.measurement,
        lineage=candidate.lineage,
        tools=study.tools,
        warnings=study.warnings,
        variants=variants,
        session=own.choice.session,
        proof=candidate.proof,
        unproven=candidate.unproven,
    )


def _met(study: Study, candidate: Candidate) -> bool:
    if candidate.id == study.winners[candidate.target]:
        return study.met.get(candidate.target, False)
    return not candidate.violations
