"""The two formats: what is in the file, without a trace of the machine or the process that made it."""

from __future__ import annotations

import io
import re
import zipfile
from typing import Any

import onnx_ir as ir
import torch

from edgewright.errors import StepFailed
from edgewright.targets._executorch.lower import Operator, examples, plain_operators, quiet
from edgewright.targets._executorch.prepare import prepare
from edgewright.targets._executorch.steps import Steps, to_steps

_MACHINE = ("from_node", "stack_trace", "nn_module_stack", "torch_fn", "source_fn_stack", "custom")
_MANGLED = re.compile(rb"torch([./])fx[./]graph_module[./]___torch_mangle_\d+")
_PLAIN = rb"edgewright\1model"
_LEFT_OUT = (".debug_pkl", "serialization_id")
_WHEN = (1980, 1, 1, 0, 0, 0)


class Exporter:
    """One model on its way into a file.

    Args:
        model: The hub's.
        batch: Size of a free batch axis.

    Raises:
        StepFailed: It cannot be exported.
    """

    def __init__(self, model: ir.Model, batch: int) -> None:
        prepared = prepare(model, batch)
        self.given = examples(prepared)
        self.steps: Steps = to_steps(prepared, integers=False)
        with quiet(), torch.no_grad():
            try:
                self.exported: Any = torch.export.export(self.steps.module, self.given, strict=False)
            except Exception as error:  # torch.export raises many kinds
                text = " ".join(str(error).split())[:400]
                raise StepFailed(
                    f"torch.export cannot follow the model: {text}",
                    hint="clean up or re-export the model without this operator, or leave this target out",
                ) from error

    def operators(self) -> tuple[Operator, ...]:
        """Returns PyTorch's operators in the order in which they run."""
        return plain_operators(self.exported, self.steps.origins)

    def script(self) -> bytes:
        """Returns the TorchScript file of the traced, frozen module."""
        with quiet(), torch.no_grad():
            trace: Any = torch.jit.trace
            traced = trace(self.steps.module, self.given, check_trace=False)
            buffer = io.BytesIO()
            torch.jit.save(torch.jit.freeze(traced.eval()), buffer)
        return _anonymous(buffer.getvalue())

    def package(self) -> bytes:
        """Returns the torch.export file; it has no pickled samples."""
        self.operators()
        for module in self.exported.graph_module.modules():
            for node in module.graph.nodes if isinstance(module, torch.fx.GraphModule) else ():
                for key in _MACHINE:
                    node.meta.pop(key, None)
        self.exported._example_inputs = None
        buffer = io.BytesIO()
        with quiet():
            torch.export.save(self.exported, buffer)
        return buffer.getvalue()


def _anonymous(content: bytes) -> bytes:
    """Rewrites a TorchScript archive without source paths, and with one name for its class.

    PyTorch numbers the classes of a process and writes the paths of the Python files that it traced.
    """
    buffer = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(content)) as old, zipfile.ZipFile(buffer, "w", zipfile.ZIP_STORED) as new:
        for name in old.namelist():
            if name.endswith(_LEFT_OUT):
                continue
            kept = old.read(name)
            if name.endswith((".py", ".pkl")):
                kept = _MANGLED.sub(_PLAIN, kept)
            new.writestr(zipfile.ZipInfo(_MANGLED.sub(_PLAIN, name.encode()).decode(), _WHEN), kept)
    return buffer.getvalue()
