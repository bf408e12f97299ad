"""FP16: weights and arithmetic in half precision; the model's inputs and outputs keep their types."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from edgewright.core.step import Context


@dataclass(frozen=True, slots=True)
class Fp16:
    """inputs["model"] -> the model in float16, with casts at its inputs and outputs.

    Weights stored as integers become float16 too.

    Attributes:
        keep_float: Operators (node names or types) that stay in float32, besides those ONNX fixes.
    """

    name: ClassVar[str] = "fp16"
    version: ClassVar[int] = 1
    requires: ClassVar[tuple[str, ...]] = ("onnx", "onnx-ir")

    keep_float: tuple[str, ...] = ()

    def run(self, inputs: Mapping[str, Path], out: Path, context: Context) -> None:
        from edgewright.graph import half, qdq
        from edgewright.graph.load import carry_plan, load, save
        from edgewright.graph.opset import QDQ_OPSET, raise_opset
        from edgewright.graph.shapes import infer_shapes

        model = infer_shapes(raise_opset(load(inputs["model"]), QDQ_OPSET))
        half.check_halvable(model)
        qdq.fold_stored_weights(model.graph)
        half.halve(model.graph, half.FLOAT_OPS | set(self.keep_float))
        save(infer_shapes(model), out)
        carry_plan(inputs["model"], out)


plugin = Fp16
