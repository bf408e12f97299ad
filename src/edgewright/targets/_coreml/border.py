"""What a Runner must know of a package: the names, types and sizes of its tensors, and how its images are made."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from edgewright.core.tensors import TensorSpec
from edgewright.runtimes.coreml import BORDER_KEY, UNITS_KEY
from edgewright.targets._coreml.image import Image
from edgewright.targets._coreml.prepare import Prepared
from edgewright.targets._hub import Hub


def session(prepared: Prepared, hub: Hub, images: Mapping[str, Image], units: str) -> dict[str, str]:
    """Returns the entries of the artifact's session; see `edgewright.runtimes.coreml.PackageRunner`."""
    takes = [_tensor(own, images.get(spec.name)) for spec, own in zip(hub.inputs, prepared.inputs, strict=True)]
    gives = [_tensor(own, None) for own in prepared.outputs]
    return {UNITS_KEY: units, BORDER_KEY: json.dumps({"inputs": takes, "outputs": gives}, separators=(",", ":"))}


def _tensor(spec: TensorSpec, image: Image | None) -> dict[str, Any]:
    made: dict[str, Any] = {"name": spec.name, "dtype": spec.dtype, "shape": list(spec.shape)}
    if image is not None:
        made["image"] = {"colour": image.colour, "scale": list(image.scale), "bias": list(image.bias)}
    return made
