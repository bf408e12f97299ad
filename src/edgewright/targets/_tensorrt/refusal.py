"""What TensorRT cannot take, before anything is paid for."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import onnx
import onnx_ir as ir

from edgewright.core.target import Plan
from edgewright.errors import ConfigError, EdgewrightError
from edgewright.graph.load import tensor_specs
from edgewright.graph.names import name_nodes
from edgewright.graph.qdq import is_quantised
from edgewright.targets._hub import Hub
from edgewright.targets._tensorrt import prove
from edgewright.targets._tensorrt.export import Wish, export
from edgewright.targets._tensorrt.recipe import profile_of
from edgewright.targets._tensorrt.typed import asymmetric

UNKNOWN = frozenset(
    {"AffineGrid", "Bernoulli", "BitCast", "BitShift", "BitwiseAnd", "BitwiseNot", "BitwiseOr", "BitwiseXor"}
    | {"CenterCropPad", "Col2Im", "Compress", "ConcatFromSequence", "ConvInteger", "CumProd", "Det"}
    | {"DynamicQuantizeLinear", "ImageDecoder", "MatMulInteger", "MaxRoiPool", "MaxUnpool", "MelWeightMatrix"}
    | {"Multinomial", "NegativeLogLikelihoodLoss", "Optional", "OptionalGetElement", "OptionalHasElement"}
    | {"QLinearConv", "QLinearMatMul", "RegexFullMatch", "SequenceAt", "SequenceConstruct", "SequenceEmpty"}
    | {"SequenceErase", "SequenceInsert", "SequenceLength", "SequenceMap", "SoftmaxCrossEntropyLoss"}
    | {"SplitToSequence", "StringConcat", "StringNormalizer", "StringSplit", "TfIdfVectorizer", "Unique"}
)
"""Operators of ONNX that the parser of TensorRT-RTX 1.7 answers for with UNSUPPORTED_NODE whatever their inputs."""


def refusals(model: ir.Model, wish: Wish) -> Iterator[str]:
    """Yields one sentence per reason: the GPU, quantisers, free axes, operators.

    The parser itself is asked where its toolchain is installed; else the list of operators that it does not know.
    """
    named = model.clone()
    name_nodes(named.graph)
    if is_quantised(named.graph):
        reasons = [wish.gpu.why_not("int8"), *asymmetric(named.graph)]
        if any(reasons):
            yield from filter(None, reasons)
            return
    try:
        profile_of(tensor_specs(named)[0], wish.profiles, wish.batch)
    except ConfigError as error:
        yield error.message
        return
    names = list(unknown(named))
    python = prove.installed()
    if names or python is None:
        yield from names
        return
    yield from _parsed(named, wish, python)


def unknown(model: ir.Model) -> Iterator[str]:
    """Yields one sentence per operator that no version of the parser imports."""
    for node in model.graph.all_nodes():
        shown = f"{node.domain}.{node.op_type}" if node.domain else node.op_type
        standard = node.domain in ("", "ai.onnx") and onnx.defs.has(node.op_type)
        if not standard or node.op_type in UNKNOWN:
            yield f'node "{node.name}": TensorRT has no importer for {shown}'


def _parsed(model: ir.Model, wish: Wish, python: Path) -> Iterator[str]:
    hub = Hub(model, Plan(scheme=""), *tensor_specs(model))
    with tempfile.TemporaryDirectory(prefix="edgewright-") as folder:
        try:
            export(hub, replace(wish, dla=None), Path(folder))
        except EdgewrightError as error:
            yield error.message
            return
        yield from prove.refused(python, Path(folder))
