"""Reading labels and decisions the way a metric needs them, with an error that names the fix."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgewright.core.decision import Classification, Decision, Segmentation, Tensors
from edgewright.errors import DataError


def class_label(label: Any, metric: str) -> int:
    """Returns the class index a sample is labelled with.

    Raises:
        DataError: The label is not a whole number.
    """
    value = np.asarray(label)
    if value.size == 1 and value.dtype.kind in "iub":
        return int(value.reshape(-1)[0])
    if value.size == 1 and value.dtype.kind == "f" and float(value.reshape(-1)[0]).is_integer():
        return int(value.reshape(-1)[0])
    raise DataError(
        f"{metric} expects a class index as label, got {_shown(label)}",
        hint="label every sample with the index of its class, or choose a metric that fits the labels",
    )


def classification(decision: Decision, metric: str) -> Classification:
    """Returns `decision` when it is a classification.

    Raises:
        DataError: It is something else.
    """
    if isinstance(decision, Classification):
        return decision
    raise wrong_kind(decision, metric, "a classification", '{ op = "softmax" } or { op = "top-k" }')


def single_tensor(decision: Decision, metric: str) -> NDArray[np.float64]:
    """Returns the values of the only output, flattened.

    Raises:
        DataError: There are several outputs, or the decision is not made of tensors.
    """
    if not isinstance(decision, Tensors):
        raise wrong_kind(decision, metric, "the output tensors", '{ op = "raw" }')
    if len(decision.values) != 1:
        raise DataError(
            f"{metric} expects one output, got {len(decision.values)}: {', '.join(decision.values)}",
            hint="keep one output in post-processing, or write the metric as module:function",
        )
    (array,) = decision.values.values()
    return np.asarray(array, dtype=np.float64).reshape(-1)


def mask(decision: Decision, metric: str) -> NDArray[Any]:
    """Returns the class index per pixel.

    Raises:
        DataError: The decision is not a segmentation.
    """
    if isinstance(decision, Segmentation):
        return decision.mask
    raise wrong_kind(decision, metric, "a segmentation", '{ op = "argmax-mask" }')


def wrong_kind(decision: Decision, metric: str, expected: str, operation: str) -> DataError:
    """Returns the error for a decision the metric cannot judge, naming the post-processing that would fit."""
    return DataError(
        f"{metric} expects {expected}, got {decision.kind}",
        hint=f"end [[postprocess]] with {operation}, or choose a metric for {decision.kind}",
    )


def _shown(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "..."
