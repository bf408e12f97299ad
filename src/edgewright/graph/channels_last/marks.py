"""Which order a kept value is stored in, written beside it for whoever compares it with the original."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import onnx_ir as ir

from edgewright.graph.channels_last.layouts import Inner, Layout, restored

PERM = "edgewright.perm"
"""Axis order of a stored value, `0 2 3 1`: `stored = original.transpose(perm)`."""
INNER = "edgewright.inner"
"""JSON [[axis, sizes, order], ...] where an axis is also reordered inside."""
NAME = "edgewright.name"
"""The name under which the original graph had the value, where it had to give it away."""


def mark(value: ir.Value, layout: Layout) -> None:
    """Writes how `value` is stored."""
    value.metadata_props[PERM] = " ".join(str(axis) for axis in layout.order)
    if layout.inner:
        value.metadata_props[INNER] = json.dumps([[p.axis, list(p.sizes), list(p.order)] for p in layout.inner])


def order_of(value: ir.Value) -> tuple[int, ...]:
    """Returns the axis order that `value` is stored in; empty where it is the original's."""
    return tuple(int(axis) for axis in value.metadata_props.get(PERM, "").split())


def original(array: Any, props: Mapping[str, str]) -> Any:
    """Returns what a value held in the original graph.

    Args:
        array: As it is stored.
        props: `metadata_props` of the value.
    """
    if PERM not in props:
        return array
    order = tuple(int(axis) for axis in props[PERM].split())
    inner = tuple(Inner(axis, tuple(sizes), tuple(o)) for axis, sizes, o in json.loads(props.get(INNER, "[]")))
    return restored(array, Layout(order, inner))
