"""One bundle or artifact, measured on devices: the figures come from there, data and judgement stay here."""

from __future__ import annotations

import queue
import tempfile
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray
from packaging.specifiers import SpecifierSet

from edgewright.bundle.compare import difference
from edgewright.bundle.decide import decider
from edgewright.bundle.open import DEFAULT, Bundle, open_bundle
from edgewright.bundle.raw import read_raw
from edgewright.core.codec import encode, encode_json
from edgewright.core.decision import decision_from_json
from edgewright.core.measured import GoldenCheck, Measured, Unmeasured
from edgewright.core.measurement import Device, Quality, Timing
from edgewright.core.recipe import StepSpec
from edgewright.core.target import Artifact, OperatorTime, Runner, RunOptions
from edgewright.data import data_digest, data_spec
from edgewright.device.power import Known, chosen, sweep
from edgewright.device.timing.timed import Question
from edgewright.engine.execute import Executor, Input
from edgewright.errors import EdgewrightError, ToolchainMissing, UsageError
from edgewright.measure._samples import MOST_BATCHES, run_inputs, save_inputs
from edgewright.measure.devices import Connection
from edgewright.measure.devices.bringing import bring_environment, sent_python
from edgewright.measure.devices.lab import LabDevice, address_of
from edgewright.pipeline import Preprocess
from edgewright.project.config import Project
from edgewright.runtimes import find_runtime, load_artifact
from edgewright.runtimes._machine import local_device
from edgewright.search.trial import read
from edgewright.store.cache import Cache
from edgewright.store.files import digest_path, write_atomic

T = TypeVar("T")
PROFILED_RUNS = 20
Arrays = dict[str, NDArray[Any]]
Progress = Callable[[str, float, str], None]


@dataclass(frozen=True, slots=True)
class Job:
    """What to measure, and how.

    Attributes:
        subject: A bundle, an artifact folder, or what `edgewright apply --compile` wrote.
        question: Threads, batch and limits.
        reference: An artifact that every ratio compares with: a folder or a bundle; None to time alone.
        project: Gives samples and, for `split`, quality.
        split: Split of the project.
        profile: Time per operator, too.
        power_modes: Power modes or governors to measure in, too: names with commas between, or `all`.
    """

    subject: Path
    question: Question = field(default_factory=Question)
    reference: Path | None = None
    project: Project | None = None
    split: str = "test"
    profile: bool = False
    power_modes: str = ""


@dataclass(frozen=True, slots=True)
class _Subject:
    """An artifact that was chosen for a device, and the bundle it is from."""

    folder: Path
    artifact: Artifact
    bundle: Bundle | None = None

    @property
    def session(self) -> Mapping[str, str]:
        return (self.bundle.variant or self.bundle.manifest).session if self.bundle else {}


def measure(
    job: Job, devices: Sequence[Connection], *, progress: Progress = lambda device, share, note: None
) -> tuple[tuple[Measured, ...], tuple[Unmeasured, ...]]:
    """Measures on every device at once; on one device one thing after the other.

    Args:
        job: See `Job`.
        devices: Where.
        progress: Told device, share and note.

    Returns:
        What was measured, in the order of the devices; and the devices that could not be reached or cannot run it.

    Raises:
        KeyboardInterrupt: At once; what was begun on the devices goes on there.
    """

    def one(device: Connection) -> Measured | Unmeasured:
        device.progress = lambda share, note: progress(device.address.title, share, note)
        try:
            with device:
                return measure_on(device, job)
        except EdgewrightError as error:
            return Unmeasured(device.address.title, type(error).__name__, error.message, error.hint, error.exit_code)

    found = _side_by_side([partial(one, device) for device in devices])
    measured = tuple(each for each in found if isinstance(each, Measured))
    return measured, tuple(each for each in found if isinstance(each, Unmeasured))


def _side_by_side(calls: Sequence[Callable[[], T]]) -> list[T]:
    """Runs calls in threads that an interrupted process does not wait for; `ThreadPoolExecutor` would."""
    answers: queue.Queue[tuple[int, T | BaseException]] = queue.Queue()

    def run(index: int, call: Callable[[], T]) -> None:
        try:
            answers.put((index, call()))
        except BaseException as error:  # raised again where it is waited for
            answers.put((index, error))

    for index, call in enumerate(calls):
        threading.Thread(target=run, args=(index, call), daemon=True).start()
    found: dict[int, T] = {}
    while len(found) < len(calls):
        index, answer = answers.get()
        if isinstance(answer, BaseException):
            raise answer
        found[index] = answer
    return [found[index] for index in range(len(calls))]


def measure_on(device: Connection, job: Job) -> Measured:
    """Measures on one device; see `measure`."""
    machine, modes = device.describe(), _modes(device, job.power_modes)
    subject = _subject(job.subject, machine)
    reference = _subject(job.reference, machine) if job.reference else None
    runtime = _runtime(device, subject.artifact)
    with tempfile.TemporaryDirectory(prefix="edgewright-measure-") as work:
        batches, told = _batches(job, subject, Path(work))
        samples = save_inputs(batches, Path(work))
        question = _with_session(job.question, subject.session)
        sides = (subject.folder, reference.folder if reference else None)

        def in_mode(mode: str) -> Timing:
            return device.time(*sides, samples, replace(question, power_mode=mode))

        timing = device.time(*sides, samples, question)
        timing = timing if reference else _alone(timing)
        return Measured(
            subject=str(job.subject),
            artifact=digest_path(subject.folder),
            variant=subject.bundle.runs if subject.bundle and subject.bundle.manifest.variants else "",
            target=subject.artifact.target,
            precision=subject.artifact.precision,
            runtime=runtime,
            device=machine,
            timing=timing,
            samples=told,
            reference=str(job.reference or ""),
            golden=_golden(device, subject, job.question.threads),
            quality=_quality(device, job, subject, machine, Path(work)),
            operators=_operators(device, subject, job.question.threads, batches) if job.profile else (),
            power=sweep(*modes, in_mode, device.progress) if modes else None,
        )


def _modes(device: Connection, wanted: str) -> tuple[Known, tuple[str, ...]] | None:
    """Returns the power modes of a device and those to measure in, before anything is measured.

    Raises:
        UsageError: It has none, or none of that name.
    """
    if not wanted:
        return None
    found = device.power_modes()
    return found, chosen(wanted, found.names, found.kind)


def _alone(timing: Timing) -> Timing:
    """In a search, what is timed alone is the reference; here there is none."""
    note = timing.conditions.note.replace("the reference itself", "timed alone")
    return replace(timing, conditions=replace(timing.conditions, note=note))


def _with_session(question: Question, session: Mapping[str, str]) -> Question:
    return replace(question, session=dict(session))


def _subject(path: Path, machine: Device) -> _Subject:
    if path.is_file() and path.suffix == ".ewb":
        bundle = open_bundle(path, variant=DEFAULT)
        variant = bundle.manifest.variant_for(machine)
        if variant is not None:
            bundle = open_bundle(path, variant=variant.name)
        return _Subject(bundle.artifact, load_artifact(bundle.artifact), bundle)
    for folder in (path, path / "artifact"):
        if (folder / "artifact.json").is_file():
            return _Subject(folder, load_artifact(folder))
    hint = "give a bundle (.ewb), an artifact folder, or the folder of `edgewright apply --compile TARGET`"
    raise UsageError(f"{path}: there is no artifact to measure", hint=hint)


def _runtime(device: Connection, artifact: Artifact) -> str:
    """Returns what runs it there.

    Raises:
        ToolchainMissing: It is not installed there, or in a version the artifact does not take.
    """
    distribution, place = find_runtime(artifact.runtime).distribution, device.address.title
    found = device.versions([distribution])[distribution]
    if found is None or not SpecifierSet(artifact.runtime_range).contains(found, prereleases=True):
        what = f"{distribution} {found} is installed" if found else f"{distribution} is not installed"
        fix = f'there: pip install "{distribution}{artifact.runtime_range}"; or --send, which brings it along'
        raise ToolchainMissing(f"{what} on {place}, the artifact needs {artifact.runtime_range}", hint=fix)
    return f"{artifact.runtime} {found}"


def _batches(job: Job, subject: _Subject, work: Path) -> tuple[list[Arrays], str]:
    """Returns what to time with, and what that is."""
    batch = job.question.batch
    if job.project is not None:
        data = _data(job.project, subject.artifact, work)
        told = f"split {job.split} of {job.project.file.name}"
        return run_inputs(subject.artifact, data.path, job.split, batch), told
    if subject.bundle is not None and subject.bundle.golden.count:
        return _golden_batches(subject.bundle, batch), "golden inputs of the bundle"
    return _random_batches(subject.artifact, batch), "random numbers: give --project for real samples"


def _data(project: Project, artifact: Artifact, work: Path) -> Input:
    file = project.file
    spec = data_spec(project.root, file.data, file.preprocess, file.postprocess, project.labels, artifact.inputs)
    path = work / "data.json"
    write_atomic(path, encode_json(spec))
    return Input(path, data_digest(spec))


def _golden_batches(bundle: Bundle, batch: int) -> list[Arrays]:
    prepare = Preprocess.from_spec(bundle.manifest.pipeline.preprocess, bundle.folder, bundle.manifest.inputs)
    folder = (bundle.folder / bundle.golden.file).parent
    rows = [prepare(read_raw(folder / pair.input)).tensors for pair in bundle.golden_pairs()[: batch * MOST_BATCHES]]
    rows = [rows[index % len(rows)] for index in range(-(-len(rows) // batch) * batch)]
    groups = [rows[start : start + batch] for start in range(0, len(rows), batch)]
    return [{name: np.stack([row[name] for row in group]) for name in group[0]} for group in groups]


def _random_batches(artifact: Artifact, batch: int) -> list[Arrays]:
    rng = np.random.default_rng(0)
    found: list[Arrays] = []
    for _ in range(2):
        arrays = {}
        for spec in artifact.inputs:
            sizes = [batch if index == 0 and isinstance(n, str) else n for index, n in enumerate(spec.shape)]
            fixed = [size for size in sizes if not isinstance(size, str)]
            if len(fixed) < len(sizes):
                hint = "give --project, whose samples have a size"
                raise UsageError(f"input {spec} has no fixed size to draw random numbers for", hint=hint)
            kind = np.dtype(spec.dtype).kind
            drawn = rng.normal(size=fixed) if kind == "f" else rng.integers(0, 2, size=fixed)
            arrays[spec.name] = drawn.astype(spec.dtype)
        found.append(arrays)
    return found


def _golden(device: Connection, subject: _Subject, threads: int) -> tuple[GoldenCheck, ...]:
    bundle = subject.bundle
    if bundle is None or not bundle.golden.count:
        return ()
    folder = (bundle.folder / bundle.golden.file).parent
    with device.open_runner(subject.folder, RunOptions(threads, session=subject.session)) as runner:
        return tuple(_golden_check(bundle, folder, runner, pair) for pair in bundle.golden_pairs())


def _golden_check(bundle: Bundle, folder: Path, runner: Runner, pair: Any) -> GoldenCheck:
    decide = decider(bundle.manifest.pipeline, bundle.folder, runner)
    found = decide(read_raw(folder / pair.input))
    return GoldenCheck(pair.input, difference(decision_from_json(pair.decision), found), pair.tolerance)


def _quality(device: Connection, job: Job, subject: _Subject, machine: Device, work: Path) -> Quality | None:
    """Scores there what the project's metrics judge here; what was scored before is not scored again."""
    if job.project is None:
        return None
    file = job.project.file
    inputs = {
        "artifact": Input(subject.folder, digest_path(subject.folder)),
        "data": _data(job.project, subject.artifact, work),
    }
    config = {
        "split": job.split,
        "metrics": list(file.quality.metrics),
        "limit": file.quality.limit,
        "threads": job.question.threads,
        "batch": job.question.batch,
        "device": str(device.address),
    }
    cache = Cache.default()
    with cache.shared():
        executor = Executor(cache, job.project.root, machine, seed=file.seed, progress=device.progress)
        return read(executor.run("measure", StepSpec("evaluate", config), inputs), "quality.json", Quality)


def _operators(
    device: Connection, subject: _Subject, threads: int, batches: Sequence[Arrays]
) -> tuple[OperatorTime, ...]:
    options = RunOptions(threads, profile=True, session=subject.session)
    with device.open_runner(subject.folder, options, exclusive=True) as runner:
        for index in range(PROFILED_RUNS):
            runner.run(batches[index % len(batches)])
        return runner.operator_times()


def bring(device: Connection, job: Job, wheels: Path | None = None) -> str:
    """Sends Edgewright and the runtime of the subject to a device; returns what was sent.

    Args:
        device: Linux with Python 3.10 or later.
        job: What is to be measured there.
        wheels: Folder of wheels, where the package index cannot be reached.

    Raises:
        ToolchainMissing: It has no usable Python.
        StepFailed: A wheel cannot be had, or does not install.
    """
    artifact = _subject(job.subject, local_device()).artifact
    needed = f"{find_runtime(artifact.runtime).distribution}=={artifact.runtime_version}"
    told = bring_environment(device.address, (needed,), wheels, device.progress)
    device.address = replace(device.address, python=sent_python(device.address))
    return told


def answers_of(device: LabDevice) -> dict[str, Any]:
    """Asks a device of a lab what it is; one that does not answer is told so, and is no error."""
    known = {"name": device.name, "address": device.address, "labels": list(device.labels)}
    try:
        with Connection(address_of(device)) as connection:
            found, state = connection.describe(), connection.conditions()
    except EdgewrightError as error:
        return {**known, "answers": False, "told": f"no answer: {' '.join(error.message.split())}", "hint": error.hint}
    memory = f"{found.memory_bytes / 2**30:.1f} GiB"
    told = f"{found.processor}, {found.cores} cores, {memory}, {found.machine} {found.system}, load {state['load']}"
    return {**known, "answers": True, "told": told, "device": encode(found), "conditions": state}
