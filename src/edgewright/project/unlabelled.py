"""Data for distillation without a project: a folder of images, or arrays that are ready for the model."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from edgewright.core.tensors import TensorSpec
from edgewright.data import DataSpec, data_spec, open_spec
from edgewright.errors import DataError, UsageError

_CALIBRATION = 200
_MOST_TESTED = 1000
_TESTED_SHARE = 5
"""One of so many samples is kept from training and judges the student."""
_LEAST = 10


def unlabelled_data(
    path: Path,
    inputs: Sequence[TensorSpec],
    outputs: Sequence[TensorSpec],
    pixels: Mapping[str, Any] | None = None,
) -> DataSpec:
    """Describes samples without labels, shuffled: some judge, the others train, some of those calibrate.

    Args:
        path: A folder of images, or an `.npz` whose arrays have the names of the inputs (one array may have any).
        inputs: Of the teacher.
        outputs: Of the teacher: they say what a decision is.
        pixels: Fields of the operation `normalise` for images.

    Raises:
        UsageError: It is neither, or images are given and nobody says how they are normalised.
        DataError: There are too few samples.
    """
    if path.is_dir():
        reader, before = _images(path, inputs, pixels)
    elif path.suffix == ".npz" and path.is_file():
        reader, before = _arrays(path, inputs), []
    else:
        raise UsageError(f"--data {path}: expected a folder of images or an .npz", hint="or describe a project")
    everything = data_spec(path.parent, {"unlabelled": reader}, before, _decision(outputs), inputs=inputs)
    count = len(open_spec(everything).dataset("unlabelled"))
    if count < _LEAST:
        raise DataError(f"{path}: {count} samples", hint=f"give {_LEAST} or more, better thousands")
    return _split(everything, reader, count)


def _split(everything: DataSpec, reader: Mapping[str, Any], count: int) -> DataSpec:
    tested = min(max(count // _TESTED_SHARE, 1), _MOST_TESTED)
    calibrated = min(tested + _CALIBRATION, count)
    rows = {"test": f"0:{tested}", "calibration": f"{tested}:{calibrated}", "unlabelled": f"{tested}:{count}"}
    splits = {name: {**reader, "shuffle": 0, "rows": chosen} for name, chosen in rows.items()}
    return replace(everything, splits=splits)


def _images(
    path: Path, inputs: Sequence[TensorSpec], pixels: Mapping[str, Any] | None
) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    from edgewright.training.students.interface import Interface, picture

    image = picture(Interface(tuple(inputs), ()))
    if image is None:
        shown = ", ".join(map(str, inputs))
        raise UsageError(f"--data {path}: a folder of images, the teacher takes {shown}", hint="give an .npz instead")
    if pixels is None:
        hint = "say it: --scale 0.00392157 --mean 0.485,0.456,0.406 --std 0.229,0.224,0.225, or --scale 1 for 0..255"
        raise UsageError(f"--data {path}: nobody says how the teacher's images are normalised", hint=hint)
    order = "hwc" if image.last else "chw"
    before: list[dict[str, Any]] = [
        {"op": "decode", "color": "gray" if image.channels == 1 else "rgb"},
        {"op": "resize", "size": [image.height, image.width]},
        {"op": "normalise", **pixels},
        {"op": "layout", "order": order},
    ]
    return {"reader": "images", "path": path.name, "label": "none"}, before


def _arrays(path: Path, inputs: Sequence[TensorSpec]) -> dict[str, Any]:
    import numpy as np

    with np.load(path, allow_pickle=False) as archive:
        found = archive.files
    wanted = [spec.name for spec in inputs]
    if len(wanted) == 1 and wanted[0] not in found:
        candidates = ["x"] if "x" in found else found
        if len(candidates) != 1:
            raise UsageError(f"{path} holds {', '.join(found)}", hint=f'call the array of samples "{wanted[0]}"')
        wanted = candidates
    missing = [name for name in wanted if name not in found]
    if missing:
        raise UsageError(f"{path} holds no {', '.join(missing)}", hint="name the arrays as the teacher's inputs")
    return {"reader": "npz", "path": path.name, "value": wanted[0] if len(wanted) == 1 else wanted, "label": ""}


def _decision(outputs: Sequence[TensorSpec]) -> list[dict[str, Any]]:
    """The best class where the one output is [batch, classes]; the outputs themselves otherwise."""
    one = len(outputs) == 1 and len(outputs[0].shape) == 2 and outputs[0].shape[-1] != 1
    return [{"op": "top-k"}] if one else []
