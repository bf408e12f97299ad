"""Operators that ONNX defines by simpler ones, replaced by their definition."""

from __future__ import annotations

from collections.abc import Container
from typing import Any

import onnx
import onnx_ir as ir
from onnx_ir.passes.common import InlinePass


def expand_functions(model: ir.Model, known: Container[tuple[str, str]]) -> bool:
    """Replaces every operator that is not `known`, and that ONNX defines by others, in place.

    Args:
        model: Types of its values are known.
        known: (domain, operator) that are left alone.

    Returns:
        Whether anything was replaced.
    """
    for node in list(model.graph):
        if (node.domain, node.op_type) not in known and not _has_graphs(node):
            _define(model, node)
    if not model.functions:
        return False
    InlinePass()(model)
    return True


def _has_graphs(node: ir.Node) -> bool:
    return any(attribute.type == ir.AttributeType.GRAPH for attribute in node.attributes.values())


def _define(model: ir.Model, node: ir.Node) -> None:
    body = _body(model, node)
    if body is None:
        return
    node.overload = body.overload = f"of_{len(model.functions)}"
    function = ir.serde.deserialize_function(body)
    for index, inner in enumerate(function):
        inner.name = f"{node.name}/{inner.op_type}_{index}"
        for output in inner.outputs:
            output.name = f"{node.name}/{output.name}"
    model.functions[node.op_identifier()] = function


def _body(model: ir.Model, node: ir.Node) -> onnx.FunctionProto | None:
    version = model.opset_imports.get(node.domain, 0)
    if not onnx.defs.has(node.op_type, version, node.domain):
        return None
    schema: Any = onnx.defs.get_schema(node.op_type, version, node.domain)  # its stubs lack the functions
    if not schema.has_function and not schema.has_context_dependent_function:
        return None
    _add_defaults(node, schema)
    content = _plain_body(schema, version) or _bound_body(schema, node, version)
    if not content:
        return None
    body = onnx.FunctionProto()
    body.ParseFromString(content)
    body.domain = node.domain
    _settle_outputs(body, len(node.outputs))
    for imported in body.opset_import:
        imported.version = model.opset_imports.get(imported.domain, imported.version)
    return body


def _settle_outputs(body: onnx.FunctionProto, count: int) -> None:
    """Outputs that a body leaves out stand for its first one; nobody reads them."""
    made = {name for inner in body.node for name in inner.output}
    kept = [name if name in made else body.output[0] for name in body.output[:count]]
    del body.output[:]
    body.output.extend(kept)


def _add_defaults(node: ir.Node, schema: onnx.defs.OpSchema) -> None:
    for name, attribute in schema.attributes.items():
        if name not in node.attributes and attribute.default_value.type:
            node.attributes[name] = ir.serde.deserialize_attribute(attribute.default_value)


def _plain_body(schema: Any, version: int) -> bytes:
    versions = [v for v in schema.function_opset_versions if v <= version]
    return bytes(schema.get_function_with_opset_version(max(versions))) if versions else b""


def _bound_body(schema: Any, node: ir.Node, version: int) -> bytes:
    versions = [v for v in schema.context_dependent_function_opset_versions if v <= version]
    if not versions:
        return b""
    types = [_type(value) for value in node.inputs]
    proto = ir.to_proto(node)
    proto.overload = ""
    return bytes(
        schema.get_context_dependent_function_with_opset_version(max(versions), proto.SerializeToString(), types)
    )


def _type(value: ir.Value | None) -> bytes:
    if value is None:
        return b""
    return bytes(ir.to_proto(value).type.SerializeToString())
