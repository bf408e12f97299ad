"""SmoothQuant: the same float function, with outliers of activations moved into the weights."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from edgewright.core.codec import encode_json
from edgewright.core.step import Context
from edgewright.errors import ConfigError

if TYPE_CHECKING:
    import numpy as np
    import onnx_ir
    from numpy.typing import NDArray

    from edgewright.graph.smooth import Group
    from edgewright.passes._feeds import Feeds

NOTES_FILE = "smooth.json"
AUTO = "auto"
ROWS = 512
SAMPLED = 16


@dataclass(frozen=True, slots=True)
class Smooth:
    """inputs["model"] (float, cleaned up), inputs["data"] -> the model with smoothed activations, and `smooth.json`.

    For transformers: activations that MatMul and Gemm read and a layer norm or another linear layer makes (Xiao et al.
    2023). The float result stays the same. An activation that something else reads too, as the residual branch of a
    post-norm encoder does, is left alone, and `smooth.json` says so.

    Attributes:
        alpha: Share of the difficulty that moves into the weights, 0 to 1; `auto` chooses it for every activation by
            the measured error of the products, and does nothing where that lowers none.
        split: Samples to look at.
        limit: Use at most so many of them.
    """

    name: ClassVar[str] = "smooth"
    version: ClassVar[int] = 2
    requires: ClassVar[tuple[str, ...]] = ("onnx", "onnx-ir", "onnxruntime")
    needs: ClassVar[tuple[str, ...]] = ("data",)

    alpha: float | str = AUTO
    split: str = "calibration"
    limit: int | None = 64

    def run(self, inputs: Mapping[str, Path], out: Path, context: Context) -> None:
        from edgewright.graph import qdq
        from edgewright.graph.load import carry_plan, load, save
        from edgewright.graph.shapes import infer_shapes
        from edgewright.graph.smooth import find_groups
        from edgewright.passes._feeds import feeds_of

        self._check()
        model = infer_shapes(load(inputs["model"]))
        if qdq.is_quantised(model.graph):
            raise ConfigError("the model has quantisers already", hint="put `smooth` before `static-int8`")
        qdq.prepare(model)
        groups, left = find_groups(model.graph)
        notes = {}
        if groups:
            feeds = feeds_of(model, inputs["data"], self.split, self.limit)
            notes = self._smooth(model, groups, feeds)
        context.progress(0.9, "saving")
        save(infer_shapes(model), out)
        carry_plan(inputs["model"], out)
        (out / NOTES_FILE).write_bytes(encode_json({"smoothed": notes, "left_alone": left}))

    def _check(self) -> None:
        if self.alpha != AUTO and not (isinstance(self.alpha, float | int) and 0 <= self.alpha <= 1):
            raise ConfigError(f"alpha {self.alpha!r}, expected 0 to 1 or auto", hint="correct the field `alpha`")

    def _smooth(self, model: onnx_ir.Model, groups: tuple[Group, ...], feeds: Feeds) -> dict[str, Any]:
        from edgewright.graph.channels import gather_channels, with_channels
        from edgewright.graph.smooth import best_alpha, factors, smooth
        from edgewright.passes._infer import open_infer

        watched = with_channels(model, {group.tensor: -1 for group in groups})
        seen = gather_channels(open_infer(watched), feeds)
        rows = _rows(model, groups, feeds) if self.alpha == AUTO else {}
        notes: dict[str, Any] = {}
        for group in groups:
            figures = seen[group.tensor]
            alpha, errors = (
                (float(self.alpha), {}) if self.alpha != AUTO else best_alpha(group, figures, rows[group.tensor])
            )
            if alpha is not None:
                smooth(group, factors(group, figures, alpha))
            notes[group.tensor] = {"alpha": alpha, "source": group.source, "relative_errors": dict(errors)}
        return notes


def _rows(model: onnx_ir.Model, groups: tuple[Group, ...], feeds: Feeds) -> dict[str, NDArray[np.float32]]:
    """Returns some values of every activation, [rows, channels]."""
    from edgewright.graph.smooth import sample_rows
    from edgewright.graph.statistics import with_activations
    from edgewright.passes._infer import open_infer

    names = tuple(group.tensor for group in groups)
    infer = open_infer(with_activations(model), outputs=names)
    found: dict[str, list[NDArray[np.float32]]] = {name: [] for name in names}
    for index, (_, feed) in enumerate(feeds):
        if index == SAMPLED:
            break
        for name, array in infer(feed).items():
            found[name].append(sample_rows([array], ROWS // SAMPLED))
    return {name: sample_rows(arrays, ROWS) for name, arrays in found.items()}


plugin = Smooth
