"""Models compiled and run by LiteRT, held against ONNX Runtime."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
import onnxruntime
import pytest
from numpy.typing import NDArray
from onnx import helper, numpy_helper

from edgewright.core.target import Plan
from edgewright.formats.tflite.reader import parse
from edgewright.graph.names import name_nodes
from edgewright.graph.tidy import tidy
from edgewright.runtimes.litert import LiteRtRunner
from edgewright.targets._litert_proof import delegated
from edgewright.targets._tflite.compile import compile_model
from edgewright.targets._tflite.options import Compiled, Options

Array = NDArray[Any]


@dataclass(frozen=True)
class Verdict:
    """How a compiled model compares.

    Attributes:
        decibels: Signal to error of the worst output; infinite where all are equal.
        furthest: Largest difference of any element.
        ops: Operators of the file, in order.
        left: Of these, what the XNNPACK delegate does not take, with how often.
        compiled: The file.
    """

    decibels: float
    furthest: float
    ops: tuple[str, ...]
    left: Mapping[str, int]
    compiled: Compiled


class Judge:
    def one(self, op: str, *arrays: Array | None, opset: int = 19, **attributes: Any) -> Verdict:
        """Judges one operator: the first array is the input, the others are constants."""
        stored = [numpy_helper.from_array(np.asarray(a), f"c{i}") for i, a in enumerate(arrays) if i and a is not None]
        names = ["x", *("" if a is None else f"c{i}" for i, a in enumerate(arrays) if i)]
        assert arrays[0] is not None
        x = helper.make_tensor_value_info("x", helper.np_dtype_to_tensor_dtype(arrays[0].dtype), arrays[0].shape)
        node = helper.make_node(op, names, ["y"], name=op.lower(), **attributes)
        graph = helper.make_graph(
            [node], "one", [x], [helper.make_tensor_value_info("y", x.type.tensor_type.elem_type, None)], stored
        )
        return self.model(
            helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=10), x=arrays[0]
        )

    def model(self, proto: onnx.ModelProto, options: Options | None = None, **feed: Array) -> Verdict:
        """Judges a model on one input; files may take images channels-last."""
        model, _ = tidy(ir.from_proto(proto))
        name_nodes(model.graph)
        compiled = compile_model(model, Plan("none"), options or Options())
        found = self._computed(compiled, feed)
        plain = onnxruntime.SessionOptions()
        plain.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
        session = onnxruntime.InferenceSession(proto.SerializeToString(), plain, providers=["CPUExecutionProvider"])
        wanted = dict(zip([o.name for o in session.get_outputs()], session.run(None, feed), strict=True))
        worst = min(decibels(expected, found[name]) for name, expected in wanted.items())
        furthest = max(float(np.abs(expected - found[name]).max()) for name, expected in wanted.items())
        file = parse(compiled.content)
        taken = delegated(compiled.content, file, {})
        ops = [operator.op for operator in file.operators]
        return Verdict(worst, furthest, tuple(ops), Counter(op for i, op in enumerate(ops) if i not in taken), compiled)

    def _computed(self, compiled: Compiled, feed: Mapping[str, Array]) -> dict[str, Array]:
        turned = {name: moved(array, _perm(compiled.inputs, name)) for name, array in feed.items()}
        found = LiteRtRunner(compiled.content, "test").run(turned)
        return {n: moved(a, tuple(np.argsort(_perm(compiled.outputs, n)))) for n, a in found.items()}


def moved(array: Array, perm: Sequence[int]) -> Array:
    return np.ascontiguousarray(array.transpose(perm)) if perm else array


def _perm(borders: Mapping[str, Any], name: str) -> tuple[int, ...]:
    return borders[name].perm if name in borders else ()


def decibels(expected: Array, found: Array) -> float:
    assert expected.shape == found.shape
    error = np.square(expected.astype(np.float64) - found).sum()
    return float("inf") if error == 0 else float(10 * np.log10(np.square(expected.astype(np.float64)).sum() / error))


@pytest.fixture(scope="session")
def judge() -> Judge:
    return Judge()
