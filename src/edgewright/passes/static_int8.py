"""Static INT8: activations and weights as integers, scales fixed from calibration data."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import onnx_ir as ir

from edgewright.core.codec import encode_json
from edgewright.core.step import Context
from edgewright.core.target import Plan, Scheme
from edgewright.errors import ConfigError
from edgewright.graph.load import PLAN_FILE, load, save
from edgewright.graph.opset import QDQ_OPSET, raise_opset
from edgewright.graph.placement import decide
from edgewright.graph.plan import describe
from edgewright.graph.qdq import apply, fold_stored_weights, is_quantised, read_plan
from edgewright.graph.shapes import infer_shapes
from edgewright.graph.statistics import Statistics
from edgewright.passes.calibrate import load_statistics
from edgewright.passes.clean_up import name_nodes


@dataclass(frozen=True, slots=True)
class StaticInt8:
    """inputs["model"] and inputs["statistics"] (of `calibrate`, on the same model) -> QDQ model and its plan.

    A model that already carries quantisers is left as it is, and its plan is read from them.

    Attributes:
        scheme: How the runtime wants it.
        ranges: `minmax` or `percentile`.
        percent: Share of values inside percentile ranges.
        keep_float: Operators to leave in float: node names, patterns with `*`, `@first`, `@last`, `@depthwise`.
        ops: Quantise only these of the scheme's operators.
    """

    name: ClassVar[str] = "static-int8"
    version: ClassVar[int] = 1
    requires: ClassVar[tuple[str, ...]] = ("onnx", "onnx-ir")
    needs: ClassVar[tuple[str, ...]] = ("statistics",)

    scheme: Scheme
    ranges: str = "minmax"
    percent: float = 99.999
    keep_float: tuple[str, ...] = ()
    ops: tuple[str, ...] = ()

    def run(self, inputs: Mapping[str, Path], out: Path, context: Context) -> None:
        model = infer_shapes(raise_opset(load(inputs["model"]), QDQ_OPSET))
        if is_quantised(model.graph):
            plan = read_plan(model.graph)
        else:
            if "statistics" not in inputs:
                raise ConfigError('static-int8 lacks its input "statistics"', hint="run `calibrate` on the model first")
            prepare(model)
            plan = self.plan(model, load_statistics(inputs["statistics"]))
            apply(model.graph, plan)
        context.progress(0.9, "saving")
        save(infer_shapes(model), out)
        (out / PLAN_FILE).write_bytes(encode_json(plan))

    def plan(self, model: ir.Model, statistics: Statistics) -> Plan:
        """Decides and describes, without changing `model`."""
        placement = decide(model.graph, self.scheme, self.keep_float, self.ops)
        return describe(placement, self.scheme, statistics, self.ranges, self.percent)


def prepare(model: ir.Model) -> None:
    """Names every node and turns weights stored as integers back into float32, in place."""
    name_nodes(model.graph)
    fold_stored_weights(model.graph)


plugin = StaticInt8
