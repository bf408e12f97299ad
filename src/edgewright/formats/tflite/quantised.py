"""Rules for operators between float and scaled integers."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from edgewright.errors import SourceError
from edgewright.formats.tflite.emitter import Emitter
from edgewright.formats.tflite.layouts import Rule
from edgewright.formats.tflite.reader import TfliteOperator


def quantize(e: Emitter, op: TfliteOperator) -> None:
    """QUANTIZE: a float rounded to a tensor's integers, or integers of one scale rounded to those of another."""
    source, target = op.inputs[0], op.outputs[0]
    if not e.tensor(target).scaled:
        raise SourceError(
            f'tensor "{e.tensor(target).name}": QUANTIZE to {e.tensor(target).dtype} without a scale',
            hint="quantise to 8 or 16 bits with a scale",
        )
    first = e.has_first(source)
    e.alias(target, e.rounded(target, e.first(source) if first else e.last(source)), first=first)


def dequantize(e: Emitter, op: TfliteOperator) -> None:
    """DEQUANTIZE: the real value, which is what stands for scaled integers here anyway."""
    source, target = op.inputs[0], op.outputs[0]
    value = e.array(source)
    if value is not None:
        e.fold(target, value.astype(np.float32))
    elif not e.tensor(source).scaled:
        made = e.node("Cast", [e.last(source)], e.tensor(target).name, to=int(ir.DataType.FLOAT))
        e.store(target, made, first=False)
    elif e.has_first(source):
        e.alias(target, e.first(source), first=True)
    else:
        e.alias(target, e.last(source), first=False)


RULES: dict[str, Rule] = {"QUANTIZE": quantize, "DEQUANTIZE": dequantize}
