"""What a graph computes from sizes alone is computed once, while it is converted, and not in every step of training.

Exporters write sizes as operators: Shape, Gather, Concat, Reshape. Sizes that the model fixes become numbers; the one
size that it leaves open becomes the -1 of a Reshape. The first axis of an input is open whatever the model says, as it
is the batch.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeAlias

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from edgewright.errors import SourceError
from edgewright.graph.shapes import infer_shapes

Array: TypeAlias = NDArray[Any]
Sizes: TypeAlias = "list[int | None]"
"""Elements of a list of integers; None for those that are not known."""
_MOST = 1 << 16
"""Elements of the largest tensor that is computed in advance."""
_NEVER = frozenset(
    {"QuantizeLinear", "DequantizeLinear", "DynamicQuantizeLinear", "Dropout", "If", "Loop", "Scan", "Constant"}
)
_NUMBERS = frozenset({"Add", "Sub", "Mul", "Div", "Mod"})
_HANDED_ON = frozenset({"Identity", "Cast", "Squeeze", "Unsqueeze"})
"""Operators that keep the elements of a list of integers, in order."""


def inferred_sizes(model: ir.Model) -> dict[str, Sizes]:
    """Returns the sizes of the tensors of `model`, None for those left open; nothing where inference fails.

    What is declared of its outputs is left out: tracing exporters write the sizes of their sample there.
    """
    copy = model.clone()
    for value in copy.graph.inputs:
        if value.shape is not None and len(value.shape) and value.name not in copy.graph.initializers:
            value.shape = ir.Shape([None, *value.shape[1:]])
    declared = {value.name for value in copy.graph.outputs}
    try:
        found = infer_shapes(copy)
    except SourceError:
        return {}
    values = [*found.graph.inputs, *(value for node in found.graph for value in node.outputs)]
    return {
        str(v.name): [d if isinstance(d, int) else None for d in v.shape]
        for v in values
        if v.shape is not None and v.name not in declared
    }


class Folding:
    """Tensors that are known before the model runs; nodes are visited in order.

    Args:
        shapes: Name of a tensor -> its sizes.
        constant: The array of a tensor that training does not change; None for any other.
        evaluate: Computes a node from arrays; None where it cannot.
    """

    def __init__(
        self,
        shapes: Mapping[str, Sizes],
        constant: Callable[[ir.Value], Array | None],
        evaluate: Callable[[ir.Node, Sequence[Array | None]], Array | None],
    ) -> None:
        self._shapes, self._constant, self._evaluate = dict(shapes), constant, evaluate
        self._arrays: dict[ir.Value, Array] = {}
        self._sizes: dict[ir.Value, Sizes] = {}

    def array(self, value: ir.Value) -> Array | None:
        """Returns what `value` always holds, if that was computed here."""
        return self._arrays.get(value)

    def reshaped(self, value: ir.Value) -> list[int] | None:
        """Returns what a Reshape is told by `value` where just one size is open, that one as -1."""
        sizes = self._sizes.get(value)
        if sizes is None or sizes.count(None) != 1 or any(size is not None and size <= 0 for size in sizes):
            return None
        return [-1 if size is None else size for size in sizes]

    def visit(self, node: ir.Node) -> bool:
        """Learns what can be known of the output of `node`; says whether it is known whole."""
        if node.op_type in _NEVER or len(node.outputs) != 1 or not node.inputs:
            return False
        value, sizes = node.outputs[0], self._listed(node)
        if sizes is not None:
            self._sizes[value] = sizes
        self._learn_shape(node)
        result = self._computed(node)
        if result is None and sizes is not None and None not in sizes:
            result = self._from_sizes(node, sizes)
        if result is not None and result.size <= _MOST:
            self._arrays[value] = result
        return value in self._arrays

    def _computed(self, node: ir.Node) -> Array | None:
        arrays = [None if value is None else self._known(value) for value in node.inputs]
        known = all(a is not None for a, value in zip(arrays, node.inputs, strict=True) if value is not None)
        if not known or any(array is not None and array.size > _MOST for array in arrays):
            return None
        return self._evaluate(node, arrays)

    def _from_sizes(self, node: ir.Node, sizes: Sizes) -> Array | None:
        """Sizes that are known though the list they are taken from is not."""
        if node.op_type not in ("Shape", "Gather", "Slice"):
            return None
        places = self._known(node.inputs[1]) if node.op_type == "Gather" and node.inputs[1] is not None else None
        return np.array(sizes, np.int64).reshape(-1 if places is None else places.shape)

    def _known(self, value: ir.Value) -> Array | None:
        return self._arrays[value] if value in self._arrays else self._constant(value)

    def _elements(self, value: ir.Value | None) -> Sizes | None:
        array = None if value is None else self._known(value)
        if array is not None and array.ndim <= 1 and array.dtype.kind == "i" and array.size <= 64:
            return [int(element) for element in array.reshape(-1)]
        return None if value is None else self._sizes.get(value)

    def _listed(self, node: ir.Node) -> Sizes | None:
        """Returns the elements of a list of integers, as far as they are known; of a single number a list of one."""
        lists = [self._elements(value) for value in node.inputs]
        operator = node.op_type
        if operator == "Concat":
            return None if any(part is None for part in lists) else [size for part in lists for size in part or ()]
        if operator in _HANDED_ON:
            return lists[0] if operator != "Cast" or node.attributes.get_int("to", 0) == ir.DataType.INT64 else None
        if operator == "Gather":
            return _gathered(lists[0], lists[1]) if node.attributes.get_int("axis", 0) == 0 else None
        if operator in ("Shape", "Slice"):
            return self._shape(node) if operator == "Shape" else _sliced(lists[0], lists[1:])
        return _open(lists) if operator in _NUMBERS else None

    def _learn_shape(self, node: ir.Node) -> None:
        """Sizes that shape inference does not see, since the graph computes them."""
        name, found = str(node.outputs[0].name), None
        if node.op_type == "Reshape":
            target = self._elements(node.inputs[1])
            found = None if target is None or 0 in target else [None if size == -1 else size for size in target]
        elif node.op_type == "Transpose" and node.inputs[0] is not None:
            before = self._shapes.get(str(node.inputs[0].name))
            ranks = list(range(len(before or ())))[::-1]
            perm = list(node.attributes["perm"].as_ints()) if "perm" in node.attributes else ranks
            found = None if before is None else [before[axis] for axis in perm]
        if found is not None:
            inferred = self._shapes.get(name) or [None] * len(found)
            self._shapes[name] = [a if b is None else b for a, b in zip(found, inferred, strict=True)]

    def _shape(self, node: ir.Node) -> Sizes | None:
        found = None if node.inputs[0] is None else self._shapes.get(str(node.inputs[0].name))
        start, end = (node.attributes[n].as_int() if n in node.attributes else None for n in ("start", "end"))
        return None if found is None else found[slice(start, end)]


def _open(lists: Sequence[Sizes | None]) -> Sizes | None:
    """What comes of numbers of which some are not known: as many as there are, none of them known."""
    lengths = {len(part) for part in lists if part is not None and len(part) != 1}
    if any(part is None for part in lists) or len(lengths) > 1:
        return None
    return [None] * (lengths.pop() if lengths else 1)


def _gathered(sizes: Sizes | None, places: Sizes | None) -> Sizes | None:
    if sizes is None or places is None:
        return None
    chosen = [place for place in places if place is not None and -len(sizes) <= place < len(sizes)]
    return [sizes[place] for place in chosen] if len(chosen) == len(places) else None


def _sliced(sizes: Sizes | None, bounds: Sequence[Sizes | None]) -> Sizes | None:
    numbers = [bound[0] for bound in bounds if bound is not None and len(bound) == 1 and bound[0] is not None]
    if sizes is None or len(numbers) != len(bounds) or len(numbers) < 2 or (len(numbers) > 2 and numbers[2] != 0):
        return None
    return sizes[slice(numbers[0], numbers[1], numbers[3] if len(numbers) > 3 else 1)]
