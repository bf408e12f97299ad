"""Parts of a converted module, its tensors by name, and the way back into the ONNX model."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import onnx_ir as ir
import torch
from torch import fx

from edgewright.errors import SourceError
from edgewright.graph.bridge.elements import to_array, to_tensor
from edgewright.graph.bridge.paths import tensor_at
from edgewright.graph.shapes import infer_shapes, refresh_shapes


def part(module: fx.GraphModule, inputs: Sequence[str], outputs: Sequence[str]) -> fx.GraphModule:
    """Does what `edgewright.graph.bridge.subgraph` says."""
    by_name = {node.meta["tensor"]: node for node in module.graph.nodes if "tensor" in node.meta}
    for name in (*inputs, *outputs):
        if name not in by_name:
            raise SourceError(
                f"the module has no tensor {name!r}", hint="name a tensor that the ONNX model computes or is given"
            )
    needed = _ancestors([by_name[name] for name in outputs], {by_name[name] for name in inputs})
    graph = fx.Graph()
    copies: dict[fx.Node, fx.Node] = {}
    for name in inputs:
        copies[by_name[name]] = copy = graph.placeholder(by_name[name].name)
        copy.meta.update(by_name[name].meta)
    for node in module.graph.nodes:
        if node not in needed or node in copies:
            continue
        if node.op == "placeholder":
            raise SourceError(
                f"{list(outputs)} cannot be computed from {list(inputs)}: {node.meta['tensor']} is missing",
                hint=f"name {node.meta['tensor']} among the inputs",
            )
        copies[node] = graph.node_copy(node, lambda n: copies[n])
    graph.output(tuple(copies[by_name[name]] for name in outputs))
    graph.lint()
    return _module(module, graph, inputs, outputs)


def run_arrays(module: fx.GraphModule, feeds: Mapping[str, np.ndarray[Any, Any]]) -> dict[str, np.ndarray[Any, Any]]:
    """Does what `edgewright.graph.bridge.run` says."""
    missing = [name for name in module.meta["inputs"] if name not in feeds]
    if missing:
        raise SourceError(f"no array for input {', '.join(missing)}", hint="give one array for each input")
    with torch.no_grad():
        results = module(*(to_tensor(np.asarray(feeds[name])) for name in module.meta["inputs"]))
    return {name: to_array(value) for name, value in zip(module.meta["outputs"], results, strict=True)}


def write_parameters(module: fx.GraphModule, model: ir.Model, *, reshape: bool) -> tuple[str, ...]:
    """Does what `edgewright.graph.bridge.write_back` says."""
    homes = {name: value for graph in model.graphs() for name, value in graph.initializers.items()}
    arrays = {name: _written(module, name, path, homes, reshape=reshape) for name, path in initialisers(module).items()}
    before = {name: homes[name].const_value for name in arrays}
    changed = [name for name, array in arrays.items() if not _same(array, before[name])]
    for name in changed:
        _put(homes[name], arrays[name])
    resized = [name for name in changed if tuple(_stored(before[name]).shape) != arrays[name].shape]
    if resized:
        try:
            infer_shapes(model.clone(), strict=True)
            refresh_shapes(model)
        except SourceError:
            for name in changed:
                _put(homes[name], _stored(before[name]).numpy())
            raise
    return tuple(changed)


def _written(
    module: fx.GraphModule, name: str, path: str, homes: Mapping[str, ir.Value], *, reshape: bool
) -> np.ndarray[Any, Any]:
    """Returns an initialiser of the module as the model will store it."""
    if name not in homes or homes[name].const_value is None:
        raise SourceError(f"the model has no initialiser {name!r}", hint="write back into the model that was converted")
    before = _stored(homes[name].const_value)
    after = to_array(tensor_at(module, path), before.dtype)
    if after.shape != tuple(before.shape) and not reshape:
        raise SourceError(
            f"initialiser {name}: shape {list(after.shape)} in PyTorch, {list(before.shape)} in the model",
            hint="if channels were removed on purpose, write_back(..., reshape=True)",
        )
    return after


def _stored(tensor: ir.TensorProtocol | None) -> ir.TensorProtocol:
    assert tensor is not None
    return tensor


def _same(after: np.ndarray[Any, Any], before: ir.TensorProtocol | None) -> bool:
    return np.array_equal(after, _stored(before).numpy(), equal_nan=after.dtype.kind == "f")


def _put(home: ir.Value, array: np.ndarray[Any, Any]) -> None:
    home.const_value = ir.tensor(array, dtype=_stored(home.const_value).dtype, name=home.name)
    home.shape = ir.Shape(array.shape)


def initialisers(module: fx.GraphModule) -> dict[str, str]:
    """Returns ONNX name -> path of every initialiser in `module`, those of nested graphs too."""
    found: dict[str, str] = {}
    for prefix, inner in module.named_modules():
        if isinstance(inner, fx.GraphModule):
            dot = f"{prefix}." if prefix else ""
            found.update((name, dot + path) for name, path in inner.meta.get("initialisers", {}).items())
    return found


def _ancestors(nodes: Sequence[fx.Node], stop: set[fx.Node]) -> set[fx.Node]:
    found, stack = set[fx.Node](), list(nodes)
    while stack:
        node = stack.pop()
        if node not in found:
            found.add(node)
            stack.extend(() if node in stop else node.all_input_nodes)
    return found


def _module(whole: fx.GraphModule, graph: fx.Graph, inputs: Sequence[str], outputs: Sequence[str]) -> fx.GraphModule:
    module = fx.GraphModule(whole, graph)
    read = {node.target for node in graph.nodes if node.op == "get_attr"}
    paths = {name: path for name, path in whole.meta["initialisers"].items() if path in read}
    module.meta.update(inputs=tuple(inputs), outputs=tuple(outputs), initialisers=paths)
    return module
