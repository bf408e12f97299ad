"""Rules about activations, normalisations and gates."""

from __future__ import annotations

from collections.abc import Iterator

import onnx_ir as ir

from edgewright.graph.risks.sight import Hit, Sight
from edgewright.graph.schemes.predict import INTEGER

NORMALISATIONS = (
    *("LayerNormalization", "RMSNormalization", "InstanceNormalization", "GroupNormalization"),
    *("MeanVarianceNormalization", "LRN", "LpNormalization"),
)
CURVES = ("Softplus", "Mish", "Selu", "Celu", "Elu", "Softsign", "ThresholdedRelu", "Swish", "Erf", "Exp", "Log")
RECURRENT = ("LSTM", "GRU", "RNN")


def silu(sight: Sight) -> Iterator[Hit]:
    """X * sigmoid(x), as one operator or two."""
    for node in sight.having("Mul"):
        gate = _gate(node, "Sigmoid")
        if gate is not None:
            yield Hit((node.name or "",), _how(sight, node, gate))
    yield from (Hit((node.name or "",), "runs in float") for node in sight.having("Swish"))


def gelu(sight: Sight) -> Iterator[Hit]:
    """Gelu, and the Erf that it is written out with."""
    for node in sight.having("Gelu", "Erf"):
        if not _integer(sight, node):
            yield Hit((node.name or "",), "runs in float")


def hard_swish(sight: Sight) -> Iterator[Hit]:
    """HardSwish, as one operator or two, where the runtime has no integer kernel for it."""
    for node in sight.having("HardSwish"):
        if not _integer(sight, node):
            yield Hit((node.name or "",), "runs in float")
    for node in sight.having("Mul"):
        gate = _gate(node, "HardSigmoid")
        if gate is not None and not (_integer(sight, gate) and _integer(sight, node)):
            yield Hit((node.name or "",), "runs in float")


def curves(sight: Sight) -> Iterator[Hit]:
    """Activations that few runtimes compute in integers."""
    for node in sight.having(*(op for op in CURVES if op not in ("Swish", "Erf"))):
        if not _integer(sight, node):
            yield Hit((node.name or "",), f"{node.op_type} runs in float")


def normalisations(sight: Sight) -> Iterator[Hit]:
    """Normalisations that are computed from the data itself."""
    for node in sight.having(*NORMALISATIONS):
        if not _integer(sight, node):
            yield Hit((node.name or "",), f"{node.op_type} runs in float")
    for node in sight.having("Sqrt"):
        if "ReduceMean" in _makers(node, 2):
            yield Hit((node.name or "",), "a normalisation written out in single operators runs in float")


def batch_norms(sight: Sight) -> Iterator[Hit]:
    """Batch norms that clean-up could not fold into a convolution before them."""
    for node in sight.having("BatchNormalization"):
        before = node.inputs[0].producer() if node.inputs[0] is not None else None
        yield Hit((node.name or "",), f"it follows {before.op_type}" if before is not None else "it follows the input")


def softmax_axes(sight: Sight) -> Iterator[Hit]:
    """Softmax over another axis than the last one."""
    for node in sight.having("Softmax", "LogSoftmax"):
        rank = len(node.inputs[0].shape) if node.inputs[0] is not None and node.inputs[0].shape is not None else 0
        axis = node.attributes.get_int("axis", -1)
        if rank and axis is not None and axis % rank != rank - 1:
            yield Hit((node.name or "",), f"over axis {axis % rank} of {rank}")


def recurrent(sight: Sight) -> Iterator[Hit]:
    """Recurrent layers, which no scheme here quantises statically."""
    for node in sight.having(*RECURRENT):
        yield Hit((node.name or "",), f"{node.op_type} runs in float")


def _gate(node: ir.Node, op: str) -> ir.Node | None:
    """Returns the operator `op` that a Mul multiplies its own input by."""
    for one, other in (tuple(node.inputs), tuple(reversed(node.inputs))):
        made = one.producer() if one is not None else None
        if made is not None and made.op_type == op and made.inputs[0] is other:
            return made
    return None


def _integer(sight: Sight, node: ir.Node) -> bool:
    return sight.kinds.get(node.name or "") == INTEGER


def _how(sight: Sight, node: ir.Node, gate: ir.Node) -> str:
    both = [_integer(sight, gate), _integer(sight, node)]
    return "two roundings to 8 bits" if all(both) else "runs in float" if not any(both) else "partly runs in float"


def _makers(node: ir.Node, depth: int) -> set[str]:
    """Returns the operators up to `depth` steps before `node`."""
    before = [made for value in node.inputs if value is not None and (made := value.producer()) is not None]
    found = {made.op_type for made in before}
    return found.union(*(_makers(made, depth - 1) for made in before)) if depth > 1 and before else found
