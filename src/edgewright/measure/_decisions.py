"""From a stream of samples to decisions, through the artifact's own runtime."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from edgewright.core.data import Prepared, Sample
from edgewright.core.decision import Classification, Decision, Detections
from edgewright.core.target import Runner
from edgewright.core.tensors import TensorSpec
from edgewright.errors import ConfigError, DataError

if TYPE_CHECKING:
    from edgewright.data import Data

_REPLACEMENT = 1e6
"""Stands for an infinity, so that post-processing has numbers to decide on."""


@dataclass(slots=True)
class Finiteness:
    """Collects samples whose outputs held NaN or infinities."""

    samples: list[str] = field(default_factory=list)

    def clean(self, sample: str, outputs: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
        """Returns the outputs with NaN as 0 and infinities as large numbers, and remembers the sample."""
        bad = {name for name, a in outputs.items() if a.dtype.kind == "f" and not np.isfinite(a).all()}
        if bad:
            self.samples.append(sample)
        return {
            name: np.nan_to_num(a, nan=0.0, posinf=_REPLACEMENT, neginf=-_REPLACEMENT) if name in bad else a
            for name, a in outputs.items()
        }

    def warnings(self, total: int) -> tuple[str, ...]:
        """Says how many samples were affected."""
        if not self.samples:
            return ()
        shown = ", ".join(self.samples[:3])
        return (f"outputs held NaN or infinities for {len(self.samples)} of {total} samples (first: {shown})",)


def run_size(inputs: Sequence[TensorSpec], batch: int) -> int:
    """Returns how many samples go into one run: the model's own number where its batch axis is fixed."""
    shape = inputs[0].shape
    return shape[0] if shape and isinstance(shape[0], int) else batch


def decide(
    runner: Runner, data: Data, split: str, batch: int, limit: int | None, finite: Finiteness
) -> Iterator[tuple[Sample, Decision]]:
    """Yields every sample with what the model decides about it, in order.

    Samples are independent of each other here: stateful post-processing (smoothing) starts afresh for each.

    Raises:
        DataError: The model does not take the samples, or an output has no batch axis.
        ConfigError: The model decides for a class beyond the labels.
    """
    size, classes = run_size(runner.inputs, batch), len(data.labels)
    for samples, prepared, stacked in data.batches(split, size, limit):
        outputs = runner.run(filled(stacked, size if size != batch else len(samples)))
        for sample, decision in _per_sample(data, samples, prepared, outputs, finite):
            _refuse_class_without_label(decision, classes)
            yield sample, decision


def _per_sample(
    data: Data,
    samples: Sequence[Sample],
    prepared: Sequence[Prepared],
    outputs: Mapping[str, NDArray[Any]],
    finite: Finiteness,
) -> Iterator[tuple[Sample, Decision]]:
    _refuse_without_batch_axis(outputs, len(samples))
    for row, (sample, ready) in enumerate(zip(samples, prepared, strict=True)):
        own = finite.clean(sample.id, {name: array[row] for name, array in outputs.items()})
        data.postprocess.reset()
        yield sample, data.postprocess(own, ready)


def _refuse_class_without_label(decision: Decision, classes: int) -> None:
    found = {Classification: "indices", Detections: "classes"}.get(type(decision))
    highest = max(getattr(decision, found), default=-1) if found and classes else -1
    if highest >= classes > 0:
        raise ConfigError(
            f"the model decides for class {highest}, and the project has {classes} labels (0..{classes - 1})",
            hint="give labels one name per class of the model, in index order",
        )


def filled(stacked: Mapping[str, NDArray[Any]], size: int) -> dict[str, NDArray[Any]]:
    """Repeats the last sample until the batch holds `size`: what a fixed batch axis asks of the last batch."""
    return {
        name: a if len(a) >= size else np.concatenate([a, np.repeat(a[-1:], size - len(a), axis=0)])
        for name, a in stacked.items()
    }


def _refuse_without_batch_axis(outputs: Mapping[str, NDArray[Any]], samples: int) -> None:
    for name, array in outputs.items():
        if array.ndim == 0 or len(array) < samples:
            raise DataError(
                f'output "{name}" has shape {list(array.shape)} for {samples} samples: it has no batch axis',
                hint="use batch = [1] in [search], or export the model with a batch axis on every output",
            )
