"""Asks ONNX Runtime's own registry of kernels what it cannot run, before a session is paid for."""

from __future__ import annotations

import importlib
from collections import defaultdict
from collections.abc import Iterator, Mapping
from typing import Any

import onnx
import onnx_ir as ir

from edgewright.graph import custom
from edgewright.runtimes._ort_providers import CPU
from edgewright.runtimes.onnxruntime import session_options

_CAST_UP = "tensor(float16)"
"""ONNX Runtime inserts casts around float16 nodes that have float32 kernels only."""

_FOLDED = frozenset({("", "Constant")})
"""Operators that need no kernel: ONNX Runtime turns them into initialisers when it opens the model."""

_ORDINARY = frozenset({"", "ai.onnx", "ai.onnx.ml", "com.microsoft", "com.ms.internal.nhwc", "com.microsoft.nchwc"})
"""Domains that no library of custom operators defines; its own ones ran when the model was imported."""

Kernels = Mapping[tuple[str, str], list[Any]]


def refusals(model: ir.Model) -> Iterator[str]:
    """Yields one sentence per reason: opsets too new, operators without a kernel, types no kernel takes."""
    state = importlib.import_module("onnxruntime.capi.onnxruntime_pybind11_state")
    kernels = _registry(state)
    yield from _envelope(model)
    given = _FOLDED | {(key[0], key[1]) for key in model.functions}
    own = set(model.opset_imports) - _ORDINARY if custom.libraries(model) else set()
    for node in model.graph.all_nodes():
        if (node.domain, node.op_type) not in given and node.domain not in own:
            yield from _node(node, model.opset_imports.get(node.domain, 1), kernels)


def _envelope(model: ir.Model) -> Iterator[str]:
    """Opens a model of one Identity with the same opset and IR version: ONNX Runtime says itself what it guarantees."""
    ort = importlib.import_module("onnxruntime")
    opset = model.opset_imports.get("", 1)
    value = [onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, [1]) for name in "xy"]
    graph = onnx.helper.make_graph([onnx.helper.make_node("Identity", ["x"], ["y"])], "probe", value[:1], value[1:])
    probe = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", opset)])
    probe.ir_version = model.ir_version
    try:
        ort.InferenceSession(probe.SerializeToString(), session_options(ort, {}, 1), providers=[CPU])
    except Exception as error:
        said = str(error).rpartition("->")[2].strip()
        yield f"opset {opset}, IR version {model.ir_version}: ONNX Runtime {ort.__version__} says: {said[-300:]}"


def _registry(state: Any) -> Kernels:
    found: dict[tuple[str, str], list[Any]] = defaultdict(list)
    for kernel in state.get_all_opkernel_def():
        if kernel.provider == CPU:
            found[_domain(kernel.domain), kernel.op_name].append(kernel)
    return found


def _domain(name: str) -> str:
    return "" if name == "ai.onnx" else name


def _node(node: ir.Node, opset: int, kernels: Kernels) -> Iterator[str]:
    shown = f'node "{node.name}": {node.domain + "." if node.domain else ""}{node.op_type}'
    schema = _schema(node, opset)
    known = kernels.get((_domain(node.domain), node.op_type), [])
    if not known:
        if not _is_function(schema):
            yield f"{shown} has no kernel in ONNX Runtime's {CPU}"
        return
    since = schema.since_version if schema is not None else opset
    fitting = [kernel for kernel in known if kernel.version_range[0] <= since <= kernel.version_range[1]]
    if not fitting and schema is not None and not _is_function(schema):
        yield f"{shown} of opset {opset} has no kernel in ONNX Runtime's {CPU}"
    elif schema is not None and fitting and not _is_function(schema):
        yield from _types(node, shown, schema, fitting)


def _is_function(schema: Any) -> bool:
    """Returns whether ONNX defines the operator through others, which ONNX Runtime then runs instead."""
    return schema is not None and bool(schema.has_function or schema.has_context_dependent_function)


def _schema(node: ir.Node, opset: int) -> onnx.defs.OpSchema | None:
    try:
        return onnx.defs.get_schema(node.op_type, min(opset, onnx.defs.onnx_opset_version()), node.domain)
    except onnx.defs.SchemaError:
        return None


def _types(node: ir.Node, shown: str, schema: onnx.defs.OpSchema, kernels: list[Any]) -> Iterator[str]:
    for index, value in enumerate(node.inputs):
        if value is None or value.dtype is None or not schema.inputs:
            continue
        constraint = schema.inputs[min(index, len(schema.inputs) - 1)].type_str
        kind = _kind(value.dtype)
        taken = [set(kernel.type_constraints.get(constraint, ())) for kernel in kernels]
        if kind != _CAST_UP and all(taken) and not any(kind in types for types in taken):
            yield f"{shown} takes no {value.dtype.name.lower()} for its input {index} in ONNX Runtime"
            return


def _kind(dtype: ir.DataType) -> str:
    return f"tensor({dtype.name.lower()})"
