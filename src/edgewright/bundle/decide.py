"""From a raw value to a decision: pre-processing, one run, post-processing, as the manifest says."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from edgewright.bundle.batches import Joining, require_batch
from edgewright.bundle.open import Bundle
from edgewright.core.bundle import PipelineSpec
from edgewright.core.data import Prepared
from edgewright.core.decision import Decision
from edgewright.core.target import Runner
from edgewright.core.tensors import TensorSpec
from edgewright.errors import DataError, EdgewrightError, ToolchainMissing
from edgewright.pipeline import Postprocess, Preprocess

T = TypeVar("T")
Outputs = Mapping[str, NDArray[Any]]


class Decider:
    """Makes decisions, one raw value at a time or several in one run."""

    def __init__(self, preprocess: Preprocess, runner: Runner, postprocess: Postprocess) -> None:
        self._preprocess, self._runner, self._postprocess = preprocess, runner, postprocess
        self._batch = fixed_batch(runner.inputs)
        self._joining = Joining(runner.inputs, runner.outputs, preprocess.padding)

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

    @property
    def fills(self) -> bool:
        """Whether samples of different lengths can share a run."""
        return self._joining.fills

    def batch(self, values: Sequence[Any]) -> Mapping[str, NDArray[Any]]:
        """Returns the inputs of one run over several raw values.

        Raises:
            DataError: A value does not fit, or their lengths differ and cannot be filled up.
        """
        samples = [self._preprocess(value) for value in values]
        longest = self._joining.groups(samples, len(samples))
        if len(longest) > 1:
            raise DataError("these values cannot share a run: their shapes differ", hint="give values of one shape")
        return self._joining.stack(samples, 0)

    def require_batch(self, size: int) -> None:
        """Checks that the artifact takes batches of `size`.

        Raises:
            UsageError: It was compiled for another one.
        """
        require_batch(self._runner.inputs, size)

    def many(self, values: Sequence[Any], size: int) -> list[Decision | EdgewrightError]:
        """Decides about several raw values, up to `size` in one run, in the order they came.

        What is wrong with one value does not touch the others: its place holds the error.

        Raises:
            UsageError: The artifact was compiled for another batch.
        """
        block = require_batch(self._runner.inputs, size) if size > 1 else self._batch
        prepared = [self._attempt(self._preprocess, value) for value in values]
        good = [i for i, one in enumerate(prepared) if isinstance(one, Prepared)]
        samples = [one for one in prepared if isinstance(one, Prepared)]
        ran: dict[int, Outputs | EdgewrightError] = {}
        for group in self._joining.groups(samples, size):
            for position, outputs in zip(group, self._run([samples[i] for i in group], block), strict=True):
                ran[good[position]] = outputs
        return [self._decided(one, ran.get(i)) for i, one in enumerate(prepared)]

    def _run(self, samples: list[Prepared], block: int) -> list[Outputs | EdgewrightError]:
        try:
            outputs = self._runner.run(self._joining.stack(samples, block))
        except EdgewrightError as error:
            return [error] if len(samples) == 1 else [one for s in samples for one in self._run([s], block)]
        return [self._joining.row(outputs, position, sample) for position, sample in enumerate(samples)]

    def _decided(
        self, prepared: Prepared | EdgewrightError, outputs: Outputs | EdgewrightError | None
    ) -> Decision | EdgewrightError:
        if isinstance(prepared, EdgewrightError):
            return prepared
        if outputs is None or isinstance(outputs, EdgewrightError):
            return outputs or EdgewrightError("the sample was not run", hint="report this bundle")
        return self._attempt(self._postprocess, outputs, prepared)

    @staticmethod
    def _attempt(work: Callable[..., T], *arguments: Any) -> T | EdgewrightError:
        try:
            return work(*arguments)
        except ToolchainMissing:
            raise
        except EdgewrightError as error:
            return error

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
