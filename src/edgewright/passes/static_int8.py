"""Static INT8: activations and weights as integers, scales fixed from calibration data."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from edgewright.core.codec import encode_json
from edgewright.core.step import Context
from edgewright.core.target import Scheme
from edgewright.errors import ConfigError


@dataclass(frozen=True, slots=True)
class StaticInt8:
    """inputs["model"] and inputs["statistics"] (of `calibrate`, on the same model) -> QDQ model and its plan.

    A model that already carries quantisers is left as it is, and its plan is read from them.

    Attributes:
        scheme: How the runtime wants it, or the name of a scheme, e.g. `onnxruntime-u8s7`.
        ranges: How ranges of activations are chosen: `minmax`, `percentile`, `mse` (least squared error), `entropy`
            (least divergence) or `auto` (per tensor, whichever errs least on samples that it was not chosen from).
        percent: Share of values inside percentile ranges.
        keep_float: Operators to leave in float: node names, patterns with `*`, `@first`, `@last`, `@depthwise`,
            `@activations`.
        ops: Quantise only these of the scheme's operators.
        weights: Range of weights: `minmax`, or `mse` for the least squared error.
    """

    name: ClassVar[str] = "static-int8"
    version: ClassVar[int] = 6
    requires: ClassVar[tuple[str, ...]] = ("onnx", "onnx-ir")
    needs: ClassVar[tuple[str, ...]] = ("statistics",)
    quantises: ClassVar[bool] = True

    scheme: Scheme | str
    ranges: str = "minmax"
    percent: float = 99.999
    keep_float: tuple[str, ...] = ()
    ops: tuple[str, ...] = ()
    weights: str = "minmax"

    def __post_init__(self) -> None:
        """Resolves a name at once, so that the step's digest holds what the scheme says and not what it is called."""
        object.__setattr__(self, "scheme", _resolved(self.scheme))

    def run(self, inputs: Mapping[str, Path], out: Path, context: Context) -> None:
        from edgewright.graph import qdq
        from edgewright.graph.load import PLAN_FILE, load, save
        from edgewright.graph.masks import masked
        from edgewright.graph.opset import QDQ_OPSET, raise_opset
        from edgewright.graph.placement import decide
        from edgewright.graph.plan import describe
        from edgewright.graph.saturation import with_hint
        from edgewright.graph.schemes.lint import require
        from edgewright.graph.shapes import infer_shapes
        from edgewright.graph.statistics import read_statistics

        scheme = _resolved(self.scheme)
        model = infer_shapes(raise_opset(load(inputs["model"]), max(QDQ_OPSET, scheme.opset)))
        if qdq.is_quantised(model.graph):
            plan = qdq.read_plan(model.graph)
        else:
            if "statistics" not in inputs:
                raise ConfigError('static-int8 lacks its input "statistics"', hint="run `calibrate` on the model first")
            qdq.prepare(model)
            statistics = read_statistics(inputs["statistics"])
            unfit = masked(model.graph, statistics)
            placement = decide(model.graph, scheme, self.keep_float, self.ops, unfit)
            plan = describe(placement, scheme, statistics, self.ranges, self.percent, self.weights)
            plan = with_hint(plan, scheme, model.graph, statistics)
            qdq.apply(model.graph, plan)
            require(model.graph, scheme, plan.kept_float)
        context.progress(0.9, "saving")
        save(infer_shapes(model), out)
        (out / PLAN_FILE).write_bytes(encode_json(plan))


def _resolved(scheme: Scheme | str) -> Scheme:
    from edgewright.graph.schemes import find

    return find(scheme) if isinstance(scheme, str) else scheme


plugin = StaticInt8
