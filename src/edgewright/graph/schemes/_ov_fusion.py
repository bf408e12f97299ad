"""What OpenVINO's CPU plugin makes of quantisers."""

from __future__ import annotations

import onnx_ir as ir


class OvFusion:
    """Goes through a graph once; `kinds` then holds what becomes of each operator."""

    def __init__(self, graph: ir.Graph) -> None:
        self.kinds: dict[str, str] = {}
