"""Rules of emission: how each operator of the lowered, channels-last graph is said in TensorFlow Lite."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

import onnx_ir as ir

if TYPE_CHECKING:
    from edgewright.targets._tflite.emission import Emission

Rule = Callable[["Emission", ir.Node], None]
Rules = Mapping[tuple[str, str], Rule]
