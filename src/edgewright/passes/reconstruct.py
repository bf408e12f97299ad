"""Least-squares recovery of a pruned model: every layer solved anew, without gradients or labels."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from edgewright.core.step import Context


@dataclass(frozen=True, slots=True)
class Reconstruct:
    """inputs["model"] (pruned), inputs["teacher"] (what it was made of), inputs["data"] -> the same graph.

    Layer after layer the weights are solved for, so that what is left of a layer gives on the pruned model's own
    features what it gave in the original (He et al. 2017, channel pruning). Takes seconds, and what `distill` learns
    after it starts from a far better place. A layer keeps its weights unless the solution is better on positions that
    did not take part.

    Attributes:
        teacher: A model file; the imported model when empty.
        split: Samples to look at, several joined by `+`; `train` and `unlabelled` where there are any, else
            `calibration`, when empty.
        limit: Use at most so many of each split.
        ridge: Pull towards the weights as they are, relative to the mean square of a layer's inputs.
    """

    name: ClassVar[str] = "reconstruct"
    version: ClassVar[int] = 1
    requires: ClassVar[tuple[str, ...]] = ("onnx", "onnx-ir", "torch")
    needs: ClassVar[tuple[str, ...]] = ("teacher", "data")
    trains: ClassVar[bool] = True

    teacher: str = ""
    split: str = ""
    limit: int | None = 64
    ridge: float = 1e-3

    def run(self, inputs: Mapping[str, Path], out: Path, context: Context) -> None:
        from edgewright.errors import ConfigError
        from edgewright.graph.bridge import write_back
        from edgewright.graph.load import load, save, tensor_specs
        from edgewright.graph.qdq import fold_stored_weights
        from edgewright.training.distillation.distil import splits_of
        from edgewright.training.examples import load_examples
        from edgewright.training.networks import open_network
        from edgewright.training.reconstruction import reconstruct

        model, teacher = load(inputs["model"]), load(inputs["teacher"])
        for each in (model, teacher):
            fold_stored_weights(each.graph)
        specs, splits = tensor_specs(model)[0], splits_of(inputs["data"], self.split)
        examples = load_examples(inputs["data"], specs, splits, self.limit, context.scratch / "examples")
        student, original = open_network(model).eval(), open_network(teacher).eval()
        errors = reconstruct(
            student, original, examples.inputs, ridge=self.ridge, seed=context.seed, progress=context.progress
        )
        if not errors:
            raise ConfigError(
                "no layer of the model is left of a layer of the teacher",
                hint="put `reconstruct` directly behind `prune`, before anything changes the weights",
            )
        write_back(student, model)
        save(model, out)


plugin = Reconstruct
