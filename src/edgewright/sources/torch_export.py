"""Source `torch-export`: a `.pt2` file, as torch.export writes it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from edgewright.core.step import Context
from edgewright.errors import SourceError, StepFailed
from edgewright.runtimes._require import require
from edgewright.training.export import cause, fold, need_onnxscript, quiet

if TYPE_CHECKING:
    import onnx_ir


@dataclass(frozen=True, slots=True)
class TorchExportSource:
    """Exports the program in the file to ONNX; free axes stay free.

    `run` takes inputs["model"] (the file) and optionally inputs["data"] (a `data.json`); it writes `model.onnx` and
    `import.json`. The file is untrusted: one whose pickles hold more than tensors is refused.

    Attributes:
        opset: 18 or newer.
        samples: Batches to compare on.
        least_snr_db: Smallest signal-to-noise ratio between the program in PyTorch and the import, in dB.
    """

    name: ClassVar[str] = "torch-export"
    version: ClassVar[int] = 1
    requires: ClassVar[tuple[str, ...]] = ("torch", "onnx", "onnx-ir", "onnxscript", "onnxruntime")
    extra: ClassVar[str] = "torch"

    opset: int = 18
    samples: int = 16
    least_snr_db: float = 60.0

    def run(self, inputs: Mapping[str, Path], out: Path, context: Context) -> None:
        """Imports the file.

        Raises:
            ToolchainMissing: torch or onnxscript is not installed.
            SourceError: No such file.
            Corrupt: It is damaged, or may run code when it is loaded.
            StepFailed: The export raised, or the import computes something else than the program.
        """
        torch = require("torch", self.extra)
        from edgewright.graph import check, load, opset, tidy
        from edgewright.runtimes.torch import load_program
        from edgewright.sources import _eager, _feeds, _verify

        file = inputs["model"]
        if not file.is_file():
            raise SourceError(f"no file {file}", hint="correct the path")
        program = load_program(torch, file.read_bytes(), str(file))
        model, notes = tidy.tidy(self._exported(torch, program))
        path = load.save(model, out)
        check.check_file(path)
        context.progress(0.7, "exported")
        specs = load.tensor_specs(load.load(path))
        feeds = _feeds.make_feeds(inputs.get("data"), specs[0], self.samples, context.seed)
        eager = _eager.eager(program.module(), [s.name for s in specs[0]], [s.name for s in specs[1]])
        difference = _verify.compare(eager, _verify.onnxruntime_evaluator(path), feeds.batches)
        _verify.check_difference(difference, self.least_snr_db, "the program in PyTorch")
        said = _verify.describe_feeds("the program in PyTorch", feeds)
        record = _verify.ImportRecord(
            self.name,
            opset.opset(model),
            *specs,
            difference.samples,
            difference.largest,
            difference.snr_db,
            said,
            notes,
        )
        _verify.write_record(record, out)

    def _exported(self, torch: Any, program: Any) -> onnx_ir.Model:
        need_onnxscript()
        try:
            with quiet():
                made = torch.onnx.export(
                    program, dynamo=True, optimize=False, external_data=False, verbose=False, opset_version=self.opset
                )
        except Exception as error:  # the exporter wraps whatever went wrong
            raise StepFailed(
                f"the program cannot be exported to ONNX: {cause(error)}",
                hint='give the model as "module:factory" instead',
            ) from error
        model: onnx_ir.Model = made.model
        return fold(model)


plugin = TorchExportSource
