"""Step `survey`: what can be said of a model before anything is tried, made where the graph libraries are loaded."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar

from edgewright.core.codec import encode_json
from edgewright.core.recipe import StepSpec
from edgewright.core.step import Context


@dataclass(frozen=True, slots=True)
class Survey:
    """What was found.

    Attributes:
        quantized: The model already carries QuantizeLinear and DequantizeLinear.
        refusals: Label of a target -> why it will not take the model; empty when it will.
        operators: Operator -> how many nodes.
    """

    quantized: bool
    refusals: Mapping[str, tuple[str, ...]]
    operators: Mapping[str, int]


@dataclass(frozen=True, slots=True)
class SurveyStep:
    """Asks every target whether it takes the model. Inputs: model. Writes `survey.json`.

    Attributes:
        targets: Label -> name of the target and its own fields: what it refuses may depend on them, as on the memory
            of a board.
    """

    name: ClassVar[str] = "survey"
    version: ClassVar[int] = 2
    requires: ClassVar[tuple[str, ...]] = ("onnx", "onnx-ir", "onnxruntime", "openvino")

    targets: Mapping[str, StepSpec] = field(default_factory=dict)

    def run(self, inputs: Mapping[str, Path], out: Path, context: Context) -> None:
        """Loads the graph once and asks."""
        from edgewright.engine import registry
        from edgewright.graph.load import load

        graph = load(inputs["model"])
        operators: dict[str, int] = {}
        for node in graph.graph:
            operators[node.op_type] = operators.get(node.op_type, 0) + 1
        refusals = {}
        for index, (label, spec) in enumerate(self.targets.items()):
            context.progress(index / len(self.targets), f"asking {label}")
            target = registry.make("targets", spec)
            refusals[label] = tuple(target.refuses(graph))  # type: ignore[attr-defined]
        quantized = "QuantizeLinear" in operators and "DequantizeLinear" in operators
        (out / "survey.json").write_bytes(encode_json(Survey(quantized, refusals, operators)))


plugin = SurveyStep
