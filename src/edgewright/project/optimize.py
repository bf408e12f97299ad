"""The main job: search, then report, study and bundles, each written whole or not at all."""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from edgewright.core.codec import decode_stored, encode_json
from edgewright.core.digest import Digest, digest_bytes
from edgewright.core.recipe import Study
from edgewright.engine import toolchain
from edgewright.engine.execute import Executor
from edgewright.errors import StepFailed
from edgewright.project.config import Project
from edgewright.project.outcomes import write_outcomes
from edgewright.project.question import ask
from edgewright.runtimes._machine import local_device
from edgewright.search.observer import Observer, Silent
from edgewright.search.run import search
from edgewright.store.cache import Cache
from edgewright.store.files import digest_file, write_atomic

STUDY_FILE = "study.json"
_WORK = ".work"


@dataclass(frozen=True, slots=True)
class Outcome:
    """What `optimize` leaves behind.

    Attributes:
        study: Everything found out.
        folder: The output folder: study.json, report.html, report.json, summary.md, junit.xml, the bundles and, beside
            each, what became of every test sample.
        bundles: Target -> bundle file.
        workers: How many worker processes were started; 0 when nothing had changed.
    """

    study: Study
    folder: Path
    bundles: dict[str, Path]
    workers: int

    @property
    def met(self) -> bool:
        """True when every target has an artifact inside the budget."""
        targets = {candidate.target for candidate in self.study.candidates}
        return all(self.study.met.get(target, False) for target in targets)

    @property
    def study_json(self) -> Path:
        """The study on disk."""
        return self.folder / STUDY_FILE


@dataclass(frozen=True, slots=True)
class _Published:
    """What was last written from which study: `published.json`."""

    study: Digest
    edgewright: str
    files: dict[str, Digest]
    bundles: dict[str, str]


def optimize(
    project: Project, *, cache: Cache | None = None, progress: bool = False, by_content: bool = False
) -> Outcome:
    """Finds, proves and packs the best artifact for every target of `project`.

    Args:
        project: From `load_project`.
        cache: Where finished steps are kept; the user's own by default.
        progress: Show progress and ETA on the terminal.
        by_content: Tell data files apart by what they hold, so that results made from another checkout count.

    Raises:
        EdgewrightError: See `edgewright.errors`; what was finished is kept, and the same call goes on from there.
    """
    cache = cache or Cache.default()
    folder = project.output
    with cache.shared(), _watching(progress) as observer, _nothing_unfinished(folder):
        request = ask(project, folder / _WORK, by_content=by_content)
        executor = Executor(cache, project.root, local_device(), seed=project.file.seed, progress=observer.progress)
        study = search(request, executor, observer=observer, save=_Saver(folder, executor))
        observer.phase("report and bundles")
        bundles = _publish(study, cache, folder)
    return Outcome(study, folder, bundles, executor.started)


def show(outcome: Outcome) -> None:
    """Prints the tables and where everything is."""
    from edgewright.report.terminal import show_stages, show_study

    show_study(outcome.study)
    show_stages(outcome.folder / "report.json", outcome.study.winners)
    print(f"report: {outcome.folder / 'report.html'}")
    for target, bundle in outcome.bundles.items():
        print(f"bundle for {target}: {bundle}")


@contextlib.contextmanager
def _nothing_unfinished(folder: Path) -> Iterator[None]:
    """Takes back the output folder when there is an error before anything was found out."""
    try:
        yield
    except Exception:
        if not (folder / STUDY_FILE).exists():
            shutil.rmtree(folder / _WORK, ignore_errors=True)
            with contextlib.suppress(OSError):
                folder.rmdir()
        raise


@contextlib.contextmanager
def _watching(progress: bool) -> Iterator[Observer]:
    if not progress:
        yield Silent()
        return
    from edgewright.report.terminal import SearchProgress

    with SearchProgress() as watcher:
        yield watcher


class _Saver:
    """Writes the study so far, but only when something new was measured since."""

    def __init__(self, folder: Path, executor: Executor) -> None:
        self.path = folder / STUDY_FILE
        self.executor = executor
        self.seen = 0

    def __call__(self, study: Study) -> None:
        if self.executor.started != self.seen or not self.path.exists():
            self.seen = self.executor.started
            write_atomic(self.path, encode_json(study))


def _publish(study: Study, cache: Cache, folder: Path) -> dict[str, Path]:
    """Writes report and bundles unless they are there already, made from the same study by the same release."""
    encoded = encode_json(study)
    identity = digest_bytes(encoded)
    known = _known(folder, identity)
    if known is not None:
        return {target: folder / name for target, name in known.bundles.items()}
    write_atomic(folder / STUDY_FILE, encoded)
    _report(study, cache, folder)
    bundles = _pack(study, cache, folder)
    outcomes = write_outcomes(study, lambda digest: _stored(cache, digest), folder / _WORK / "data.json", bundles)
    made = [path.name for path in (*bundles.values(), *outcomes)]
    names = [STUDY_FILE, "report.html", "report.json", "summary.md", "junit.xml", *made]
    files = {name: digest_file(folder / name) for name in names}
    published = _Published(identity, _release(), files, {target: path.name for target, path in bundles.items()})
    write_atomic(folder / _WORK / "published.json", encode_json(published))
    return bundles


def _known(folder: Path, identity: Digest) -> _Published | None:
    try:
        found = decode_stored(_Published, (folder / _WORK / "published.json").read_bytes())
        intact = all(digest_file(folder / name) == digest for name, digest in found.files.items())
    except (OSError, ValueError):
        return None
    return found if intact and found.study == identity and found.edgewright == _release() else None


def _release() -> str:
    return toolchain.own_identity()


def _report(study: Study, cache: Cache, folder: Path) -> None:
    from edgewright.data import open_data
    from edgewright.report import write_report
    from edgewright.report.evidence import StoredEvidence, sound_rate

    data = open_data(folder / _WORK / "data.json")
    rate = sound_rate(data.spec.preprocess)
    write_report(study, StoredEvidence(lambda digest: _stored(cache, digest), data.dataset, rate), folder)


def _pack(study: Study, cache: Cache, folder: Path) -> dict[str, Path]:
    from edgewright.bundle import pack

    def files(digest: Digest) -> Path:
        path = _stored(cache, digest)
        if path is None:
            raise StepFailed(f"result {digest} was removed from the cache", hint="run the same command again")
        return path

    return {target: pack(study, target, files, folder) for target in study.winners}


def _stored(cache: Cache, digest: Digest) -> Path | None:
    path = cache.output_path(digest)
    return path if path.is_dir() else None
