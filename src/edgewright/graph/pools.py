"""Parallel max pools over one tensor (spatial pyramid pooling), the larger computed from the smaller.

The maximum over 9 x 9 is the maximum over 5 x 5 of maxima over 5 x 5, exactly; the pyramid 5, 9, 13 then reads 75
values per output instead of 275. The identity needs stride 1 and "same" padding, where padding never wins.
"""

from __future__ import annotations

import itertools

import onnx_ir as ir


def cascade_max_pools(graph: ir.Graph) -> int:
    """Rewires every pyramid found, in place.

    Returns:
        How many pools were made smaller.
    """
    pools: dict[int, list[tuple[int, ir.Node]]] = {}
    for node in graph:
        if (size := _size(node)) is not None and node.inputs[0] is not None:
            pools.setdefault(id(node.inputs[0]), []).append((size, node))
    return sum(_cascade(sorted(each, key=lambda pair: pair[0])) for each in pools.values())


def _cascade(pools: list[tuple[int, ir.Node]]) -> int:
    count = 0
    for (smaller, before), (larger, node) in itertools.pairwise(pools):
        rest = larger - smaller + 1
        if rest < larger and rest > 1:
            node.replace_input_with(0, before.outputs[0])
            node.attributes["kernel_shape"] = ir.AttrInt64s("kernel_shape", [rest, rest])
            node.attributes["pads"] = ir.AttrInt64s("pads", [rest // 2] * 4)
            count += 1
    return count


def _size(node: ir.Node) -> int | None:
    """Returns the side of a square, odd, stride-1 max pool that keeps the size of its input, else None."""
    if node.op_type != "MaxPool" or node.domain or len(node.outputs) != 1:
        return None
    plain = {"kernel_shape", "strides", "pads", "ceil_mode", "dilations", "auto_pad", "storage_order"}
    kernel = tuple(node.attributes.get_ints("kernel_shape") or ())
    if not plain.issuperset(node.attributes) or len(kernel) != 2 or kernel[0] != kernel[1] or kernel[0] % 2 == 0:
        return None
    ones = all(set(node.attributes.get_ints(name, (1, 1)) or (1,)) == {1} for name in ("strides", "dilations"))
    padded = tuple(node.attributes.get_ints("pads", (0, 0, 0, 0)) or ()) == (kernel[0] // 2,) * 4
    explicit = node.attributes.get_string("auto_pad", "NOTSET") == "NOTSET"
    return kernel[0] if ones and padded and explicit else None
