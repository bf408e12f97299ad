"""Source `tflite`: a TensorFlow Lite file, float or quantised, translated to ONNX by our own reader."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from edgewright.core.step import Context

if TYPE_CHECKING:
    import onnx_ir

    from edgewright.core.tensors import TensorSpec
    from edgewright.formats.tflite.reader import TfliteGraph
    from edgewright.sources._feeds import Feeds


@dataclass(frozen=True, slots=True)
class TfliteSource:
    """Imports a TensorFlow Lite file.

    A quantised file becomes QuantizeLinear and DequantizeLinear with the file's own scales and zero points, its weights
    stay the integers stored, and `plan.json` lists every tensor. Integer weights of float operators become the float
    values they stand for.

    `run` takes inputs["model"] (the file) and optionally inputs["data"] (a `data.json`); it writes `model.onnx`,
    `import.json` and, for a quantised file, `plan.json`. The reference of the comparison is LiteRT; for integer
    weights of float operators LiteRT on the dequantised weights.

    Attributes:
        samples: Batches to compare on.
        least_snr_db: Smallest signal-to-noise ratio between source and import, in dB, of a float file.
        least_snr_db_quantised: The same of a quantised file: integer kernels round sums in their own ways, and a
            rounding that falls the other way moves an output by a whole step.
        integer_io: Inputs and outputs that the file declares as scaled integers stay integers; otherwise they are
            floats, rounded inside the model.
        outputs: Names of tensors to end at instead of the file's outputs, so that what stands behind them (a decoder of
            detections, say) is left out; empty for the whole file.
    """

    name: ClassVar[str] = "tflite"
    version: ClassVar[int] = 2
    requires: ClassVar[tuple[str, ...]] = ("ai-edge-litert", "flatbuffers", "onnx", "onnx-ir", "onnxruntime")
    extra: ClassVar[str] = "tflite"

    samples: int = 16
    least_snr_db: float = 60.0
    least_snr_db_quantised: float = 20.0
    integer_io: bool = False
    outputs: tuple[str, ...] = ()

    def run(self, inputs: Mapping[str, Path], out: Path, context: Context) -> None:
        """Imports the file.

        Raises:
            SourceError: No such file, or an unsupported operator.
            Corrupt: The file is damaged.
            ToolchainMissing: LiteRT is not installed.
            StepFailed: The import computes something else than the file.
        """
        from edgewright.formats.tflite import convert, cutting
        from edgewright.formats.tflite.reader import read_tflite
        from edgewright.graph import check, load, opset, tidy
        from edgewright.sources import _litert, _verify

        graph, content = read_tflite(inputs["model"]), inputs["model"].read_bytes()
        if self.outputs:
            graph = cutting.cut(graph, self.outputs)
            content = _litert.with_outputs(content, graph.outputs)
        model, notes = tidy.tidy(convert.to_onnx(graph, integer_io=self.integer_io))
        notes = (*notes, *convert.differences(graph))
        path = load.save(model, out)
        check.check_file(path)
        context.progress(0.5, "translated")
        runner = "the source file in LiteRT"
        if convert.has_hybrid_operators(graph):
            content, runner = _litert.with_float_weights(content), "the source with dequantised weights in LiteRT"
            notes = (*notes, "integer weights of float operators were turned into the float32 values they stand for")
        specs = load.tensor_specs(load.load(path))
        feeds = self._feeds(graph, inputs.get("data"), specs[0], context.seed)
        reference = _litert.interpreter_evaluator(content, [s.name for s in specs[1]], real=not self.integer_io)
        quantised = convert.is_quantised(graph)
        imported = _verify.onnxruntime_evaluator(path, literal=quantised)
        difference = _verify.compare(reference, imported, feeds.batches)
        least = self.least_snr_db_quantised if quantised else self.least_snr_db
        _verify.check_difference(difference, least, runner)
        if quantised:
            notes = (*notes, *_write_plan(model, graph, out))
        record = _verify.ImportRecord(
            self.name,
            opset.opset(model),
            *specs,
            difference.samples,
            difference.largest,
            difference.snr_db,
            _verify.describe_feeds(runner, feeds),
            notes,
        )
        _verify.write_record(record, out)

    def _feeds(self, graph: TfliteGraph, data: Path | None, specs: tuple[TensorSpec, ...], seed: int) -> Feeds:
        from edgewright.sources import _feeds

        ranges = {
            spec.name: (tensor.dtype, tensor.scale[0], tensor.zero_point[0])
            for spec, tensor in zip(specs, (graph.tensors[n] for n in graph.inputs), strict=True)
            if tensor.scaled and spec.dtype == "float32"
        }
        return _feeds.make_feeds(data, specs, self.samples, seed, ranges)


def _write_plan(model: onnx_ir.Model, graph: TfliteGraph, out: Path) -> tuple[str, ...]:
    """Writes what the file says about its integers, and returns what a reader should know."""
    from dataclasses import replace

    from edgewright.core.codec import encode_json
    from edgewright.graph import load, qdq

    plan = qdq.read_plan(model.graph)
    stored = {side: _stored(model, graph, side) for side in ("inputs", "outputs")}
    plan = replace(plan, hints={"edgewright.io": stored}) if any(stored.values()) else plan
    (out / load.PLAN_FILE).write_bytes(encode_json(plan))
    told = f"{len(plan.tensors)} tensors are quantised as in the file; plan.json lists them"
    named = [f"{name} {it['dtype']}" for side in stored.values() for name, it in side.items()]
    return (told, f"the file itself takes and gives integers: {', '.join(named)}") if named else (told,)


def _stored(model: onnx_ir.Model, graph: TfliteGraph, side: str) -> dict[str, dict[str, object]]:
    """Returns the inputs or outputs that the file itself holds as scaled integers."""
    numbers = graph.inputs if side == "inputs" else graph.outputs
    values = model.graph.inputs if side == "inputs" else model.graph.outputs
    return {
        value.name or "": {"dtype": t.dtype, "scale": t.scale[0], "zero_point": t.zero_point[0]}
        for value, t in zip(values, (graph.tensors[n] for n in numbers), strict=True)
        if t.scaled
    }


plugin = TfliteSource
