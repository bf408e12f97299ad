"""A function of TensorFlow to the hub format through tf2onnx, compared with what TensorFlow computes."""

from __future__ import annotations

import logging
import os
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from edgewright.core.step import Context
from edgewright.core.tensors import TensorSpec
from edgewright.errors import ConfigError, SourceError, StepFailed, ToolchainMissing

if TYPE_CHECKING:
    import onnx_ir

    from edgewright.sources._feeds import Feeds
    from edgewright.sources._verify import Evaluate

TOOLCHAIN = "tensorflow"
REQUIRES = ("tensorflow-cpu", "keras", "tf-keras", "tf2onnx", "onnx", "onnx-ir", "onnxruntime", "numpy")
_OPSETS = range(13, 19)
_SEVERAL = 3
"""Batch size of every second comparison where the batch axis is dynamic: 1 alone would hide axes mixed up."""
_NUMBERS = {"float16", "float32", "float64", "int8", "uint8", "int16", "uint16", "int32", "int64", "uint32", "bool"}


@dataclass(frozen=True, slots=True, eq=False)
class Function:
    """What is imported.

    Attributes:
        call: Takes one TensorFlow tensor per input, gives one per output.
        inputs: Names, types and shapes (None for a dynamic axis), in order.
        outputs: Names, in order.
        label: For messages: the file, and which of its functions.
        runner: For the record: who runs the original.
        kind: Name of the source.
    """

    call: Callable[..., Sequence[Any]]
    inputs: tuple[tuple[str, str, tuple[int | None, ...]], ...]
    outputs: tuple[str, ...]
    label: str
    runner: str
    kind: str


@dataclass(frozen=True, slots=True)
class Wish:
    """How to import: fields of the sources."""

    opset: int
    samples: int
    least_snr_db: float


def start() -> Any:
    """Imports TensorFlow on the CPU, in float32 without reordering, and quiet.

    Raises:
        ToolchainMissing: It is not installed in this interpreter.
    """
    os.environ.update(TF_CPP_MIN_LOG_LEVEL="3", CUDA_VISIBLE_DEVICES="-1", TF_ENABLE_ONEDNN_OPTS="0")
    try:
        import tensorflow
    except ImportError as error:
        raise ToolchainMissing(
            "a Keras model or a SavedModel needs TensorFlow", hint=f"edgewright toolchain install {TOOLCHAIN}"
        ) from error
    logging.getLogger("tensorflow").setLevel(logging.ERROR)
    return tensorflow


def write_import(function: Function, wish: Wish, out: Path, context: Context) -> None:
    """Converts `function`, compares the result with it on random inputs, writes `model.onnx` and `import.json`.

    Raises:
        ConfigError: An opset that tf2onnx does not write.
        SourceError: A type that ONNX Runtime cannot be fed with, or an operator that tf2onnx does not know.
        StepFailed: tf2onnx failed, or the import computes something else.
    """
    from edgewright.graph import check, load, opset, tidy
    from edgewright.sources import _verify

    if wish.opset not in _OPSETS:
        raise ConfigError(f"opset {wish.opset}: tf2onnx writes 13 to 18", hint="leave opset out, or set it to 18")
    _check_types(function)
    function = replace(function, outputs=_apart(function))
    model, notes = tidy.tidy(_converted(function, wish.opset))
    path = load.save(model, out)
    check.check_file(path)
    context.progress(0.7, "converted")
    specs = load.tensor_specs(load.load(path))
    feeds = _both_batches(specs[0], wish.samples, context.seed)
    difference = _verify.compare(_evaluator(function), _verify.onnxruntime_evaluator(path), feeds.batches)
    _verify.check_difference(difference, wish.least_snr_db, function.runner)
    record = _verify.ImportRecord(
        function.kind,
        opset.opset(model),
        *specs,
        difference.samples,
        difference.largest,
        difference.snr_db,
        _verify.describe_feeds(function.runner, feeds),
        notes,
    )
    _verify.write_record(record, out)


def _apart(function: Function) -> tuple[str, ...]:
    """Returns names of outputs that are no name of an input: an ONNX name belongs to one tensor."""
    inputs = {name for name, _, _ in function.inputs}
    return tuple(f"{name}_output" if name in inputs else name for name in function.outputs)


def _check_types(function: Function) -> None:
    for name, dtype, shape in function.inputs:
        if dtype not in _NUMBERS:
            raise SourceError(
                f'{function.label}: input "{name}" holds {dtype}, numbers are expected',
                hint="leave text and examples out of the model: export the part that begins with numbers",
            )
        if shape is None:
            raise SourceError(
                f'{function.label}: input "{name}" has no fixed number of axes',
                hint="export it with an input signature, e.g. tf.TensorSpec([None, 224, 224, 3])",
            )


def _converted(function: Function, opset: int) -> onnx_ir.Model:
    import onnx_ir as ir
    import tensorflow as tf
    from tf2onnx import convert

    from edgewright.sources import _tf_operators

    signature = [tf.TensorSpec(shape, dtype, name=f"input_{i}") for i, (_, dtype, shape) in enumerate(function.inputs)]
    traced = tf.function(lambda *tensors: tuple(function.call(*tensors)), autograph=False)
    with _complaints() as complaints:
        try:
            proto, _ = convert.from_function(traced, input_signature=signature, opset=opset)
        except Exception as error:  # tf2onnx and TensorFlow raise many kinds
            raise _refused(function, complaints, error) from error
    model: ir.Model = ir.from_proto(proto)
    _tf_operators.expand_erfc(model.graph)
    foreign = _unknown_to_onnx(model)
    if foreign or len(model.graph.inputs) != len(function.inputs):
        raise _refused(function, foreign, ValueError("an input is not used"))
    _tf_operators.fold_scales(model.graph)
    _tf_operators.drop_zero_states(model.graph)
    _name(model.graph, function)
    return model


def _unknown_to_onnx(model: onnx_ir.Model) -> list[str]:
    """Returns the operators that tf2onnx only copied; it tells of them in its log and goes on."""
    import onnx

    own = ("", "ai.onnx")
    nodes = [node for graph in model.graphs() for node in graph]
    return sorted(
        {
            f"operator {node.op_type} (node {node.name})"
            for node in nodes
            if node.domain not in own or not onnx.defs.has(node.op_type)
        }
    )


def _refused(function: Function, complaints: Sequence[str], error: Exception) -> StepFailed:
    text = "; ".join(complaints) or f"{type(error).__name__}: {error}"
    return StepFailed(
        f"{function.label}: tf2onnx does not convert it: {' '.join(text.split())[:600]}",
        hint="replace the operator it names by one that ONNX has, and save the model again",
    )


@contextmanager
def _complaints() -> Iterator[list[str]]:
    """Collects what tf2onnx logs as errors: it names operators there, not in what it raises."""
    found: list[str] = []
    handler = logging.Handler(logging.ERROR)
    handler.emit = lambda record: found.append(record.getMessage())  # type: ignore[method-assign]
    logger = logging.getLogger("tf2onnx")
    logger.addHandler(handler)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield found
    finally:
        logger.removeHandler(handler)


def _name(graph: onnx_ir.Graph, function: Function) -> None:
    """Gives inputs and outputs the model's own names, and the batch axis of all of them one name."""
    import onnx_ir as ir

    inner = {value.name: value for node in graph.all_nodes() for value in node.outputs}
    wanted = {*(name for name, _, _ in function.inputs), *function.outputs}
    for index, name in enumerate(sorted(wanted & set(inner))):
        inner[name].name = f"inner_{index}_{name}"
    dynamic = any(shape and shape[0] is None for _, _, shape in function.inputs)
    for value, (name, _, shape) in zip(graph.inputs, function.inputs, strict=True):
        value.name = name
        value.shape = ir.Shape(["batch" if i == 0 and d is None else d for i, d in enumerate(shape)])
    _split_outputs(graph)
    for value, name in zip(graph.outputs, function.outputs, strict=True):
        value.name = name
        value.shape = _output_shape(value.shape, dynamic)
    for node in graph.all_nodes():
        for value in node.outputs:
            if not value.is_graph_output():
                value.shape = None  # tf2onnx names every unknown axis anew; inference tells them better


def _output_shape(shape: onnx_ir.Shape | None, dynamic: bool) -> onnx_ir.Shape | None:
    import onnx_ir as ir

    if shape is None:
        return None
    dims = [d if isinstance(d, int) else None for d in shape]
    return ir.Shape(["batch" if i == 0 and d is None and dynamic else d for i, d in enumerate(dims)])


def _split_outputs(graph: onnx_ir.Graph) -> None:
    """An output that is an input, or given twice, gets a node of its own: names belong to one tensor."""
    import onnx_ir as ir

    seen: set[int] = set()
    for index, value in enumerate(graph.outputs):
        if value.is_graph_input() or value.is_initializer() or id(value) in seen:
            node = ir.node("Identity", [value], name=f"output_{index}")
            node.outputs[0].type, node.outputs[0].shape = value.type, value.shape
            graph.append(node)
            graph.outputs[index] = node.outputs[0]
        seen.add(id(graph.outputs[index]))


def _both_batches(specs: Sequence[TensorSpec], count: int, seed: int) -> Feeds:
    from edgewright.sources import _feeds

    single = _feeds.make_feeds(None, specs, count - count // 2, seed)
    several = _feeds.make_feeds(None, [_with_batch(spec) for spec in specs], count // 2, seed + 1)
    return replace(single, batches=(*single.batches, *several.batches))


def _with_batch(spec: TensorSpec) -> TensorSpec:
    dynamic = bool(spec.shape) and spec.shape[0] == "batch"
    return replace(spec, shape=(_SEVERAL, *spec.shape[1:])) if dynamic else spec


def _evaluator(function: Function) -> Evaluate:
    import tensorflow as tf

    def evaluate(feed: Mapping[str, NDArray[Any]]) -> Mapping[str, NDArray[Any]]:
        tensors = [tf.constant(feed[name]) for name, _, _ in function.inputs]
        found = function.call(*tensors)
        return {name: np.asarray(value) for name, value in zip(function.outputs, found, strict=True)}

    return evaluate
