"""In which precision the written program asks for each operation; where it runs, Core ML decides on the device."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from edgewright.core.target import NodePlacement
from edgewright.targets._coreml.program import Operation, Program

WHERE = "chosen by Core ML"
CONVERSIONS = frozenset({"quantize", "dequantize", "cast"})
_MOVES = frozenset(
    {"reshape", "transpose", "concat", "slice_by_index", "slice_by_size", "split", "squeeze", "expand_dims", "max_pool"}
    | {"pad", "tile", "stack", "depth_to_space", "space_to_depth", "pixel_shuffle", "reverse", "gather"}
    | {"upsample_nearest_neighbor", "identity"}
)
_ACTIVATIONS = frozenset({"relu", "relu6", "clip", "leaky_relu", "sigmoid", "silu", "tanh", "gelu", "elu", "prelu"})
_PRODUCTS = frozenset({"conv", "conv_transpose", "linear", "matmul", "add"})
_STORED = frozenset({"constexpr_affine_dequantize", "constexpr_blockwise_shift_scale"})
_CONSTANT = ("const", "constexpr_")


def placement(program: Program, sources: Mapping[str, tuple[str, ...]]) -> tuple[NodePlacement, ...]:
    """Returns every operation that computes, with the precision that the program gives it.

    Args:
        program: As read back from the package.
        sources: Name of an operation -> names of the model's nodes it was made from.
    """
    flow = _Flow(program)
    return tuple(
        NodePlacement(o.name, o.op, WHERE, flow.precision(o), sources.get(o.name, ()))
        for o in program.operations
        if not o.op.startswith(_CONSTANT)
    )


class _Flow:
    """Who makes and who reads each value."""

    def __init__(self, program: Program) -> None:
        self._makers = {name: o for o in program.operations for name, _, _ in o.outputs}
        self._readers: dict[str, list[Operation]] = {}
        for operation in program.operations:
            for name in _reads(operation):
                self._readers.setdefault(name, []).append(operation)

    def precision(self, operation: Operation) -> str:
        if operation.op in CONVERSIONS:
            return "conversion"
        dtype = operation.outputs[0][1]
        if not dtype.startswith("float"):
            return "integer"
        if not (self._from_integers(operation) and self._to_integers(operation)):
            return dtype
        return "integer" if operation.op in _MOVES else "int8"

    def _from_integers(self, operation: Operation) -> bool:
        made = [self._makers.get(name) for name in _reads(operation)]
        varying = [o for o in made if o is None or not o.op.startswith(_CONSTANT)]
        weights = [o for o in made if o is not None and o.op in _STORED]
        if operation.op in ("conv", "conv_transpose", "linear") and not weights:
            return False
        return bool(varying) and all(self._is_integers(maker, operation) for maker in varying)

    def _is_integers(self, maker: Operation | None, reader: Operation) -> bool:
        if maker is None:
            return False
        if maker.op == "dequantize":
            return True
        joined = maker.op in _MOVES or (maker.op in _PRODUCTS and reader.op in _ACTIVATIONS)
        return joined and self._from_integers(maker)

    def _to_integers(self, operation: Operation) -> bool:
        name = operation.outputs[0][0]
        readers = self._readers.get(name, [])
        return bool(readers) and all(
            r.op == "quantize" or (r.op in _ACTIVATIONS | _MOVES and self._to_integers(r)) for r in readers
        )


def _reads(operation: Operation) -> Iterable[str]:
    return [value for values in operation.inputs.values() for value in values if isinstance(value, str)]
