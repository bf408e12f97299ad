"""Dynamic INT8: weights stored as integers, activations quantised per tensor while running. Needs no data."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from edgewright.core.codec import encode_json
from edgewright.core.step import Context


@dataclass(frozen=True, slots=True)
class DynamicInt8:
    """inputs["model"] -> DynamicQuantizeLinear and MatMulInteger (or ConvInteger) in place of float products.

    The result is real = (x scale x w scale) x integer product, one weight scale per output channel; the pattern is the
    one ONNX Runtime fuses into a single kernel. A model that already carries quantisers is left as it is.

    Attributes:
        ops: Which operators: `MatMul`, `Gemm`, `Conv`. Convolutions rarely get faster this way.
        weight_bits: 7 is right on every processor. 8 is more precise, but without VNNI (or its counterpart on Arm) the
            runtime adds products in 16 bits, which then saturate: give 8 where the device has it.
        keep_float: Operators to leave in float: node names, patterns, `@first`, `@last`, `@depthwise`.
    """

    name: ClassVar[str] = "dynamic-int8"
    version: ClassVar[int] = 1
    requires: ClassVar[tuple[str, ...]] = ("onnx", "onnx-ir")
    quantises: ClassVar[bool] = True

    ops: tuple[str, ...] = ("MatMul", "Gemm")
    weight_bits: int = 7
    keep_float: tuple[str, ...] = ()

    def run(self, inputs: Mapping[str, Path], out: Path, context: Context) -> None:
        from edgewright.graph import dynamic, qdq
        from edgewright.graph.load import PLAN_FILE, load, save
        from edgewright.graph.opset import QDQ_OPSET, raise_opset
        from edgewright.graph.shapes import infer_shapes

        model = infer_shapes(raise_opset(load(inputs["model"]), QDQ_OPSET))
        if qdq.is_quantised(model.graph):
            plan = qdq.read_plan(model.graph)
        else:
            qdq.prepare(model)
            plan = dynamic.rewrite(model.graph, self.ops, self.keep_float, self.weight_bits)
        save(infer_shapes(model), out)
        (out / PLAN_FILE).write_bytes(encode_json(plan))


plugin = DynamicInt8
