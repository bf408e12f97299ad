"""Two models of a project beside each other, on the project's own samples."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from edgewright.core.parity import Parity
from edgewright.errors import DataError

if TYPE_CHECKING:
    from edgewright.measure.parity import Feeds

RANDOM = "random inputs: real activations are distributed otherwise; give --project or --inputs"


@dataclass(frozen=True, slots=True)
class Samples:
    """Which samples to compare on.

    Attributes:
        project: An `edgewright.toml`; its pre-processing is applied.
        split: Of the project.
        inputs: An .npz file of input tensors with a batch axis, instead of a project.
        count: How many.
        seed: Of random inputs, where neither is given.
    """

    project: Path | None = None
    split: str = "tune"
    inputs: Path | None = None
    count: int = 16
    seed: int = 0


def compare(
    reference: Path,
    candidate: Path,
    samples: Samples,
    *,
    local: bool = True,
    progress: Callable[[float, str], None] | None = None,
) -> Parity:
    """Compares two models layer by layer.

    Args:
        reference: What counts as right; see `edgewright.measure.parity.compare`.
        candidate: What is judged.
        samples: What to run them on.
        local: Also run each layer of the candidate on the reference's values.
        progress: Told how far it is.

    Raises:
        UsageError: A model, the project or the samples cannot be used.
        ToolchainMissing: A runtime is not installed.
    """
    from edgewright.measure import parity

    with tempfile.TemporaryDirectory(prefix="edgewright-compare-") as folder:
        feeds, origin = _feeds(samples, Path(folder))
        return parity.compare(
            reference, candidate, feeds, local=local, conditions={"samples": origin}, progress=progress
        )


def _feeds(samples: Samples, folder: Path) -> tuple[Feeds, str]:
    import numpy as np

    from edgewright.measure import parity

    if samples.inputs is not None:
        try:
            with np.load(samples.inputs, allow_pickle=False) as opened:
                arrays = dict(opened)
        except (OSError, ValueError) as error:
            raise DataError(f"{samples.inputs}: {error}", hint="give an .npz file of arrays") from error
        return parity.given_feeds(arrays, samples.count), samples.inputs.name
    if samples.project is not None:
        return parity.split_feeds(_data(samples.project, folder), samples.split, samples.count), (
            f"split {samples.split} of {samples.project.name}"
        )
    return parity.random_feeds(samples.count, samples.seed), f"random inputs, seed {samples.seed}"


def _data(project: Path, folder: Path) -> Path:
    from edgewright.data import data_spec
    from edgewright.data.opened import save_spec
    from edgewright.project.config import load_project

    loaded = load_project(project)
    file = loaded.file
    path = folder / "data.json"
    save_spec(data_spec(loaded.root, file.data, file.preprocess, file.postprocess, loaded.labels), path)
    return path
