"""Labels: which are possible."""

from __future__ import annotations

from typing import Any

import numpy as np

from edgewright.core.data import Sample
from edgewright.errors import DataError

IGNORE = 255
"""The class of mask pixels that do not count, by the convention of Pascal VOC and Cityscapes."""


def check_label(sample: Sample, classes: int, where: str) -> None:
    """Refuses labels outside the classes and labels that are not finite.

    Args:
        sample: Its label is a class index, a number, an array, or a mapping with `classes`.
        classes: How many classes there are; 0 when unknown.
        where: Named in errors.

    Raises:
        DataError: The message names the sample and the label.
    """
    label = sample.label
    if label is None or isinstance(label, str):
        return
    if type(label) is int and classes and 0 <= label < classes:
        return
    values = np.asarray(label.get("classes", ()) if isinstance(label, dict) else label)
    if values.dtype.kind == "f" and not np.isfinite(values).all():
        message = f"{where}, sample {sample.id}: the label is {_shown(label)}"
        raise DataError(message, hint="remove the sample, or give it a label that is a number")
    if values.dtype.kind not in "iu" or not values.size:
        return
    wrong = values[(values < 0) | ((values >= classes) & bool(classes))]
    if values.ndim >= 2:
        wrong = wrong[wrong != IGNORE]
    if wrong.size:
        top = f"0..{classes - 1}" if classes else "0 and up"
        message = f"{where}, sample {sample.id}: the label {int(wrong.flat[0])} is out of range ({top})"
        raise DataError(message, hint="correct the label, or give as many labels as the model has classes")


def _shown(label: Any) -> str:
    return str(label) if np.ndim(label) == 0 else f"an array with {np.count_nonzero(~np.isfinite(label))} gaps"
