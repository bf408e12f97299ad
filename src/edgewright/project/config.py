"""`edgewright.toml` -> Project, strictly: an unknown key is an error that suggests the near one."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from edgewright.core.budget import Budget
from edgewright.core.codec import decode, encode
from edgewright.core.recipe import Recipe, StepSpec, TargetSpec
from edgewright.core.tensors import TensorSpec
from edgewright.errors import ConfigError
from edgewright.project.checks import check_file, check_training
from edgewright.search.request import QualityConfig, SearchConfig, TrainingConfig
from edgewright.search.tuning.ranges import filled, parameters

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

FILE_NAME = "edgewright.toml"
_LABEL = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
_VARIABLE = re.compile(r"\$\{([A-Za-z_][A-Za-z0-9_]*)\}")


@dataclass(frozen=True, slots=True)
class ModelConfig:
    """`[model]`: the trained model.

    Attributes:
        source: Path of an `.onnx`, `.tflite`, `.keras` or `.h5` file or of a SavedModel folder, or `module:factory` for
            PyTorch.
        kind: `onnx`, `tflite`, `keras`, `saved-model` or `torch`; found from the source when absent.
        checkpoint: PyTorch weights: safetensors or a state dict.
        inputs: PyTorch only: name, dtype and shape of every input; a string names a dynamic axis.
        signature: SavedModel only: which one; `serving_default`, or the only one, when absent.
        outputs: TFLite only: tensors to end at instead of the file's outputs, to leave a decoder behind them out.
        integer_io: TFLite only: inputs and outputs that the file holds as scaled integers stay integers; otherwise
            they are floats, rounded inside the model.
        custom_operators: ONNX only: native libraries of the model's own operators for ONNX Runtime, one per kind of
            machine that runs it. They are code: they run here, and travel in the bundle.
    """

    source: str
    kind: str = ""
    checkpoint: str | None = None
    inputs: tuple[TensorSpec, ...] = ()
    signature: str = ""
    outputs: tuple[str, ...] = ()
    integer_io: bool = False
    custom_operators: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class RecipeConfig:
    """`[[recipes]]`: a sequence of passes to try beside the built-in ladder."""

    title: str
    passes: tuple[Mapping[str, Any], ...]


@dataclass(frozen=True, slots=True)
class OutputConfig:
    """`[output]`: where the report, the study and the bundles go, relative to the project."""

    folder: str = "edgewright-out"
    golden: int = 8


@dataclass(frozen=True, slots=True)
class ProjectFile:
    """The file as written.

    Attributes:
        schema: Version of this layout: 1.
        name: Of the project; bundles are called after it.
        model: The trained model.
        targets: `[[targets]]`: what to optimise for, each with its `name` and its own keys; `device` names the device
            that measures it, and `label` tells two entries of one target apart.
        data: `[data]`: where samples come from.
        labels: Class names in index order, or the path of a file with one per line (or a JSON list).
        seed: Given to every step.
        preprocess: `[[preprocess]]`: from a raw sample to the model's inputs.
        postprocess: `[[postprocess]]`: from the model's outputs to a decision.
        quality: How good is measured.
        budget: The limits.
        search: What is tried and for how long.
        recipes: `[[recipes]]`: sequences of passes of one's own.
        output: Where results go.
        lab: File that names devices, for the `device` of targets.
        training: `[training]`: passes that train may be tried, and how; see `TrainingConfig`.
    """

    schema: int
    name: str
    model: ModelConfig
    targets: tuple[Mapping[str, Any], ...]
    data: Mapping[str, Any] = field(default_factory=dict)
    labels: tuple[str, ...] | str = ()
    seed: int = 0
    preprocess: tuple[Mapping[str, Any], ...] = ()
    postprocess: tuple[Mapping[str, Any], ...] = ()
    quality: QualityConfig = field(default_factory=QualityConfig)
    budget: Budget = field(default_factory=Budget)
    search: SearchConfig = field(default_factory=SearchConfig)
    recipes: tuple[RecipeConfig, ...] = ()
    output: OutputConfig = OutputConfig()
    lab: str = "lab.toml"
    training: Mapping[str, Any] | None = None


@dataclass(frozen=True, slots=True)
class Project:
    """A project ready to run.

    Attributes:
        root: Folder of the TOML file; relative paths start here.
        file: The file as written, with environment variables filled in.
        labels: Class names, read from the file that `labels` names if it is a path.
    """

    root: Path
    file: ProjectFile
    labels: tuple[str, ...]

    @property
    def output(self) -> Path:
        """The output folder."""
        return self.root / self.file.output.folder

    @property
    def recipes(self) -> tuple[Recipe, ...]:
        """The user's own recipes."""
        return tuple(Recipe(r.title, tuple(_step_spec(p, r.title) for p in r.passes)) for r in self.file.recipes)

    @property
    def training(self) -> TrainingConfig | None:
        """How passes that train may be tried; None where the project does not say."""
        return None if self.file.training is None else training_config(self.file.training)

    @property
    def targets(self) -> tuple[TargetSpec, ...]:
        """The targets to optimise for, in the order of the file."""
        return tuple(_target_spec(table) for table in self.file.targets)


def load_project(path: Path) -> Project:
    """Reads a project.

    Args:
        path: `edgewright.toml`, or the folder that holds it.

    Raises:
        ConfigError: It is missing, not TOML, or has an unknown key or a wrong value.
    """
    path = path / FILE_NAME if path.is_dir() else path
    if not path.is_file():
        raise ConfigError(f"no project file at {path}", hint=f"give the path of an {FILE_NAME}")
    try:
        table = tomllib.loads(path.read_text(encoding="utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: not valid TOML: {error}", hint="correct the line it names") from error
    file = decode(ProjectFile, _filled_in(table, path.name), path.name)
    check_file(file, path.name)
    _check_ranges(file, path.name)
    root = path.parent.resolve()
    return Project(root, file, _labels(root, file.labels))


def _check_ranges(file: ProjectFile, where: str) -> None:
    """Ranges are checked where they are written; without them `[training]` is a table like any other."""
    for recipe in file.recipes:
        parameters(encode(recipe), f"{where} {recipe.title}")
    if file.training is not None:
        found = parameters(file.training, f"{where} [training]")
        example = filled(file.training, {each.path: each.example for each in found})
        training_config(example, f"{where} [training]")


def training_config(table: Mapping[str, Any], where: str = "[training]") -> TrainingConfig:
    """Builds `[training]` from plain values.

    Raises:
        ConfigError: An unknown key, a wrong type, or a value out of range.
    """
    found = decode(TrainingConfig, dict(table), where)
    check_training(found, where)
    return found


def _step_spec(table: Mapping[str, Any], where: str) -> StepSpec:
    if not isinstance(table.get("name"), str):
        raise ConfigError(f"{where}: an entry without a name", hint='add name = "..."')
    return StepSpec(table["name"], {k: v for k, v in table.items() if k != "name"})


def _target_spec(table: Mapping[str, Any]) -> TargetSpec:
    own = {"label", "device"}
    for key in own & set(table):
        if not isinstance(table[key], str) or not table[key]:
            raise ConfigError(f"[[targets]]: {key} = {table[key]!r}", hint=f"give {key} as a string, or leave it out")
    step = _step_spec({key: value for key, value in table.items() if key not in own}, "targets")
    label = str(table.get("label", step.name))
    if not _LABEL.fullmatch(label):
        hint = "use letters, digits, dots, dashes and underscores: bundles are called after it"
        raise ConfigError(f'[[targets]]: label = "{label}"', hint=hint)
    return TargetSpec(label, step, str(table.get("device", "")))


def _labels(root: Path, labels: tuple[str, ...] | str) -> tuple[str, ...]:
    from edgewright.data import read_labels

    if isinstance(labels, str) and not (root / labels).is_file():
        raise ConfigError(f"labels: no file {root / labels}", hint="one label per line, or a JSON list of strings")
    return read_labels(labels, root)


def _filled_in(value: Any, where: str) -> Any:
    """Replaces `${NAME}` in every string by the environment variable.

    Raises:
        ConfigError: The variable is not set.
    """
    if isinstance(value, str):
        return _VARIABLE.sub(lambda match: _variable(match.group(1), where), value)
    if isinstance(value, list):
        return [_filled_in(item, where) for item in value]
    if isinstance(value, dict):
        return {key: _filled_in(item, f"{where} {key}") for key, item in value.items()}
    return value


def _variable(name: str, where: str) -> str:
    if name not in os.environ:
        raise ConfigError(f"{where}: ${{{name}}} is not set", hint=f"set it: export {name}=...")
    return os.environ[name]
