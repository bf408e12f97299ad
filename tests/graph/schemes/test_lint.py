"""Every rule: a graph that obeys all of them, and one that breaks exactly this one."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import numpy as np
import onnx
import onnx_ir as ir
import pytest

from edgewright.core.target import Scheme
from edgewright.errors import StepFailed
from edgewright.graph.schemes import find, names
from edgewright.graph.schemes.lint import RULES, lint, require
from edgewright.testing import _pass_models, _target_models
from edgewright.testing._scheme_models import network, quantised

PROTOS = (
    *(case.build for case in _pass_models.CASES if case.name != "quantised"),
    _target_models.conv_bn_relu,
    _target_models.depthwise,
    _target_models.residual,
    _target_models.several_inputs,
    _target_models.embedding,
)
ORT, LITERT, TRT = find("onnxruntime-u8s8"), find("litert-s8s8"), find("tensorrt-s8s8")
OPENVINO = find("openvino-u8s8")
FLOAT_BIAS = dataclasses.replace(ORT, bias="float32")


def node(model: ir.Model, name: str) -> ir.Node:
    """Returns the node of that name."""
    return next(n for n in model.graph if n.name == name)


def value(model: ir.Model, name: str) -> ir.Value:
    """Returns what a node writes, by name."""
    return next(v for n in model.graph for v in n.outputs if v.name == name)


def constant(model: ir.Model, name: str, numbers: object) -> ir.Value:
    """Adds an initialiser."""
    tensor = ir.tensor(np.asarray(numbers), name=name)
    made = ir.Value(name=name, const_value=tensor, shape=ir.Shape(tensor.shape), type=ir.TensorType(tensor.dtype))
    model.graph.register_initializer(made)
    return made


def bypass(model: ir.Model, tensor: str, reader: str) -> None:
    """Lets the node `reader` read the float tensor and not its dequantised value; drops what nobody reads then."""
    source = node(model, f"{tensor}/QuantizeLinear")
    dequantise = node(model, f"{tensor}/DequantizeLinear")
    user = node(model, reader)
    for index, each in enumerate(user.inputs):
        if each is dequantise.outputs[0]:
            user.replace_input_with(index, source.inputs[0])
    if not dequantise.outputs[0].uses():
        model.graph.remove([source, dequantise], safe=True)


def insert_pair(model: ir.Model, tensor: str, scale: float = 0.05, zero: int = 7) -> None:
    """Puts a uint8 quantiser behind a tensor."""
    old = value(model, tensor)
    users = list(old.uses())
    numbers = [constant(model, f"{tensor}/s", np.float32(scale)), constant(model, f"{tensor}/z", np.uint8(zero))]
    first = ir.node("QuantizeLinear", [old, *numbers], name=f"{tensor}/q")
    second = ir.node("DequantizeLinear", [first.outputs[0], *numbers], name=f"{tensor}/dq")
    second.outputs[0].shape, second.outputs[0].dtype = old.shape, ir.DataType.FLOAT
    first.outputs[0].dtype = ir.DataType.UINT8
    producer = old.producer()
    assert producer is not None
    model.graph.insert_after(producer, [first, second])
    for use in users:
        use.node.replace_input_with(use.idx, second.outputs[0])


def reset(model: ir.Model, quantiser: str, index: int, numbers: object, both: bool = False) -> None:
    """Replaces scale (1) or zero point (2) of the DequantizeLinear of a tensor, and of its pair."""
    new = constant(model, f"{quantiser}/new{index}", numbers)
    node(model, f"{quantiser}/DequantizeLinear").replace_input_with(index, new)
    if both:
        node(model, f"{quantiser}/QuantizeLinear").replace_input_with(index, new)


def _with_maximum() -> ir.Model:
    model = network()
    top = ir.node("ReduceMax", [value(model, "y")], {"keepdims": 1}, name="top")
    top.outputs[0].name = "top"
    model.graph.append(top)
    add = ir.node("Add", [top.outputs[0], value(model, "y")], name="end")
    add.outputs[0].name = "z"
    model.graph.append(add)
    model.graph.outputs[0] = add.outputs[0]
    add.outputs[0].dtype = ir.DataType.FLOAT
    return model


def _old_opset(model: ir.Model) -> None:
    model.graph.opset_imports[""] = 17


def bypass_skip(model: ir.Model) -> None:
    add, pool = node(model, "add"), node(model, "pool")
    made = node(model, "r0/QuantizeLinear")
    copy = ir.node("MaxPool", [made.inputs[0]], pool.attributes.copy(), name="pool again")
    copy.outputs[0].name, copy.outputs[0].dtype = "p0 again", ir.DataType.FLOAT
    model.graph.insert_before(add, copy)
    add.replace_input_with(1, copy.outputs[0])


def nothing(model: ir.Model) -> None:
    """The graph is as the first scheme wants it; the second one asks for something else."""


Break = Callable[[ir.Model], None]
BROKEN: dict[str, tuple[Scheme, Scheme, Break]] = {
    "pairs": (OPENVINO, OPENVINO, lambda m: reset(m, "x", 1, np.float32(0.125))),
    "zero-point-types": (OPENVINO, OPENVINO, lambda m: reset(m, "x", 2, np.int8(85))),
    "types": (find("onnxruntime-s8s8"), ORT, nothing),
    "symmetry": (OPENVINO, OPENVINO, lambda m: reset(m, "w1", 2, np.array([0, 3, 0, 0], np.int8))),
    "scales": (ORT, ORT, lambda m: reset(m, "y", 1, np.float32(0), both=True)),
    "axes": (OPENVINO, OPENVINO, lambda m: node(m, "w1/DequantizeLinear").attributes.add(ir.AttrInt64("axis", 1))),
    "weight-bits": (ORT, find("onnxruntime-u8s7"), nothing),
    "bias-scales": (ORT, ORT, lambda m: reset(m, "b0", 1, np.full(4, 0.5, np.float32))),
    "shared-scales": (FLOAT_BIAS, FLOAT_BIAS, lambda m: reset(m, "p0", 1, np.float32(0.5), both=True)),
    "fused-activations": (ORT, ORT, lambda m: insert_pair(m, "c0")),
    "stays-float": (ORT, dataclasses.replace(ORT, keep_float=("@depthwise",)), nothing),
    "both-operands": (OPENVINO, OPENVINO, lambda m: bypass(m, "a", "depthwise")),
    "outputs": (ORT, ORT, lambda m: bypass(m, "c1", "add")),
    "fixed-outputs": (dataclasses.replace(LITERT, fixed_outputs={}), LITERT, nothing),
    "skip-adds": (TRT, TRT, bypass_skip),
    "opset": (find("generic-s16s8"), find("generic-s16s8"), _old_opset),
}


@pytest.mark.sample(7)
@pytest.mark.parametrize("scheme", names())
@pytest.mark.parametrize("build", PROTOS, ids=lambda build: build.__name__)
def test_what_static_int8_makes_obeys_the_scheme(scheme: str, build: Callable[[], onnx.ModelProto]) -> None:
    model, plan = quantised(find(scheme), ir.from_proto(build()))
    takes_none = not {each.op_type for each in model.graph} & set(find(scheme).quantized)
    assert plan.tensors or plan.kept_float or takes_none
    assert lint(model.graph, find(scheme), plan.kept_float) == ()


@pytest.mark.sample(3)
@pytest.mark.parametrize("rule", BROKEN)
def test_each_rule_is_broken_alone(rule: str) -> None:
    made_by, held_against, damage = BROKEN[rule]
    model, plan = quantised(made_by)
    assert damage is nothing or lint(model.graph, held_against, plan.kept_float) == ()
    damage(model)
    found = lint(model.graph, held_against, plan.kept_float)
    assert {each.rule for each in found} == {rule}, found
    assert all(each.where and each.message for each in found)


def test_a_float_maximum_must_not_be_quantised_for_openvino() -> None:
    model, plan = quantised(OPENVINO, _with_maximum())
    assert lint(model.graph, OPENVINO, plan.kept_float) == ()
    insert_pair(model, "top")
    assert {each.rule for each in lint(model.graph, OPENVINO, plan.kept_float)} == {"float-results"}


def test_every_rule_has_a_graph_that_breaks_it() -> None:
    assert {*BROKEN, "float-results"} == set(RULES)


def test_error_names_rule_and_node() -> None:
    model, plan = quantised(ORT)
    insert_pair(model, "c0")
    with pytest.raises(StepFailed, match=r'conv0.*rule "fused-activations"') as error:
        require(model.graph, ORT, plan.kept_float)
    assert "keep_float" in error.value.hint


def test_what_was_kept_in_float_on_purpose_breaks_nothing() -> None:
    model, _ = quantised(ORT)
    bypass(model, "c1", "add")
    assert lint(model.graph, ORT, ("conv1",)) == ()
