"""Weights of matrix products in 4 or 8 bits, activations in float: smaller models, for transformers above all."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from edgewright.core.codec import encode_json
from edgewright.core.step import Context
from edgewright.core.target import Plan
from edgewright.errors import ConfigError

if TYPE_CHECKING:
    import onnx_ir

    from edgewright.graph.blockwise import Floats

ROUND, GPTQ = "round", "gptq"
COMPUTE = {"float32": 1, "int8": 4}
"""What the products are computed in -> `accuracy_level` of `MatMulNBits`."""


@dataclass(frozen=True, slots=True)
class WeightsOnly:
    """inputs["model"] and inputs["data"] -> `MatMulNBits` in place of MatMul and Gemm with constant weights.

    Attributes:
        bits: 4 or 8.
        block: Inputs that share a scale: a power of two from 16 to 256.
        method: `round` to the nearest step, or `gptq`, which makes up for the rounding of each input with the inputs
            after it (needs calibration data).
        compute: `float32`, or `int8`: activations are quantised block by block while running.
        limit: Use at most so many calibration samples.
        keep_float: Operators to leave in float: node names, patterns, `@first`, `@last`.
    """

    name: ClassVar[str] = "weights-only"
    version: ClassVar[int] = 2
    requires: ClassVar[tuple[str, ...]] = ("onnx", "onnx-ir", "onnxruntime")
    needs: ClassVar[tuple[str, ...]] = ("data",)
    quantises: ClassVar[bool] = True

    bits: int = 4
    block: int = 32
    method: str = GPTQ
    compute: str = "float32"
    limit: int | None = 128
    keep_float: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        checks = {
            "bits": (self.bits, (4, 8)),
            "block": (self.block, (16, 32, 64, 128, 256)),
            "method": (self.method, (ROUND, GPTQ)),
            "compute": (self.compute, tuple(COMPUTE)),
        }
        for field, (value, allowed) in checks.items():
            if value not in allowed:
                shown = ", ".join(map(str, allowed))
                raise ConfigError(
                    f"weights-only: {field} = {value}, expected one of {shown}", hint=f"correct `{field}`"
                )

    def run(self, inputs: Mapping[str, Path], out: Path, context: Context) -> None:
        from edgewright.graph import qdq, weights_only
        from edgewright.graph.load import PLAN_FILE, load, save
        from edgewright.graph.opset import QDQ_OPSET, raise_opset
        from edgewright.graph.shapes import infer_shapes

        model = infer_shapes(raise_opset(load(inputs["model"]), QDQ_OPSET))
        qdq.prepare(model)
        nodes = weights_only.products(model.graph, self.keep_float)
        grams = self._grams(model, nodes, inputs) if self.method == GPTQ and nodes else {}
        context.progress(0.5, "weights")
        errors = weights_only.rewrite(model, nodes, grams, self.bits, self.block, COMPUTE[self.compute])
        hints = {"weights_only": {"bits": self.bits, "block": self.block, "method": self.method, "errors": errors}}
        save(model, out)
        (out / PLAN_FILE).write_bytes(encode_json(Plan("weights-only", hints=hints)))

    def _grams(
        self, model: onnx_ir.Model, nodes: tuple[onnx_ir.Node, ...], inputs: Mapping[str, Path]
    ) -> dict[str, Floats]:
        from edgewright.graph import weights_only
        from edgewright.passes._feeds import feeds_of
        from edgewright.passes._infer import open_infer

        if "data" not in inputs:
            raise ConfigError(
                'weights-only lacks its input "data"', hint='name a calibration split, or method = "round"'
            )
        names = tuple(dict.fromkeys(node.inputs[0].name or "" for node in nodes if node.inputs[0] is not None))
        copy = model.clone()
        values = {value.name: value for node in copy.graph for value in node.outputs}
        copy.graph.outputs.clear()
        copy.graph.outputs.extend(values[name] for name in names if name in values)
        feeds = feeds_of(model, inputs["data"], limit=self.limit)
        return weights_only.gather_grams(open_infer(copy), (feed for _, feed in feeds), names)


plugin = WeightsOnly
