"""Asks OpenVINO's own front end and CPU plugin what they cannot take."""

from __future__ import annotations

import re
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import onnx_ir as ir

from edgewright.targets._intent import QUANTIZERS

_UNCONVERTED = re.compile(r"No conversion rule found for operations: ([^\n]+)")
_CAUSE = re.compile(r"-- Conversion is failed for: ([^\n]+)")


def refusals(openvino: Any, model: ir.Model) -> Iterator[str]:
    """Yields one sentence per node that cannot be converted, or that the CPU plugin does not run.

    The plugin is asked about float graphs only: for quantised ones it would first do most of the work of compiling.
    """
    core = openvino.Core()
    with tempfile.TemporaryDirectory(prefix="edgewright-") as folder:
        file = Path(folder) / "model.onnx"
        ir.save(model, file, external_data="model.data")
        try:
            converted = core.read_model(file)
            if any(node.op_type in QUANTIZERS for node in model.graph):
                return
            supported = set(core.query_model(converted, "CPU"))
        except RuntimeError as error:
            yield from _explained(model, str(error))
            return
    for op in converted.get_ordered_ops():
        if op.get_friendly_name() not in supported:
            yield f'node "{op.get_friendly_name()}": {op.get_type_name()} does not run on OpenVINO\'s CPU plugin'


def _explained(model: ir.Model, error: str) -> Iterator[str]:
    match = _UNCONVERTED.search(error) or _CAUSE.search(error)
    listed = [name.strip() for name in match.group(1).split(",")] if match else []
    wanted = {re.sub(r"-\d+$", "", name) for name in listed}
    found = False
    for node in model.graph.all_nodes():
        shown = f"{node.domain}.{node.op_type}" if node.domain else node.op_type
        if shown in wanted:
            found = True
            yield f'node "{node.name}": OpenVINO has no conversion for {shown}'
    if not found:
        yield f"OpenVINO cannot convert the model: {' '.join(error.split())[:400]}"
