"""An ONNX model as a network that can be trained."""

from __future__ import annotations

from collections.abc import Sequence

import onnx_ir as ir
from torch import fx

from edgewright.errors import ConfigError
from edgewright.graph.bridge import to_torch
from edgewright.training.norms import make_trainable

_NARROW = (ir.DataType.FLOAT16, ir.DataType.BFLOAT16)


def open_network(model: ir.Model, *, outputs: Sequence[str] | None = None) -> fx.GraphModule:
    """Converts `model` for training: batch norm is trainable, everything else is as `bridge.to_torch` makes it.

    Args:
        model: Left as it is; `bridge.write_back(network, model)` brings the trained weights into it.
        outputs: Names of the tensors that the network returns, such as `heads.logits_of(model)`.

    Raises:
        SourceError: An operator cannot be converted; the message names its node. Nothing has been trained then.
        ConfigError: The weights are in 16 bits.
    """
    narrow = [v.name for g in model.graphs() for v in g.initializers.values() if v.dtype in _NARROW and v.shape]
    if narrow:
        raise ConfigError(
            f"{len(narrow)} weights are stored in 16 bits, {narrow[0]} among them",
            hint="train the float32 model, and put `fp16` or `bf16` behind the pass that trains",
        )
    network = to_torch(model, outputs=outputs)
    make_trainable(network)
    return network
