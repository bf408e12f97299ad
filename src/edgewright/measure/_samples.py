"""A few real batches to time with."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgewright.core.target import Artifact
from edgewright.errors import DataError
from edgewright.measure._decisions import filled

MOST_BATCHES = 8


def run_inputs(artifact: Artifact, data: Path, split: str, batch: int) -> list[dict[str, NDArray[Any]]]:
    """Returns up to eight full batches of real samples, for the artifact's inputs alone.

    Raises:
        DataError: The split is empty or lacks an input; or the artifact's fixed batch axis is not `batch`.
    """
    from edgewright.data import open_data

    _refuse_other_batch(artifact, batch)
    names = [spec.name for spec in artifact.inputs]
    found = open_data(data).batches(split, batch, batch * MOST_BATCHES)
    batches = [filled(_chosen(stacked, names), batch) for _, _, stacked in found]
    if not batches:
        raise DataError(f"split {split} holds no sample to time with", hint=f"correct [data.{split}]")
    return batches


def save_inputs(batches: list[dict[str, NDArray[Any]]], folder: Path) -> list[Path]:
    """Writes each batch as an .npz file for a host process."""
    paths = [folder / f"{index}.npz" for index in range(len(batches))]
    for path, batch in zip(paths, batches, strict=True):
        np.savez(path, **batch)  # type: ignore[arg-type]
    return paths


def _chosen(stacked: dict[str, NDArray[Any]], names: list[str]) -> dict[str, NDArray[Any]]:
    missing = [name for name in names if name not in stacked]
    if missing:
        raise DataError(
            f"the model takes {names}, pre-processing gives {sorted(stacked)}",
            hint=f"bind {missing[0]} in [[preprocess]]",
        )
    return {name: stacked[name] for name in names}


def _refuse_other_batch(artifact: Artifact, batch: int) -> None:
    for spec in artifact.inputs:
        fixed = spec.shape[0] if spec.shape else batch
        if isinstance(fixed, int) and fixed != batch:
            raise DataError(
                f"input {spec} has a fixed batch of {fixed}, batch {batch} was asked for",
                hint=f"set [search] batch = [{fixed}], or export the model with a dynamic batch axis",
            )
