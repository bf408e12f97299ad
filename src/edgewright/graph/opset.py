"""The opset of a model, raised when a pass needs a newer one."""

from __future__ import annotations

import onnx
import onnx_ir as ir

from edgewright.errors import SourceError, StepFailed
from edgewright.graph.load import tensor_specs
from edgewright.graph.shapes import infer_shapes

MIN_OPSET = 11
QDQ_OPSET = 17
"""Per-channel QuantizeLinear came with 13; runtimes are tested from 17 on."""


WIDELY_READ_IR = 10
"""The newest ONNX file version that runtimes of the last two years read; newer ones differ in rare element types."""


def opset(model: ir.Model) -> int:
    """Returns the version of the standard operator set; 0 when the model does not import it."""
    return max(model.opset_imports.get("", 0), model.opset_imports.get("ai.onnx", 0))


def require_opset(model: ir.Model, least: int = MIN_OPSET) -> None:
    """Checks that `model` is new enough to be read.

    Raises:
        SourceError: Its opset is older than `least`.
    """
    if opset(model) < least:
        raise SourceError(
            f"opset {opset(model)}, at least {least} is needed",
            hint=f"export the model again with opset {QDQ_OPSET} or newer",
        )


def raise_opset(model: ir.Model, least: int = QDQ_OPSET) -> ir.Model:
    """Returns `model` in opset `least`, or as it is when it is that new already; stale shapes are inferred again.

    Raises:
        StepFailed: The converter has no rule for one of its operators, or changed the model's tensors.
    """
    if opset(model) >= least:
        return model
    before = tensor_specs(model)
    proto = ir.to_proto(ir.external_data.load_to_model(model))
    try:
        raised = ir.from_proto(onnx.version_converter.convert_version(proto, least))
    except Exception as error:  # the converter raises RuntimeError and its own kinds
        text = " ".join(str(error).split())[:400]
        raise StepFailed(
            f"opset {opset(model)} could not be raised to {least}: {text}",
            hint=f"export the model again with opset {least} or newer",
        ) from error
    if [s.name for s in tensor_specs(raised)[0]] != [s.name for s in before[0]]:
        raise StepFailed(
            f"raising opset {opset(model)} to {least} changed the inputs of the model",
            hint=f"export the model again with opset {least} or newer",
        )
    settle_ir_version(raised)
    return infer_shapes(raised)


def settle_ir_version(model: ir.Model) -> bool:
    """Gives `model`, in place, the file version its opsets need, and no newer one than runtimes read.

    Returns:
        True when the version was lowered.
    """
    before = model.ir_version
    model.ir_version = max(least_ir_version(model), min(before, WIDELY_READ_IR))
    return model.ir_version < before


def least_ir_version(model: ir.Model) -> int:
    """Returns the oldest ONNX file version that may hold the opsets of `model`."""
    imports = [onnx.helper.make_opsetid(domain, version) for domain, version in model.opset_imports.items()]
    return int(onnx.helper.find_min_ir_version_for(imports, ignore_unknown=True))
