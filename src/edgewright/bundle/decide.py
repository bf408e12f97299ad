"""From a raw value to a decision: pre-processing, one run, post-processing, as the manifest says."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from edgewright.bundle.open import Bundle
from edgewright.core.bundle import PipelineSpec
from edgewright.core.decision import Decision
from edgewright.core.target import Runner
from edgewright.core.tensors import TensorSpec
from edgewright.pipeline import Postprocess, Preprocess


class Decider:
    """Makes decisions one raw value at a time."""

    def __init__(self, preprocess: Preprocess, runner: Runner, postprocess: Postprocess) -> None:
        self._preprocess, self._runner, self._postprocess = preprocess, runner, postprocess
        self._batch = fixed_batch(runner.inputs)

    def __call__(self, value: Any) -> Decision:
        """Decides about one raw value.

        An artifact compiled for a fixed batch gets the sample as often as it wants.

        Raises:
            DataError: The value does not fit the pre-processing or the model.
        """
        prepared = self._preprocess(value)
        inputs = {name: np.repeat(array[np.newaxis], self._batch, 0) for name, array in prepared.tensors.items()}
        outputs = self._runner.run(inputs)
        return self._postprocess({name: array[0] for name, array in outputs.items()}, prepared)

    def reset(self) -> None:
        """Forgets earlier inputs, as before the first frame of a stream."""
        self._postprocess.reset()


def fixed_batch(inputs: tuple[TensorSpec, ...]) -> int:
    """Returns the batch size that an artifact insists on, 1 when it takes any."""
    first = inputs[0].shape[0] if inputs and inputs[0].shape else 1
    return first if isinstance(first, int) and first > 0 else 1


@contextmanager
def open_decider(bundle: Bundle, threads: int | None = None) -> Iterator[Decider]:
    """Opens the artifact of a bundle with the manifest's pre- and post-processing around it.

    Raises:
        ToolchainMissing: The runtime, or a library that the pre-processing needs, is not installed.
        ConfigError: The pre- or post-processing is not known to this version.
    """
    with bundle.open_runner(threads) as runner:
        yield decider(bundle.manifest.pipeline, bundle.folder, runner)


def decider(pipeline: PipelineSpec, root: Path, runner: Runner) -> Decider:
    """Puts pre- and post-processing around an open artifact.

    Args:
        pipeline: The operations.
        root: Folder that their files are relative to.
        runner: The open artifact.

    Raises:
        ConfigError: An operation is unknown or does not fit the artifact.
    """
    preprocess = Preprocess.from_spec(pipeline.preprocess, root, runner.inputs)
    return Decider(preprocess, runner, Postprocess.from_spec(pipeline.postprocess, root))
