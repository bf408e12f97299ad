"""ONNX to OpenVINO's model, through its C++ front end: the Python converter reports to a telemetry service."""

from __future__ import annotations

import re
import tempfile
from pathlib import Path
from typing import Any

from edgewright.graph.load import save
from edgewright.targets._hub import Hub


def convert(openvino: Any, hub: Hub, scratch: Path) -> Any:
    """Returns an `openvino.Model` whose inputs and outputs are in the graph's order and carry its names.

    Args:
        openvino: The module.
        hub: The model, with named nodes.
        scratch: Where a copy of the model may be written.

    Raises:
        RuntimeError: OpenVINO's own error.
    """
    scratch.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=scratch) as folder:
        model = openvino.Core().read_model(save(hub.model, Path(folder)))
    _number(model, hub)
    _name(model.inputs, [spec.name for spec in hub.inputs])
    _name(model.outputs, [spec.name for spec in hub.outputs])
    return model


def _number(model: Any, hub: Hub) -> None:
    """Renumbers names that OpenVINO made up with a counter of its process: equal models give equal files."""
    given = {name for node in hub.model.graph.all_nodes() for name in (node.name, *(v.name for v in node.outputs))}
    for index, op in enumerate(model.get_ordered_ops()):
        name = op.get_friendly_name()
        if name not in given and re.fullmatch(rf"{re.escape(op.get_type_name())}_\d+", name):
            op.set_friendly_name(f"{op.get_type_name()}@{index}")


def _name(ports: list[Any], names: list[str]) -> None:
    if len(ports) != len(names):
        raise RuntimeError(f"expected {len(names)} tensors ({', '.join(names)}), the converted model has {len(ports)}")
    for port, name in zip(ports, names, strict=True):
        if name not in port.get_names():
            raise RuntimeError(
                f'expected the tensor "{name}", the converted model has {sorted(port.get_names())} there'
            )
