"""A release from what there is of it: an output folder, a study, a report, or bundles."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import msgspec

from edgewright.bundle import open_bundle
from edgewright.bundle.packing import SUFFIX, file_name
from edgewright.core.codec import decode_stored
from edgewright.core.digest import Digest
from edgewright.core.measurement import Device, Quality, Timing
from edgewright.core.recipe import Candidate, Study
from edgewright.core.step import StepRecord
from edgewright.core.target import NodePlacement
from edgewright.errors import Corrupt, UsageError
from edgewright.runtimes import read_artifact
from edgewright.search import wording
from edgewright.search.release.records import SampleRecords, read_records, records_file

STUDY = "study.json"
_OF_THE_MACHINE = ("data",)
"""Inputs of an import whose digest holds paths and times of one machine."""


@dataclass(frozen=True, slots=True)
class Shipped:
    """The winner of one target, as a release carries it.

    Attributes:
        target: Name of the target.
        title: What was done to the model, and the precision.
        quality: On the split that is reported; None where nothing was scored.
        timing: None where nothing was timed.
        device: Where both were measured.
        threads: It was measured with.
        batch: Samples per run.
        size_bytes: Of the files that ship; None where nobody says.
        origin: Digests of what was imported; equal ones make two speed-ups over the original comparable.
        placement: Every node as it really runs.
        records: What became of every sample; None where that did not travel along.
        bundle: The archive; None where there is only a study.
        labels: Class names by index.
    """

    target: str
    title: str
    quality: Quality | None
    timing: Timing | None
    device: Device
    threads: int
    batch: int
    size_bytes: int | None
    origin: Mapping[str, Digest]
    placement: tuple[NodePlacement, ...]
    records: SampleRecords | None
    bundle: Path | None
    labels: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Release:
    """One release.

    Attributes:
        path: Where it was read from.
        project: Name of the project.
        shipped: Target -> its winner.
    """

    path: Path
    project: str
    shipped: Mapping[str, Shipped]


def read_release(path: Path) -> Release:
    """Reads a release.

    Args:
        path: An output folder of `edgewright optimize`, a folder of bundles, `study.json`, `report.json`, or an `.ewb`
            bundle. Outcomes of single samples are taken from the files beside the bundles.

    Raises:
        UsageError: There is nothing like that.
        Corrupt: What is there is damaged.
    """
    if path.is_dir():
        return _of_folder(path)
    if not path.is_file():
        raise UsageError(
            f"{path}: no such release", hint="give an output folder, study.json, report.json or an .ewb bundle"
        )
    return _of_bundles(path, [path]) if path.suffix == SUFFIX else _of_study(path)


def _of_folder(folder: Path) -> Release:
    if (folder / STUDY).is_file():
        return _of_study(folder / STUDY)
    bundles = sorted(folder.glob(f"*{SUFFIX}"))
    if not bundles:
        raise UsageError(
            f"{folder}: holds neither {STUDY} nor bundles", hint="give the output folder of `edgewright optimize`"
        )
    return _of_bundles(folder, bundles)


def _of_study(file: Path) -> Release:
    study = _read_study(file)
    shipped = {target: _winner(study, target, file.parent) for target in study.winners}
    return Release(file, study.project, shipped)


def _read_study(file: Path) -> Study:
    try:
        document = msgspec.json.decode(file.read_bytes())
        if isinstance(document, dict) and isinstance(document.get("study"), dict):
            document = document["study"]
        return decode_stored(Study, msgspec.json.encode(document))
    except (ValueError, msgspec.DecodeError) as error:
        raise Corrupt(
            f"{file}: not a study: {error}", hint="give the study.json or report.json of a release"
        ) from error


def _winner(study: Study, target: str, folder: Path) -> Shipped:
    winner = study.best(target)
    measured = winner.measurement
    bundle = folder / f"{file_name(study.project)}-{file_name(target)}{SUFFIX}"
    return Shipped(
        target=target,
        title=_title(winner, study),
        quality=(measured.test or measured.tune) if measured else None,
        timing=measured.timing if measured else None,
        device=measured.device if measured else study.device,
        threads=winner.threads,
        batch=winner.batch,
        size_bytes=measured.size if measured else None,
        origin=_origin(winner.lineage),
        placement=winner.placement,
        records=_same(read_records(records_file(bundle)), winner.id),
        bundle=bundle if bundle.is_file() else None,
        labels=study.labels,
    )


def _title(winner: Candidate, study: Study) -> str:
    name = wording.title(winner, study.of_target(winner.target))
    return f"{name}, {wording.precision(winner.precision)}" if winner.precision else name


def _same(records: SampleRecords | None, candidate: str) -> SampleRecords | None:
    """Outcomes of another candidate were left behind by an older run: they say nothing about this one."""
    return records if records is not None and records.candidate == candidate else None


def _origin(lineage: tuple[StepRecord, ...]) -> dict[str, Digest]:
    inputs = lineage[0].inputs if lineage else {}
    return {name: digest for name, digest in inputs.items() if name not in _OF_THE_MACHINE}


def _of_bundles(path: Path, bundles: list[Path]) -> Release:
    shipped: dict[str, Shipped] = {}
    project = ""
    for file in bundles:
        manifest = open_bundle(file, variant="default").manifest
        if project not in ("", manifest.project):
            raise UsageError(
                f"{path}: bundles of two projects, {project} and {manifest.project}", hint="give one bundle"
            )
        project = manifest.project
        shipped[manifest.target] = _packed(file)
    return Release(path, project, shipped)


def _packed(file: Path) -> Shipped:
    opened = open_bundle(file, variant="default")
    manifest = opened.manifest
    measured = manifest.measurement
    precision = wording.precision(manifest.precision)
    return Shipped(
        target=manifest.target,
        title=", ".join(filter(None, (manifest.recipe.title, precision))),
        quality=(measured.test or measured.tune) if measured else None,
        timing=measured.timing if measured else None,
        device=manifest.device,
        threads=manifest.options.threads,
        batch=manifest.options.batch,
        size_bytes=measured.size if measured else None,
        origin=_origin(manifest.lineage),
        placement=read_artifact(opened.artifact).placement,
        records=_same(read_records(records_file(file)), manifest.candidate),
        bundle=file,
        labels=manifest.pipeline.labels,
    )
