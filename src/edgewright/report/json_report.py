"""The study as `report.json`, for programs."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import fields
from typing import TYPE_CHECKING, Any

import edgewright
from edgewright.core.codec import encode, encode_json
from edgewright.core.recipe import Study

if TYPE_CHECKING:
    from edgewright.report.compression import Compression

SCHEMA = 1
_FOR_THE_PAGE = ("figures", "captions")


def report_json(study: Study, compressed: Mapping[str, tuple[Compression, ...]] | None = None) -> bytes:
    """Returns `{"schema": 1, "edgewright": version, "study": {...}}`, the same bytes for equal studies.

    A figure that is not finite (a metric gave NaN) becomes null, because JSON has no word for it.

    Args:
        study: Annotated.
        compressed: Target -> candidates that were trained, pruned or sparsified, stage by stage, with the score and
            loss of every epoch; `compression` in the document, which is not there where this is empty.
    """
    document = {"schema": SCHEMA, "edgewright": edgewright.__version__, "study": encode(study)}
    told = {target: [_told(each) for each in found] for target, found in (compressed or {}).items() if found}
    return encode_json(_finite(document | ({"compression": told} if told else {})))


def _told(found: Compression) -> dict[str, Any]:
    shown = (field.name for field in fields(found) if field.name not in _FOR_THE_PAGE)
    return {name: encode(getattr(found, name)) for name in shown}


def _finite(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_finite(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
