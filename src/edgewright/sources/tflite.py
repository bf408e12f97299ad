"""Source `tflite`: a TensorFlow Lite file with float activations, translated to ONNX by our own reader."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from edgewright.core.step import Context


@dataclass(frozen=True, slots=True)
class TfliteSource:
    """Imports a float file, or one with int8 weights, which become the float values they stand for.

    `run` takes inputs["model"] (the file) and optionally inputs["data"] (a `data.json`); it writes `model.onnx` and
    `import.json`. The reference of the comparison is LiteRT; for int8 weights LiteRT on the dequantised weights.

    Attributes:
        samples: Batches to compare on.
        least_snr_db: Smallest signal-to-noise ratio between source and import, in dB.
    """

    name: ClassVar[str] = "tflite"
    version: ClassVar[int] = 1
    requires: ClassVar[tuple[str, ...]] = ("ai-edge-litert", "flatbuffers", "onnx", "onnx-ir", "onnxruntime")
    extra: ClassVar[str] = "tflite"

    samples: int = 16
    least_snr_db: float = 60.0

    def run(self, inputs: Mapping[str, Path], out: Path, context: Context) -> None:
        """Imports the file.

        Raises:
            SourceError: No such file, an unsupported operator, or quantised activations.
            Corrupt: The file is damaged.
            ToolchainMissing: LiteRT is not installed.
            StepFailed: The import computes something else than the file.
        """
        from edgewright.formats.tflite.convert import has_integer_weights, to_onnx
        from edgewright.formats.tflite.reader import read_tflite
        from edgewright.graph import check, load, opset, tidy
        from edgewright.sources import _feeds, _litert, _verify

        graph = read_tflite(inputs["model"])
        model, notes = tidy.tidy(to_onnx(graph))
        path = load.save(model, out)
        check.check_file(path)
        context.progress(0.5, "translated")
        content, runner = inputs["model"].read_bytes(), "the source file in LiteRT"
        if has_integer_weights(graph):
            content, runner = _litert.with_float_weights(content), "the source with dequantised weights in LiteRT"
            notes = (*notes, "int8 weights were turned into the float32 values they stand for")
        specs = load.tensor_specs(load.load(path))
        feeds = _feeds.make_feeds(inputs.get("data"), specs[0], self.samples, context.seed)
        reference = _litert.interpreter_evaluator(content, [s.name for s in specs[1]])
        difference = _verify.compare(reference, _verify.onnxruntime_evaluator(path), feeds.batches)
        _verify.check_difference(difference, self.least_snr_db, runner)
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


plugin = TfliteSource
