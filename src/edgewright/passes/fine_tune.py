"""Fine-tuning: the weights of a model trained further on labelled samples."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar

from edgewright.core.step import Context
from edgewright.errors import ConfigError, DataError
from edgewright.training.settings import Fit, Regime


@dataclass(frozen=True, slots=True)
class FineTune:
    """inputs["model"] and inputs["data"] (with labels) -> the same graph with trained weights.

    Weights stored as integers become float. Writes `training.json`, too. Batch norm is trained where `clean-up` has not
    folded it: put this pass before it.

    Attributes:
        epochs: Passes over the samples.
        batch: Samples per step.
        learning_rate: The highest that the schedule reaches.
        loss: `cross-entropy`, `mse`, `bce`, or `module:function`, called with (outputs, labels, geometry).
        output: The output that a built-in loss takes; the first when empty.
        smoothing: Of labels, for `cross-entropy`.
        split: Samples to learn from; `train` where there is one, else `calibration`, when empty.
        limit: Use at most so many of them.
        fit: Optimiser, schedule, augmentation and the rest.
    """

    name: ClassVar[str] = "fine-tune"
    version: ClassVar[int] = 2
    requires: ClassVar[tuple[str, ...]] = ("onnx", "onnx-ir", "torch")
    needs: ClassVar[tuple[str, ...]] = ("data", "code")
    trains: ClassVar[bool] = True

    epochs: int = 5
    batch: int = 64
    learning_rate: float = 1e-3
    loss: str = "cross-entropy"
    output: str = ""
    smoothing: float = 0.0
    split: str = ""
    limit: int | None = None
    fit: Fit = field(default_factory=Fit)

    def __post_init__(self) -> None:
        """Refuses what cannot be meant."""
        self._regime()

    def _regime(self) -> Regime:
        return Regime(self.epochs, self.batch, self.learning_rate, self.fit)

    def run(self, inputs: Mapping[str, Path], out: Path, context: Context) -> None:
        from edgewright.data import open_data
        from edgewright.graph.bridge import write_back
        from edgewright.graph.load import load, save, tensor_specs
        from edgewright.graph.qdq import fold_stored_weights
        from edgewright.graph.quantisers import DEQUANTIZE, QUANTIZE
        from edgewright.training.examples import load_examples, split_of
        from edgewright.training.heads import logits_of
        from edgewright.training.loop import fit
        from edgewright.training.networks import open_network
        from edgewright.training.record import write_history
        from edgewright.training.supervised import supervised

        model = load(inputs["model"])
        fold_stored_weights(model.graph)
        if any(node.op_type in (QUANTIZE, DEQUANTIZE) for node in model.graph.all_nodes()):
            raise ConfigError(
                "the model holds integers, whose gradients are zero",
                hint="put `fine-tune` before the pass that quantises, or train with `qat` behind it",
            )
        network = open_network(model, outputs=logits_of(model), fused=True)
        split = split_of(inputs["data"], self.split)
        if not open_data(inputs["data"]).has_labels(split):
            raise DataError(
                f"the samples of [data.{split}] have no labels",
                hint="label them, or learn without labels from a teacher: `distill`",
            )
        specs = tensor_specs(model)[0]
        examples = load_examples(
            inputs["data"], specs, [split], self.limit, context.scratch / "examples", context.progress
        )
        names = [value.name or "" for value in model.graph.outputs]
        objective = supervised(self.loss, network, names, examples, output=self.output, smoothing=self.smoothing)
        history = fit(network, examples, objective, self._regime(), context, keep_start=False)
        write_back(network, model)
        save(model, out)
        write_history(history, out)


plugin = FineTune
