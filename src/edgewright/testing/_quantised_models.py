"""Small quantised ONNX graphs, built in code, and the two ways to run them that tests compare."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

Arrays = Mapping[str, NDArray[Any]]
_OPSET = 21


class QuantisedGraph:
    """Collects nodes of an ONNX graph with quantisers; values are named by what makes them."""

    def __init__(self) -> None:
        self._nodes: list[Any] = []
        self._constants: list[Any] = []
        self._inputs: list[Any] = []
        self._outputs: list[str] = []
        self.steps: dict[str, float] = {}
        """Output -> size of its quantisation step."""

    def input(self, name: str, shape: Sequence[int]) -> str:
        """Declares a float input."""
        from onnx import TensorProto, helper

        self._inputs.append(helper.make_tensor_value_info(name, TensorProto.FLOAT, list(shape)))
        return name

    def constant(self, array: Any) -> str:
        """Adds an initialiser."""
        from onnx import numpy_helper

        name = f"constant_{len(self._constants)}"
        self._constants.append(numpy_helper.from_array(np.asarray(array), name))
        return name

    def add(self, op: str, inputs: Sequence[str], count: int = 1, **attributes: Any) -> Any:
        """Adds a node; returns the name of its output, or a list of them."""
        from onnx import helper

        name = f"{op}_{len(self._nodes)}"
        outputs = [name] if count == 1 else [f"{name}:{index}" for index in range(count)]
        self._nodes.append(helper.make_node(op, list(inputs), outputs, name, **attributes))
        return name if count == 1 else outputs

    def quantised(self, value: str, scale: float, zero: int = 0, dtype: str = "int8") -> str:
        """Lets a value pass through integers."""
        numbers = [self.constant(np.float32(scale)), self.constant(np.array(zero, dtype))]
        made = self.add("DequantizeLinear", [self.add("QuantizeLinear", [value, *numbers]), *numbers])
        self.steps[made] = scale
        return str(made)

    def weights(self, array: NDArray[Any], axis: int | None, dtype: str = "int8") -> tuple[str, NDArray[np.float32]]:
        """Stores weights as symmetric integers; returns the value and its scales."""
        others = tuple(index for index in range(array.ndim) if index != axis) if axis is not None else None
        scale = np.asarray(np.abs(array).max(others) / 127, np.float32)
        lanes = [-1 if index == axis else 1 for index in range(array.ndim)]
        integers = np.rint(array / (scale if axis is None else scale.reshape(lanes))).astype(dtype)
        inputs = [self.constant(integers), self.constant(scale), self.constant(np.zeros(scale.shape, dtype))]
        return str(self.add("DequantizeLinear", inputs, **({} if axis is None else {"axis": axis}))), scale

    def bias(self, array: NDArray[Any], scale: NDArray[np.float32]) -> str:
        """Stores a bias as int32."""
        inputs = [self.constant(np.rint(array / scale).astype(np.int32)), self.constant(scale)]
        return str(self.add("DequantizeLinear", inputs, **({"axis": 0} if scale.ndim else {})))

    def output(self, value: str) -> None:
        """Declares an output."""
        self._outputs.append(value)

    def proto(self) -> Any:
        """Returns the model, its shapes inferred."""
        import onnx
        from onnx import helper

        outputs = [helper.make_empty_tensor_value_info(name) for name in self._outputs]
        graph = helper.make_graph(self._nodes, "graph", self._inputs, outputs, self._constants)
        made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", _OPSET)], ir_version=10)
        return onnx.shape_inference.infer_shapes(made, strict_mode=True)

    def feeds(self, seed: int, *, positive: bool = False) -> dict[str, NDArray[Any]]:
        """Returns random inputs."""
        rng = np.random.default_rng(seed)
        found = {}
        for value in self._inputs:
            shape = [axis.dim_value for axis in value.type.tensor_type.shape.dim]
            drawn = (rng.standard_normal(shape) * 1.5).astype(np.float32)
            found[value.name] = np.abs(drawn) + np.float32(0.1) if positive else drawn
        return found


def run_as_written(proto: Any, feeds: Arrays) -> dict[str, NDArray[Any]]:
    """Runs a model in ONNX Runtime, every node as it stands: what its quantisers say."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(proto.SerializeToString(), options, providers=["CPUExecutionProvider"])
    names = [value.name for value in session.get_outputs()]
    return dict(zip(names, session.run(names, dict(feeds)), strict=True))


def run_tflite(content: bytes, feeds: Arrays, *, delegate: bool) -> dict[str, NDArray[Any]]:
    """Runs a file in LiteRT, with its XNNPACK delegate or its own kernels."""
    from ai_edge_litert.interpreter import Interpreter, OpResolverType

    kind = OpResolverType.BUILTIN if delegate else OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES
    interpreter = Interpreter(model_content=content, num_threads=1, experimental_op_resolver_type=kind)
    return dict(interpreter.get_signature_runner()(**feeds))
