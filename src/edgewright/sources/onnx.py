"""Source `onnx`: an ONNX file, checked, repaired where exporters leave it untidy, and compared with itself."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from edgewright.core.step import Context

if TYPE_CHECKING:
    import onnx_ir

CUSTOM = "custom_operators."
"""How the inputs that are native libraries begin."""


@dataclass(frozen=True, slots=True)
class OnnxSource:
    """Imports an ONNX file of opset 11 or newer; QuantizeLinear / DequantizeLinear stay as they are.

    `run` takes inputs["model"] (the file, or a folder that holds it and its external data) and optionally
    inputs["data"] (a `data.json`); inputs called `custom_operators.…` are native libraries of its custom operators. It
    writes `model.onnx`, those libraries and `import.json`.

    Attributes:
        samples: Batches to compare on.
        least_snr_db: Smallest signal-to-noise ratio between source and import, in dB.
    """

    name: ClassVar[str] = "onnx"
    version: ClassVar[int] = 2
    requires: ClassVar[tuple[str, ...]] = ("onnx", "onnx-ir", "onnxruntime")

    samples: int = 16
    least_snr_db: float = 60.0

    def run(self, inputs: Mapping[str, Path], out: Path, context: Context) -> None:
        """Imports the file.

        Raises:
            SourceError: No such file, not ONNX, too old, invalid, or external data outside its folder.
            Corrupt: The file is damaged.
            StepFailed: The import computes something else than the file.
        """
        from edgewright.graph import check, custom, load, opset, tidy
        from edgewright.sources import _feeds, _verify

        source = load.model_file(inputs["model"])
        model = load.load(source)
        opset.require_opset(model)
        check.check_file(source)
        context.progress(0.2, "checked")
        native = [path for name, path in sorted(inputs.items()) if name.startswith(CUSTOM)]
        reference = _verify.onnxruntime_evaluator(_readable(source, model, context.scratch), libraries=native)
        model, notes = tidy.tidy(model)
        custom.declare(model, native)
        path = load.save(model, out)
        check.check_file(path)
        context.progress(0.5, "imported")
        specs = load.tensor_specs(load.load(path))
        feeds = _feeds.make_feeds(inputs.get("data"), specs[0], self.samples, context.seed)
        difference = _verify.compare(reference, _verify.onnxruntime_evaluator(path, libraries=native), feeds.batches)
        _verify.check_difference(difference, self.least_snr_db, "its source")
        runner = _verify.describe_feeds("the source file in ONNX Runtime", feeds)
        record = _verify.ImportRecord(
            self.name,
            opset.opset(model),
            *specs,
            difference.samples,
            difference.largest,
            difference.snr_db,
            runner,
            notes,
        )
        _verify.write_record(record, out)


def _readable(source: Path, model: onnx_ir.Model, scratch: Path) -> Path:
    """Returns the file itself, or a copy in an older file version where only that keeps runtimes from reading it."""
    from edgewright.graph import load, opset

    if model.ir_version <= opset.WIDELY_READ_IR:
        return source
    copy = load.load(source)
    opset.settle_ir_version(copy)
    return load.save(copy, scratch / "readable")


plugin = OnnxSource
