"""Runs a list of passes on a model without a search: what every suggested fix is written as."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from edgewright.core.codec import encode_json
from edgewright.core.recipe import StepSpec
from edgewright.core.tensors import TensorSpec
from edgewright.data import data_digest, data_spec
from edgewright.engine import registry
from edgewright.engine.execute import Executor, Input, Progress, Result
from edgewright.errors import ConfigError, UsageError
from edgewright.project.config import ModelConfig, Project
from edgewright.project.question import kind_of
from edgewright.runtimes._machine import local_device
from edgewright.search.imported import Imported
from edgewright.search.passes import PassRunner, Pricing
from edgewright.search.places import Place
from edgewright.search.trial import read
from edgewright.store.cache import Cache
from edgewright.store.files import digest_path, write_atomic

STEPS_FOLDER = "steps"
ARTIFACT_FOLDER = "artifact"


@dataclass(frozen=True, slots=True)
class Applied:
    """What was written.

    Attributes:
        model: The ONNX file.
        steps: Name of every step that ran, the import first.
        artifact: Folder of the compiled artifact; None where none was asked for.
    """

    model: Path
    steps: tuple[str, ...]
    artifact: Path | None


@dataclass(frozen=True, slots=True)
class Job:
    """What to do.

    Attributes:
        model: An `.onnx`, `.tflite`, `.keras` or `.h5` file, a SavedModel, or a hub model folder.
        passes: In order.
        out: A folder, or a path that ends in `.onnx`.
        project: For calibration data; None where no pass needs any.
        target: Compile for this target too.
        keep_steps: Keep the model after every step, for `edgewright why`.
    """

    model: Path
    passes: tuple[StepSpec, ...]
    out: Path
    project: Project | None = None
    target: StepSpec | None = None
    keep_steps: bool = False


def apply_passes(job: Job, *, cache: Cache | None = None, progress: Progress | None = None) -> Applied:
    """Runs the passes and writes what they made; nothing half-written stays.

    Args:
        job: What to do.
        cache: Where results are kept; the user's own by default.
        progress: Told how far the pass at work is, 0 to 1, and what it does.

    Raises:
        UsageError: `job.out` is an ONNX file and more than that was asked for.
        ConfigError: A pass, a field or the target is unknown, or a pass needs a project.
        EdgewrightError: A pass or the target failed.
    """
    _check(job)
    cache = cache or Cache.default()
    seed = job.project.file.seed if job.project else 0
    with cache.shared(), tempfile.TemporaryDirectory(prefix="edgewright-") as work:
        root = job.project.root if job.project else Path.cwd()
        executor = Executor(cache, root, local_device(), seed=seed, progress=progress)
        imported = _imported(job, executor, Path(work))
        data = _data(job.project, read(imported, "import.json", Imported).inputs, Path(work))
        made: list[tuple[str, Result]] = [("import", imported)]
        limit = job.project.file.search.calibration_limit if job.project else None
        pricing = Pricing(job.target or StepSpec("onnxruntime"), 1, Place(executor.device))
        chain = PassRunner(executor, data, limit, pricing)
        chain.run(imported, job.passes, lambda spec, result: made.append((spec.name, result)))
        artifact = _compiled(job, executor, made[-1][1], data)
        return _written(job, made, artifact)


def _check(job: Job) -> None:
    """What is wrong with the question is said before anything runs."""
    for spec in job.passes:
        step = registry.make("passes", spec)
        if not getattr(step, "gives_model", True):
            hint = "name passes that change a model; what it measures is made where a pass needs it"
            raise ConfigError(f"pass {spec.name} measures and gives no model", hint=hint)
    if job.target is not None:
        registry.make("targets", job.target)
    if job.out.suffix == ".onnx" and (job.target is not None or job.keep_steps):
        what = "an artifact" if job.target is not None else "every step"
        raise UsageError(f"{job.out} is a file, and {what} needs a folder", hint=f"write -o {job.out.with_suffix('')}")


def _imported(job: Job, executor: Executor, work: Path) -> Result:
    path = job.model
    if not path.exists():
        hint = "give an .onnx, .tflite, .keras or .h5 file, a SavedModel or a model folder"
        raise UsageError(f"no model {path}", hint=hint)
    kind = "onnx" if path.is_dir() and not (path / "saved_model.pb").is_file() else kind_of(ModelConfig(str(path)))
    inputs = {"model": Input(path.resolve(), digest_path(path))}
    before = _data(job.project, (), work)
    return executor.run("sources", StepSpec(kind), {**inputs, "data": before} if before else inputs)


def _data(project: Project | None, inputs: tuple[TensorSpec, ...], work: Path) -> Input | None:
    if project is None:
        return None
    file = project.file
    spec = data_spec(project.root, file.data, file.preprocess, file.postprocess, project.labels, inputs)
    path = work / ("data.json" if inputs else "data-before-import.json")
    write_atomic(path, encode_json(spec))
    return Input(path, data_digest(spec))


def _compiled(job: Job, executor: Executor, model: Result, data: Input | None) -> Result | None:
    if job.target is None:
        return None
    inputs = {"model": model.as_input()}
    return executor.run("targets", job.target, {**inputs, "data": data} if data else inputs, lineage=model.lineage)


def _written(job: Job, made: Sequence[tuple[str, Result]], artifact: Result | None) -> Applied:
    names = tuple(name for name, _ in made)
    out, model = job.out, made[-1][1].path
    if out.suffix == ".onnx":
        out.parent.mkdir(parents=True, exist_ok=True)
        for file in model.glob("model.onnx*"):
            shutil.copyfile(file, out if file.name == "model.onnx" else out.with_name(file.name))
        return Applied(out, names, None)
    partial = out.with_name(f".{out.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    shutil.copytree(model, partial)
    for index, (name, result) in enumerate(made if job.keep_steps else ()):
        shutil.copytree(result.path, partial / STEPS_FOLDER / f"{index}-{name}")
    if artifact is not None:
        shutil.copytree(artifact.path, partial / ARTIFACT_FOLDER)
    if out.exists():
        _refuse_other(out)
        shutil.rmtree(out)
    partial.replace(out)
    return Applied(out / "model.onnx", names, out / ARTIFACT_FOLDER if artifact is not None else None)


def _refuse_other(out: Path) -> None:
    """Only what an earlier run wrote is replaced."""
    if not out.is_dir() or (any(out.iterdir()) and not (out / "model.onnx").is_file()):
        raise UsageError(f"{out} holds something else than a model", hint="name another folder with -o")
