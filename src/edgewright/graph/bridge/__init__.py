"""The bridge: an ONNX model as a PyTorch module, where gradients or a PyTorch-only converter are needed.

Every ONNX node becomes one call of a function written in PyTorch (`operators/`), every initialiser a parameter or
buffer of the same name. Nothing here calls another runtime, and PyTorch is imported only when a model is converted.

```python
module = to_torch(model)
(logits,) = module(images)
write_back(module, model)  # what was trained, into the ONNX model
```
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from edgewright.errors import ToolchainMissing

if TYPE_CHECKING:
    import numpy as np
    import onnx_ir as ir
    import torch

__all__ = ["claims", "fuse", "oldest_opset", "run", "subgraph", "to_torch", "untie", "write_back"]


def to_torch(
    model: ir.Model,
    *,
    inputs: Sequence[str] | None = None,
    outputs: Sequence[str] | None = None,
    straight_through: bool = False,
) -> torch.fx.GraphModule:
    """Converts `model`, or the part of it between two sets of tensors, into a PyTorch module.

    The module takes the tensors `inputs` by position and always returns a tuple, one tensor per name of `outputs`.
    Sizes that the model leaves open stay open. Initialisers are parameters where training may change them (floating,
    at least one axis), buffers otherwise; the path of each is its ONNX name, so that two conversions and two parts of
    one model share a `state_dict`. `module.meta` holds the names: `inputs`, `outputs`, and `initialisers`, a
    dictionary from ONNX name to path. Each fx node carries the name of its tensor in `node.meta["tensor"]`.

    Args:
        model: Read only; its functions are inlined in a copy.
        inputs: Names of the tensors given; the model's own inputs when None.
        outputs: Names of the tensors returned; the model's own outputs when None.
        straight_through: QuantizeLinear puts out floating numbers, so that gradients pass the pairs of QuantizeLinear
            and DequantizeLinear as if they did not round.

    Raises:
        SourceError: A node's operator, opset, attribute or element type is not claimed; a tensor does not exist or
            cannot be computed from `inputs`. Nothing has run then.
        ToolchainMissing: PyTorch is not installed.
    """
    _require_torch()
    from edgewright.graph.bridge.convert import convert

    return convert(model, inputs, outputs, straight_through=straight_through)


def subgraph(module: torch.fx.GraphModule, inputs: Sequence[str], outputs: Sequence[str]) -> torch.fx.GraphModule:
    """Returns the part of a converted `module` that computes `outputs` from `inputs`; parameters are shared with it.

    Args:
        module: What `to_torch` returned.
        inputs: ONNX names of the tensors given, in the order of the new module's arguments.
        outputs: ONNX names of the tensors returned.

    Raises:
        SourceError: A name is not a tensor of `module`, or an output also depends on an input not listed.
    """
    from edgewright.graph.bridge.parts import part

    return part(module, inputs, outputs)


def run(module: torch.fx.GraphModule, feeds: Mapping[str, np.ndarray[Any, Any]]) -> dict[str, np.ndarray[Any, Any]]:
    """Runs `module` without gradients on arrays by name.

    Args:
        module: What `to_torch` or `subgraph` returned.
        feeds: ONNX name of each input -> array.

    Returns:
        ONNX name of each output -> array.

    Raises:
        SourceError: An input is missing.
    """
    from edgewright.graph.bridge.parts import run_arrays

    return run_arrays(module, feeds)


def fuse(module: torch.fx.GraphModule) -> int:
    """Replaces chains of operators by the one that PyTorch has for them, in place: GELU and attention.

    Tensors inside such a chain have no name any more; those that are outputs of the module, or read elsewhere, stay.
    Results change by no more than rounding.

    Returns:
        How many chains.
    """
    from edgewright.graph.bridge.fusing import fuse_chains

    return fuse_chains(module)


def untie(model: ir.Model) -> tuple[str, ...]:
    """Gives layers copies of their own of vectors that were stored once only because they were equal, in place.

    Exporters store the scales of ones and biases of zeros of a new network once for all layers; trained like that,
    they would stay one. Weights with two axes and more, such as tied embeddings, and the vectors of layers that share
    such weights stay one initialiser. What the model computes does not change.

    Returns:
        Names of the initialisers added.
    """
    from edgewright.graph.bridge.tied import untie_equal

    return untie_equal(model)


def write_back(module: torch.fx.GraphModule, model: ir.Model, *, reshape: bool = False) -> tuple[str, ...]:
    """Copies the parameters and buffers of `module` into the initialisers of `model`, in place.

    Args:
        module: What `to_torch` or `subgraph` returned, trained.
        model: The model that was converted.
        reshape: Other shapes are taken too, as when channels were removed; what the graph says of shapes is inferred
            anew, and the number of axes of inputs and outputs stays.

    Returns:
        Names of the initialisers whose values changed.

    Raises:
        SourceError: An initialiser of the module is not in `model`; or it has another shape there, and `reshape` is
            not given or the graph contradicts itself with the new shapes. The model is then left as it was.
    """
    from edgewright.graph.bridge.parts import write_parameters

    return write_parameters(module, model, reshape=reshape)


def claims() -> frozenset[str]:
    """Returns the names of the operators of the standard domain that the bridge converts.

    Raises:
        ToolchainMissing: PyTorch is not installed.
    """
    _require_torch()
    from edgewright.graph.bridge.operators import CONTROL, OPERATORS

    return frozenset(OPERATORS) | frozenset(CONTROL)


def oldest_opset(operator: str) -> int:
    """Returns the first opset at which the bridge converts `operator`, one of `claims()`.

    The newest is the newest one that the installed `onnx` package knows.
    """
    _require_torch()
    from edgewright.graph.bridge.operators import oldest

    return oldest(operator)


def _require_torch() -> None:
    try:
        import torch  # noqa: F401
    except ImportError as error:
        raise ToolchainMissing(
            f"an ONNX model is converted to PyTorch with torch, which cannot be imported: {error}",
            hint='pip install "edgewright[torch]"',
        ) from error
