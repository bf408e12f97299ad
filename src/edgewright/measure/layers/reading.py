"""How inner tensors of an ONNX model are read without changing the kernels that ONNX Runtime runs.

A quantised tensor is read behind its quantiser: there the integers leave the fused kernel. A float tensor is read only
where the runtime still has it after fusing. Whether the kernels stay the same is then checked, not assumed.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import onnx
import onnx_ir as ir

from edgewright.core.target import Artifact
from edgewright.graph.load import save
from edgewright.graph.quantisers import DEQUANTIZE, QUANTIZE
from edgewright.measure.layers.sides import Tap
from edgewright.measure.layers.taps import integers_of, taps
from edgewright.runtimes._capture import fused_by_onnxruntime

FUSED_AWAY = "fused: the runtime computes it inside another kernel"
_CONVERSIONS = ("QuantizeLinear", "DequantizeLinear", "Constant", "Identity")
"""May be added for reading without harm."""


@dataclass(frozen=True, slots=True, eq=False)
class Reading:
    """What is read, and from which form of the model.

    Attributes:
        model: Computes the same as the artifact, in the same kernels.
        taps: What can be read.
        hidden: Tensor -> why it cannot.
        notes: Empty unless reading does change the kernels.
    """

    model: ir.Model
    taps: tuple[Tap, ...]
    hidden: Mapping[str, str] = field(default_factory=dict)
    notes: tuple[str, ...] = ()


def find_reading(model: ir.Model, artifact: Artifact, scratch: Path) -> Reading:
    """Returns the fullest reading that leaves the kernels as they are.

    Args:
        model: Of the artifact, with types and named nodes.
        artifact: Its description.
        scratch: An empty folder.

    Raises:
        StepFailed: ONNX Runtime cannot load the model.
    """
    fuse = _Fuse(artifact, scratch)
    wanted = _kernels(fuse(model))
    every = taps(model, artifact.placement)
    last = Reading(model, every)
    for form, kept in _attempts(model, artifact, fuse):
        if any(tap.integers for tap in every) and not any(tap.integers for tap in kept):
            continue
        changed = _kernels(fuse(with_outputs(form, kept))) - wanted
        present = {tap.source for tap in kept}
        hidden = {tap.tensor: FUSED_AWAY for tap in every if tap.source not in present}
        note = f"reading inner tensors makes ONNX Runtime run other kernels: {dict(changed)}"
        last = Reading(form, kept, hidden, (note,) if changed else ())
        if not changed:
            return last
    return last


def _attempts(model: ir.Model, artifact: Artifact, fuse: _Fuse) -> Iterator[tuple[ir.Model, tuple[Tap, ...]]]:
    own = {v.name for v in model.graph.outputs}
    for form in (model, as_unsigned(model)):
        alive = {name for node in fuse(form).graph.node for name in node.output} | own
        kept = tuple(tap for tap in taps(form, artifact.placement) if tap.source in alive)
        yield form, kept
        yield form, tuple(tap for tap in kept if tap.integers or tap.source in own)


@dataclass(slots=True)
class _Fuse:
    artifact: Artifact
    scratch: Path
    count: int = 0

    def __call__(self, model: ir.Model) -> onnx.ModelProto:
        self.count += 1
        folder = self.scratch / f"fused-{self.count}"
        folder.mkdir(parents=True)
        path = save(model.clone(), folder)
        return onnx.load(fused_by_onnxruntime(path, self.artifact.session, folder), load_external_data=False)


def _kernels(model: onnx.ModelProto) -> Counter[str]:
    return Counter(node.op_type for node in model.graph.node if node.op_type not in _CONVERSIONS)


def with_outputs(model: ir.Model, taps: Sequence[Tap]) -> ir.Model:
    """Returns a copy of `model` with the sources of `taps` as outputs behind its own."""
    copy = model.clone()
    present = {v.name for v in copy.graph.outputs}
    values = {v.name: v for node in copy.graph for v in node.outputs}
    copy.graph.outputs.extend(values[tap.source] for tap in taps if tap.source not in present)
    return copy


def as_unsigned(model: ir.Model) -> ir.Model:
    """Returns a copy whose int8 activations are uint8, every integer 128 higher: the same real values.

    ONNX Runtime does this itself on x86 and gives the tensors names of its own, so they could not be read otherwise.
    """
    copy = model.clone()
    graph = copy.graph
    for node in list(graph):
        found = integers_of(node) if node.op_type == QUANTIZE else None
        readers = [use.node for use in node.outputs[0].uses()]
        if found is None or found.dtype != "int8" or any(reader.op_type != DEQUANTIZE for reader in readers):
            continue
        zeros = np.asarray(found.zero_point, np.int64) + 128
        shape = () if found.axis is None else (len(zeros),)
        name = f"{node.outputs[0].name}/unsigned_zero_point"
        tensor = ir.tensor(zeros.astype(np.uint8).reshape(shape), name=name)
        value = ir.Value(name=name, const_value=tensor, shape=ir.Shape(shape), type=ir.TensorType(tensor.dtype))
        graph.register_initializer(value)
        for reader in (node, *readers):
            reader.replace_input_with(2, value)
        node.outputs[0].type = ir.TensorType(ir.DataType.UINT8)  # a clone shares its types with the original
    return copy
