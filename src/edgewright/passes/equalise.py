"""Cross-layer equalisation: the same float function, with weights that fit one scale."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import ClassVar

from edgewright.core.codec import encode_json
from edgewright.core.step import Context
from edgewright.errors import ConfigError

NOTES_FILE = "equalise.json"


@dataclass(frozen=True, slots=True)
class Equalise:
    """inputs["model"] (float, cleaned up), inputs["data"] -> the model with equalised weights, and `equalise.json`.

    Channels are rescaled between neighbouring Conv and Gemm operators, depthwise ones included, until their weights
    share one range (Nagel et al. 2019). The float result stays the same. Between them may stand Relu, LeakyRelu, PRelu,
    pools and Clip(0, limit); HardSwish, SiLU and the like do not scale and are left alone, and `equalise.json` says so.
    What samples decide (whether a Clip is ever reached, how much of a bias to absorb) is exact on those samples and an
    approximation beyond them.

    Attributes:
        clip: `keep` scales as far as a Clip allows, `bounds` gives every channel its own limit (exact, but one more
            operator that runtimes compute in float), `relu` drops the limit.
        absorb: Move the part of a bias that every sample exceeds behind the Relu, into the next layer.
        split: Samples to look at.
        limit: Use at most so many of them.
    """

    name: ClassVar[str] = "equalise"
    version: ClassVar[int] = 2
    requires: ClassVar[tuple[str, ...]] = ("onnx", "onnx-ir", "onnxruntime")
    needs: ClassVar[tuple[str, ...]] = ("data",)

    clip: str = "keep"
    absorb: bool = True
    split: str = "calibration"
    limit: int | None = 64

    def run(self, inputs: Mapping[str, Path], out: Path, context: Context) -> None:
        from edgewright.graph import equalise, qdq
        from edgewright.graph.channels import gather_channels, with_channels
        from edgewright.graph.links import find_links
        from edgewright.graph.load import carry_plan, load, save
        from edgewright.graph.shapes import infer_shapes
        from edgewright.passes._feeds import feeds_of
        from edgewright.passes._infer import open_infer

        model = infer_shapes(load(inputs["model"]))
        if qdq.is_quantised(model.graph):
            raise ConfigError("the model has quantisers already", hint="put `equalise` before `static-int8`")
        qdq.prepare(model)
        links, left = find_links(model.graph)
        notes = equalise.Equalised({}, {}, {})
        if links:
            watched = with_channels(model, {link.tensor: 1 for link in links})
            seen = gather_channels(open_infer(watched), feeds_of(model, inputs["data"], self.split, self.limit))
            context.progress(0.7, f"{len(links)} pairs of layers")
            notes = equalise.equalise(model.graph, links, seen, self.clip, self.absorb)
        save(infer_shapes(model), out)
        carry_plan(inputs["model"], out)
        (out / NOTES_FILE).write_bytes(encode_json({**asdict(notes), "left_alone": left}))


plugin = Equalise
