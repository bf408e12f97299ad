"""A student learns from a teacher, outside of a search: built, trained, scored and timed beside it."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from edgewright.core.codec import encode, encode_json
from edgewright.core.data import PairedDifference, QualityFigure
from edgewright.core.measurement import Quality, Ratio, Timing
from edgewright.core.recipe import StepSpec
from edgewright.core.tensors import TensorSpec
from edgewright.data import data_digest
from edgewright.engine import registry
from edgewright.engine.execute import Executor, Input, Progress, Result
from edgewright.errors import ConfigError, UsageError
from edgewright.project.config import ModelConfig, Project
from edgewright.project.question import ask, kind_of
from edgewright.project.unlabelled import unlabelled_data
from edgewright.runtimes._machine import local_device
from edgewright.search.imported import Imported
from edgewright.search.passes import PassRunner
from edgewright.search.trial import read
from edgewright.store.cache import Cache
from edgewright.store.files import digest_path, write_atomic
from edgewright.training.students.catalogue import find, listed

RESULT_FILE = "distilled.json"
CLEAN_UP = StepSpec("clean-up")
_TARGET = StepSpec("onnxruntime")
TEACHER = "teacher"
_TOKENS = "int"


@dataclass(frozen=True, slots=True)
class Job:
    """What to do.

    Attributes:
        student: Fields of the pass `student`.
        training: Fields of the pass `distill`.
        out: Folder for the student.
        teacher: A model file or folder; the project's model when None.
        project: Data, pre-processing and metrics; None where `data` is given.
        data: A folder of images or an `.npz` of arrays, without labels.
        pixels: Fields of `normalise` for images of `data`.
        int8: Quantise the student for the target, too.
        target: Runs teacher and student for the comparison.
        threads: Of the runtime.
        seconds: Longest time for timing one student in turn with the teacher.
    """

    student: Mapping[str, Any]
    out: Path
    training: Mapping[str, Any] = field(default_factory=dict)
    teacher: Path | None = None
    project: Project | None = None
    data: Path | None = None
    pixels: Mapping[str, Any] | None = None
    int8: bool = False
    target: StepSpec = _TARGET
    threads: int = 1
    seconds: float = 20.0


@dataclass(frozen=True, slots=True)
class Side:
    """One row of the comparison.

    Attributes:
        title: Who it is.
        recipe: The passes that made it.
        parameters: Elements of its weights.
        macs: Multiply-accumulates for one sample.
        size_bytes: Files of the artifact.
        quality: On samples that training never saw.
        difference: To the teacher on the same samples, with its paired 95% interval; None for the teacher.
        speedup: Over the teacher, timed in turn; None for the teacher.
    """

    title: str
    recipe: tuple[str, ...]
    parameters: int
    macs: int
    size_bytes: int
    quality: QualityFigure
    difference: PairedDifference | None = None
    speedup: Ratio | None = None


@dataclass(frozen=True, slots=True)
class Distilled:
    """What was made.

    Attributes:
        model: The student's ONNX file.
        sides: Teacher, student and, where asked for, the student in INT8.
        workers: How many worker processes were started; 0 when nothing had changed.
        quantised: The ONNX file in INT8.
    """

    model: Path
    sides: tuple[Side, ...]
    workers: int
    quantised: Path | None = None


def distill(job: Job, *, cache: Cache | None = None, progress: Progress | None = None) -> Distilled:
    """Builds a student, trains it on what its teacher gives, and compares the two; finished steps are kept.

    Raises:
        UsageError: There is no teacher or no data, or both a project and data.
        ConfigError: The student is unknown or does not fit; a field is wrong.
        EdgewrightError: A step failed.
    """
    _check(job)
    cache = cache or Cache.default()
    with cache.shared(), tempfile.TemporaryDirectory(prefix="edgewright-") as work:
        return _Distilling(job, cache, Path(work), progress).run()


def _check(job: Job) -> None:
    """What is wrong with the question is said before anything runs."""
    if (job.project is None) == (job.data is None):
        message = "samples come from a project or from --data" + (", not from both" if job.project else "")
        raise UsageError(message, hint="give --project edgewright.toml, or --data with a folder of images or an .npz")
    if job.project is None and job.teacher is None:
        raise UsageError("there is no teacher", hint="give --teacher model.onnx, or a project whose model teaches")
    registry.make("passes", StepSpec("student", job.student))
    registry.make("passes", StepSpec("distill", job.training))
    registry.make("targets", job.target)
    network = str(job.student.get("network", ""))
    if network and listed(network):
        find(network)


class _Distilling:
    def __init__(self, job: Job, cache: Cache, work: Path, progress: Progress | None) -> None:
        self.job, self.work = job, work
        root = job.project.root if job.project else Path.cwd()
        seed = job.project.file.seed if job.project else 0
        self.executor = Executor(cache, root, local_device(), seed=seed, progress=progress)
        self.request = ask(job.project, work) if job.project else None

    def run(self) -> Distilled:
        teacher = self._teacher()
        specs = read(teacher, "import.json", Imported)
        self.data, self.split, self.metrics = self._data(specs.inputs, specs.outputs)
        limit = self.request.search.calibration_limit if self.request else None
        self.runner = PassRunner(self.executor, self.data, limit)
        passes = (StepSpec("student", self.job.student), StepSpec("distill", self.job.training), CLEAN_UP)
        trained = self.runner.run(teacher, passes)
        self.reference = self._compiled(self.runner.run(teacher, (CLEAN_UP,)))
        self.judged = self._judged(self.reference)
        student = Path(str(self.job.student.get("network", "student"))).name
        sides = [self._side(TEACHER, teacher, (CLEAN_UP,)), self._side(student, trained, passes)]
        int8 = self._int8(specs.inputs) if self.job.int8 else None
        quantised = self.runner.run(trained, (int8,)) if int8 is not None else None
        if int8 is not None and quantised is not None:
            sides.append(self._side(f"{student}, INT8", quantised, (*passes, int8)))
        return self._written(trained, quantised, tuple(sides))

    def _teacher(self) -> Result:
        job = self.job
        if job.teacher is None:
            request = self.request
            assert request is not None
            return self.executor.run("sources", request.source, {**request.model, "data": request.data(())})
        if not job.teacher.exists():
            hint = "give an .onnx, .tflite, .keras or .h5 file, a SavedModel or a model folder"
            raise UsageError(f"no teacher {job.teacher}", hint=hint)
        hub = job.teacher.is_dir() and not (job.teacher / "saved_model.pb").is_file()
        kind = "onnx" if hub else kind_of(ModelConfig(str(job.teacher)))
        given = {"model": Input(job.teacher.resolve(), digest_path(job.teacher))}
        return self.executor.run("sources", StepSpec(kind), given)

    def _data(
        self, inputs: tuple[TensorSpec, ...], outputs: tuple[TensorSpec, ...]
    ) -> tuple[Input, str, tuple[str, ...]]:
        """Returns the data, the split that judges and the metrics."""
        if self.request is not None:
            return self.request.data(inputs), "test", self.request.quality.metrics
        assert self.job.data is not None
        spec = unlabelled_data(self.job.data, inputs, outputs, self.job.pixels)
        path = self.work / "data.json"
        write_atomic(path, encode_json(spec))
        return Input(path, data_digest(spec)), "test", ("agreement",)

    def _int8(self, inputs: tuple[TensorSpec, ...]) -> StepSpec:
        """Dynamic INT8 for models of tokens, whose time goes into products; static INT8 for others."""
        if any(spec.dtype.startswith(_TOKENS) for spec in inputs):
            return StepSpec("dynamic-int8")
        schemes = registry.make("targets", self.job.target).schemes(local_device())  # type: ignore[attr-defined]
        if not schemes:
            hint = "leave --int8 out, or name another --target"
            raise ConfigError(f"{self.job.target.name} runs no integer kernels on this machine", hint=hint)
        return StepSpec("static-int8", {"scheme": encode(schemes[0])})

    def _compiled(self, model: Result) -> Result:
        inputs = {"model": model.as_input(), "data": self.data}
        return self.executor.run("targets", self.job.target, inputs, lineage=model.lineage)

    def _judged(self, artifact: Result, reference: Result | None = None) -> Result:
        limit = self.request.quality.limit if self.request else None
        config = {"split": self.split, "metrics": list(self.metrics), "limit": limit, "threads": self.job.threads}
        inputs = {"artifact": artifact.as_input(), "data": self.data}
        if reference is not None:
            inputs["reference"] = reference.as_input()
        if self.request is not None and self.request.code is not None:
            inputs["code"] = self.request.code
        return self.executor.run("measure", StepSpec("evaluate", config), inputs)

    def _timed(self, artifact: Result) -> Timing:
        config = {"threads": self.job.threads, "max_seconds": self.job.seconds, "split": self.split}
        inputs = {"artifact": artifact.as_input(), "reference": self.reference.as_input(), "data": self.data}
        return read(self.executor.run("measure", StepSpec("time", config), inputs), "timing.json", Timing)

    def _side(self, title: str, model: Result, passes: Sequence[StepSpec]) -> Side:
        """Scores and times one model beside the teacher."""
        from edgewright.graph.cost import model_cost
        from edgewright.graph.load import load
        from edgewright.graph.shapes import bind_axes
        from edgewright.measure.time import size_bytes

        cost = model_cost(bind_axes(load(model.path), {}))
        teaches = title == TEACHER
        artifact = self.reference if teaches else self._compiled(model)
        quality = read(self.judged if teaches else self._judged(artifact, self.judged), "quality.json", Quality)
        return Side(
            title,
            tuple(map(str, passes)),
            cost.parameters,
            cost.macs,
            size_bytes(artifact.path),
            quality.figures[0],
            quality.difference[0] if quality.difference else None,
            None if teaches else self._timed(artifact).speedup,
        )

    def _written(self, trained: Result, quantised: Result | None, sides: tuple[Side, ...]) -> Distilled:
        out = self.job.out
        if out.exists() and (not out.is_dir() or (any(out.iterdir()) and not (out / RESULT_FILE).is_file())):
            raise UsageError(f"{out} holds something else than a student", hint="name another folder with -o")
        partial = out.with_name(f".{out.name}.partial")
        shutil.rmtree(partial, ignore_errors=True)
        shutil.copytree(trained.path, partial)
        if quantised is not None:
            shutil.copytree(quantised.path, partial / "int8")
        made = Distilled(
            out / "model.onnx", sides, self.executor.started, out / "int8" / "model.onnx" if quantised else None
        )
        write_atomic(partial / RESULT_FILE, encode_json(sides))
        shutil.rmtree(out, ignore_errors=True)
        partial.replace(out)
        return made
