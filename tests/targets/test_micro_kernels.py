"""The table of kernels against the interpreter's own: which types each runs, and what each keeps in the arena."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("tflite_micro")

from edgewright.errors import StepFailed
from edgewright.formats.tflite.reader import parse
from edgewright.runtimes.tflm import TflmRunner
from edgewright.targets._micro.arena import predict
from edgewright.targets._micro.kernels import ALL, KERNELS
from edgewright.targets._micro.layout import HOST
from edgewright.targets._micro.support import unsupported
from edgewright.testing._micro_models import Int8Net
from edgewright.testing._micro_operators import CASES, OneOperator, operator

REAL_ONLY = frozenset(["CONV_2D", "DEPTHWISE_CONV_2D", "TRANSPOSE_CONV", "FULLY_CONNECTED", "PAD", "PADV2", "QUANTIZE"])
"""Their constants here are made for the types of real numbers."""
UNCHECKED = frozenset({"LOGICAL_AND", "LOGICAL_OR"})
"""They read any type as bool."""


def runs(op: str, dtype: str) -> bool:
    try:
        runner = TflmRunner(operator(op, dtype), op)
        runner.run({spec.name: np.ones(tuple(map(int, spec.shape)), spec.dtype) for spec in runner.inputs})
    except StepFailed:
        return False
    return True


def test_every_kernel_has_a_case() -> None:
    assert set(CASES) == set(KERNELS)


@pytest.mark.sample(3)
@pytest.mark.parametrize("dtype", [*ALL, "int32", "bool"])
def test_types(dtype: str) -> None:
    """Every operator, whether the table says that its kernel runs the type or that it does not."""
    wrong = []
    for op, kernel in KERNELS.items():
        if (dtype in ALL or op not in REAL_ONLY) and runs(op, dtype) != (dtype in kernel.types):
            wrong.append(op)
    assert set(wrong) <= (set() if dtype == "bool" else UNCHECKED), wrong


@pytest.mark.parametrize("dtype", ALL)
def test_arena_of_every_kernel(dtype: str) -> None:
    """Head and tail to the byte: data, options, channels and scratch of each kernel."""
    wrong = {}
    for op in (op for op, kernel in KERNELS.items() if dtype in kernel.types):
        content = operator(op, dtype)
        real, found = TflmRunner(content, op).arena(), predict(parse(content), HOST)
        if (real.head, real.tail) != (found.head, found.tail):
            wrong[op] = (real.head, found.head, real.tail, found.tail)
    assert not wrong


def test_resolver_methods_are_those_of_the_package() -> None:
    """Each kernel's registration is a symbol of the package's library, under the name that the table derives."""
    from pathlib import Path

    import tflite_micro

    library = (Path(tflite_micro.__file__).parent / "python" / "tflite_micro" / "_runtime.so").read_bytes()
    missing = [op for op in KERNELS if f"Register_{op}".encode() not in library]
    assert not missing


def test_an_operator_without_a_kernel_is_named_with_its_node() -> None:
    net = OneOperator("int8")
    net.emit("GELU", [net.first], [(1, 8, 8, 4)], "GeluOptions")
    graph = parse(net.packed())
    assert list(unsupported(graph, [("act_node",)])) == [
        'GELU (node "act_node"): TensorFlow Lite Micro has no kernel for it'
    ]
    assert 'tensor "out0"' in next(unsupported(graph))


def test_hybrid_and_mixed_operators_are_refused() -> None:
    net = Int8Net((1, 16))
    net.dense(4)
    graph = parse(net.finish())
    assert not list(unsupported(graph))
    hybrid = Int8Net((1, 16), dtype="float32")
    weights = Int8Net.weights
    hybrid.dtype = "int8"
    filters, bias = weights(hybrid, (4, 16), None), hybrid.bias(4, False)
    hybrid.dtype = "float32"
    hybrid.op("FULLY_CONNECTED", [hybrid.first, filters, bias], (1, 4), "FullyConnectedOptions")
    assert "hybrid" in next(unsupported(parse(hybrid.finish())))


def test_types_without_a_kernel_say_which_have_one() -> None:
    assert "takes float32, not int8" in next(unsupported(parse(operator("EXP", "int8"))))
