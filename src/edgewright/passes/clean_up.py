"""Clean-up: the same function in fewer nodes, in an opset every later pass and runtime takes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from edgewright.core.step import Context


@dataclass(frozen=True, slots=True)
class CleanUp:
    """Folds constants and batch norms, drops dead code, simplifies shapes.

    A space-to-depth stem is folded into its Conv, and parallel max pools are computed one from another.
    The rewriting is onnxscript's optimizer (see `docs/adr/0002-clean-up-library.md`). Nothing changes numerically
    beyond the rounding of reordered float32 sums. Quantisers are left alone, so a QDQ model stays one.

    Attributes:
        opset: Least opset of the result.
    """

    name: ClassVar[str] = "clean-up"
    version: ClassVar[int] = 2
    requires: ClassVar[tuple[str, ...]] = ("onnx", "onnx-ir", "onnxscript")

    opset: int = 17

    def run(self, inputs: Mapping[str, Path], out: Path, context: Context) -> None:
        from edgewright.graph.load import carry_plan, load, save
        from edgewright.graph.opset import raise_opset
        from edgewright.graph.simplify import simplify

        model = raise_opset(load(inputs["model"]), self.opset)
        context.progress(0.3, "folding")
        model = simplify(model)
        save(model, out)
        carry_plan(inputs["model"], out)


plugin = CleanUp
