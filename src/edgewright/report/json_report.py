"""The study as `report.json`, for programs."""

from __future__ import annotations

import math
from typing import Any

import edgewright
from edgewright.core.codec import encode, encode_json
from edgewright.core.recipe import Study

SCHEMA = 1


def report_json(study: Study) -> bytes:
    """Returns `{"schema": 1, "edgewright": version, "study": {...}}`, the same bytes for equal studies.

    A figure that is not finite (a metric gave NaN) becomes null, because JSON has no word for it.
    """
    document = {"schema": SCHEMA, "edgewright": edgewright.__version__, "study": encode(study)}
    return encode_json(_finite(document))


def _finite(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_finite(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
