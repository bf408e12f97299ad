"""An ONNX model as a network that can be trained."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import onnx_ir as ir
import torch
from onnx_ir.passes.common import LiftConstantsToInitializersPass
from torch import Tensor, fx

from edgewright.errors import ConfigError
from edgewright.graph.batch import batch_of, free_batch
from edgewright.graph.bridge import fuse, to_torch, untie
from edgewright.graph.initializers import add_initializer
from edgewright.graph.load import tensor_specs
from edgewright.training.norms import make_trainable

_NARROW = (ir.DataType.FLOAT16, ir.DataType.BFLOAT16)
_ROLES = ("", "scale", "offset", "mean", "variance")
"""Inputs of BatchNormalization."""


def open_network(model: ir.Model, *, outputs: Sequence[str] | None = None, fused: bool = False) -> fx.GraphModule:
    """Converts `model` for training: it takes any number of samples, and its batch norm is trainable.

    Where the graph only works for the batch it was exported with, samples go through it one by one, batch norm with
    stored statistics.

    Args:
        model: Changed by `own_weights`; `bridge.write_back(network, model)` brings the trained weights into it.
        outputs: Names of the tensors that the network returns, such as `heads.logits_of(model)`.
        fused: Compute attention and the like by one operator of PyTorch each (`bridge.fuse`): faster, and tensors
            inside of them have no name.

    Raises:
        SourceError: An operator cannot be converted; the message names its node. Nothing has been trained then.
        ConfigError: The weights are in 16 bits, or the batch is fixed to more than one sample.
    """
    narrow = [v.name for g in model.graphs() for v in g.initializers.values() if v.dtype in _NARROW and v.shape]
    if narrow:
        raise ConfigError(
            f"{len(narrow)} weights are stored in 16 bits, {narrow[0]} among them",
            hint="train the float32 model, and put `fp16` or `bf16` behind the pass that trains",
        )
    own_weights(model)
    fixed, free = batch_of(model), free_batch(model)
    if fixed is None or free is not None:
        network = to_torch(free or model, outputs=outputs)
        make_trainable(network)
        if fused:
            fuse(network)
        if fixed is None or _same_alone(network, model):
            return network
    return _one_by_one(to_torch(model, outputs=outputs), fixed)


def own_weights(model: ir.Model) -> None:
    """Stores what training changes as initialisers that can change for themselves, in place.

    Weights in Constant nodes become initialisers. Exporters store equal tensors once; each BatchNormalization gets
    its own, since its statistics will differ.
    """
    LiftConstantsToInitializersPass(size_limit=2)(model)
    untie(model)
    taken: set[int] = set()
    for node in model.graph:
        if node.op_type == "BatchNormalization" and node.domain in ("", "ai.onnx"):
            for index in range(1, min(len(node.inputs), 5)):
                _own(model.graph, node, index, taken)


def _own(graph: ir.Graph, node: ir.Node, index: int, taken: set[int]) -> None:
    given = node.inputs[index]
    stored = given
    while stored is not None and (before := stored.producer()) is not None and before.op_type == "Identity":
        stored = before.inputs[0]
    if given is None or stored is None or stored.const_value is None:
        return
    if stored is not given or id(stored) in taken:
        name = f"{node.name or node.outputs[0].name}.{_ROLES[index]}"
        stored = add_initializer(graph, name, stored.const_value.numpy())
        node.replace_input_with(index, stored)
    taken.add(id(stored))


def _same_alone(network: fx.GraphModule, model: ir.Model) -> bool:
    """Tells whether samples give the same together as alone; True where that cannot be tried."""
    samples = [_samples(spec.shape[1:], spec.dtype) for spec in tensor_specs(model)[0]]
    if any(sample is None for sample in samples):
        return True
    given = [sample for sample in samples if sample is not None]
    try:
        with torch.no_grad():
            together = network.eval()(*given)
            alone = [network(*(tensor[i : i + 1] for tensor in given)) for i in range(2)]
    except (RuntimeError, IndexError, ValueError):
        return False
    pairs = zip(together, zip(*alone, strict=True), strict=True)
    return all(a.shape[:1] == (2,) and torch.allclose(a, torch.cat(b), 1e-3, 1e-4) for a, b in pairs)


def _samples(shape: Sequence[int | str], dtype: str) -> Tensor | None:
    """Returns two different samples, None where an axis is open."""
    sizes = [size for size in shape if isinstance(size, int)]
    if len(sizes) < len(shape):
        return None
    kind = getattr(torch, dtype)
    drawn = torch.rand(2, *sizes, generator=torch.Generator().manual_seed(0))
    return drawn.to(kind) if kind.is_floating_point else (drawn > 0.5).to(kind)


def _one_by_one(network: fx.GraphModule, size: int | None) -> fx.GraphModule:
    if size != 1:
        raise ConfigError(
            f"the model takes batches of {size} only, and its graph does not work for others",
            hint="export it with a free batch axis, or for one sample",
        )
    whole: Callable[..., tuple[Tensor, ...]] = network.forward

    def forward(*inputs: Tensor) -> tuple[Tensor, ...]:
        rows = [whole(*(tensor[i : i + 1] for tensor in inputs)) for i in range(len(inputs[0]))]
        return tuple(torch.cat(parts) for parts in zip(*rows, strict=True))

    object.__setattr__(network, "forward", forward)
    return network
