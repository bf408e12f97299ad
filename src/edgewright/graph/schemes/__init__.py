"""Every scheme as data, one file per runtime: which operators take which integers, and how.

A target chooses among them for a device; `static-int8` takes one, or its name. `lint.lint` holds a quantised graph
against one, `predict.predict` tells before compiling what the runtime will make of it.
"""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from types import MappingProxyType

from edgewright.core.target import Scheme
from edgewright.errors import ConfigError
from edgewright.graph.schemes import coreml, executorch, generic, litert, onnxruntime, openvino, qnn, tensorrt

_ALL: Mapping[str, Scheme] = MappingProxyType(
    {
        s.name: s
        for file in (onnxruntime, openvino, tensorrt, qnn, litert, coreml, executorch, generic)
        for s in file.ALL
    }
)


def names() -> tuple[str, ...]:
    """Returns the names of all schemes, runtime by runtime."""
    return tuple(_ALL)


def find(name: str) -> Scheme:
    """Returns the scheme of that name.

    Raises:
        ConfigError: There is none; the hint lists near names.
    """
    scheme = _ALL.get(name)
    if scheme is None:
        near = difflib.get_close_matches(name, _ALL, n=3, cutoff=0.4)
        hint = f"did you mean {' or '.join(near)}?" if near else f"schemes: {', '.join(_ALL)}"
        raise ConfigError(f'unknown scheme "{name}"', hint=hint)
    return scheme


__all__ = ["find", "names"]
