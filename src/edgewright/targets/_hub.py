"""The hub model folder, as a target sees it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import onnx_ir as ir

from edgewright.core.codec import decode_stored
from edgewright.core.target import Plan
from edgewright.core.tensors import TensorSpec
from edgewright.errors import ConfigError, Corrupt
from edgewright.graph.load import PLAN_FILE, load, tensor_specs
from edgewright.graph.names import name_nodes

AUTO = "auto"
PRECISIONS = {
    "f32": "float32",
    "fp32": "float32",
    "float32": "float32",
    "bf16": "bfloat16",
    "bfloat16": "bfloat16",
    "f16": "float16",
    "fp16": "float16",
    "float16": "float16",
}


@dataclass(frozen=True, slots=True, eq=False)
class Hub:
    """A hub model folder, read.

    Attributes:
        model: The graph; every node has a name of its own.
        plan: Its quantisation plan; an empty one where there is none.
        inputs: Tensors to feed.
        outputs: Tensors it gives.
    """

    model: ir.Model
    plan: Plan
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]


def read_hub(folder: Path) -> Hub:
    """Reads `model.onnx` and `plan.json` and names the nodes that have no name.

    Raises:
        SourceError: The model cannot be read.
        Corrupt: The model or the plan is damaged.
    """
    model = load(folder)
    name_nodes(model.graph)
    inputs, outputs = tensor_specs(model)
    return Hub(model, _read_plan(folder), inputs, outputs)


def _read_plan(folder: Path) -> Plan:
    file = folder / PLAN_FILE
    if not folder.is_dir() or not file.is_file():
        return Plan(scheme="")
    try:
        return decode_stored(Plan, file.read_bytes())
    except ValueError as error:
        raise Corrupt(f"{file}: not a quantisation plan: {error}", hint="quantise the model again") from error


def inference_precision(asked: str, hints: Mapping[str, object]) -> str:
    """Returns the float precision to compute in: the step's own field, else the plan's hint, else float32.

    Raises:
        ConfigError: Neither is a precision.
    """
    wanted = asked if asked != AUTO else str(hints.get("inference_precision", "float32"))
    if wanted not in PRECISIONS:
        raise ConfigError(
            f'precision "{wanted}" is unknown', hint=f"one of {AUTO}, {', '.join(sorted(set(PRECISIONS.values())))}"
        )
    return PRECISIONS[wanted]
