"""A fresh small network in place of its teacher, for `distill` to train."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from edgewright.core.step import Context
from edgewright.errors import ConfigError

if TYPE_CHECKING:
    import onnx_ir

    from edgewright.training.students.interface import Interface

_LAYERS = "layers"


@dataclass(frozen=True, slots=True)
class StudentPass:
    """inputs["model"], the teacher -> an untrained student with the same inputs and outputs; its plan is left behind.

    Batch norm is kept apart, so that training can use it. The same seed gives the same bytes. A network of the user is
    imported before, into inputs["student"].

    Attributes:
        network: A student of the catalogue and its width, such as `mobilenetv3-0.5` (`edgewright distill --list`);
            `every-second-layer` or `layers` for a transformer made of its teacher's own layers, weights included;
            `module:factory` for a PyTorch module, or the path of an ONNX, TFLite or Keras file.
        keep: Which layers stay, from 0, where `network` is `layers`.
    """

    name: ClassVar[str] = "student"
    version: ClassVar[int] = 1
    requires: ClassVar[tuple[str, ...]] = ("torch", "onnx", "onnx-ir", "onnxscript")
    needs: ClassVar[tuple[str, ...]] = ("student",)
    trains: ClassVar[bool] = True

    network: str = "mobilenetv3-0.5"
    keep: tuple[int, ...] = ()

    def run(self, inputs: Mapping[str, Path], out: Path, context: Context) -> None:
        """See `edgewright.core.step.Step`.

        Raises:
            ConfigError: There is no such student, or it does not fit between the teacher's tensors.
            ToolchainMissing: torch or onnxscript is not installed.
            StepFailed: The network cannot be exported.
        """
        from edgewright.graph import check, qdq
        from edgewright.graph.load import load, save
        from edgewright.graph.shapes import infer_shapes
        from edgewright.training.students.interface import interface_of

        if self.keep and self.network != _LAYERS:
            raise ConfigError(f"keep names layers, network is {self.network}", hint=f"set network={_LAYERS}")
        teacher = infer_shapes(load(inputs["model"]))
        if qdq.is_quantised(teacher.graph):
            hint = "put `student` before the pass that quantises, or give the float model"
            raise ConfigError("the teacher of a student is a float model, this one carries quantisers", hint=hint)
        student = self._student(teacher, interface_of(teacher), inputs.get("student"), context)
        check.check_file(save(student, out))

    def _student(
        self, teacher: onnx_ir.Model, interface: Interface, own: Path | None, context: Context
    ) -> onnx_ir.Model:
        from edgewright.graph.encoders import keep_layers
        from edgewright.graph.load import load
        from edgewright.training.students import catalogue
        from edgewright.training.students.written import adopted

        if self.network in catalogue.TEACHERS_OWN:
            if self.network == _LAYERS and not self.keep:
                raise ConfigError("no layer is kept", hint=f"name them: student(network={_LAYERS}, keep=[0, 2])")
            kept, count = keep_layers(teacher, self.keep)
            context.progress(1.0, f"{kept} of {count} layers kept")
            return teacher
        if own is not None:
            return adopted(load(own), interface, f'"{self.network}"')
        return self._fresh(interface, context)

    def _fresh(self, interface: Interface, context: Context) -> onnx_ir.Model:
        from edgewright.runtimes._require import require
        from edgewright.training.students import catalogue
        from edgewright.training.students.written import exported

        student = catalogue.find(self.network)
        require("torch", "torch")
        network = catalogue.build(student, interface, context.seed)
        count = sum(parameter.numel() for parameter in network.parameters())
        context.progress(0.3, f"{student.name}: {count} parameters")
        return exported(network, interface, student.name)


plugin = StudentPass
