"""The converter, called: an exported PyTorch program to an ML program."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import onnx_ir as ir

from edgewright.errors import EdgewrightError, StepFailed
from edgewright.runtimes._coremltools import quiet
from edgewright.targets._coreml.image import Image
from edgewright.targets._coreml.options import Options
from edgewright.targets._coreml.prepare import Prepared, prepare

_HINT = "rewrite this part of the model with other operators, or leave this target out"


@dataclass(frozen=True, slots=True, eq=False)
class Converted:
    """An ML program in memory.

    Attributes:
        mlmodel: coremltools' own object.
        prepared: What was converted.
        sources: Name of an operation of the program -> names of the model's nodes it was made from.
    """

    mlmodel: Any
    prepared: Prepared
    sources: Mapping[str, tuple[str, ...]]


def convert(coremltools: Any, model: ir.Model, options: Options, images: Mapping[str, Image]) -> Converted:
    """Converts `model`, which is left as it is.

    Args:
        coremltools: The module.
        model: Its nodes are named.
        options: Precision, lowest release, size of a free batch axis.
        images: Name of an input of the model -> the image to take in its place.

    Raises:
        StepFailed: An operator is not supported, named with its node where that is known.
    """
    from edgewright.targets._coreml.export import exported

    prepared = prepare(model, options)
    for value in prepared.model.graph.inputs:
        if value.name is not None and value.name in images:
            images[value.name].insert(prepared.model.graph, value)
    with quiet(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            program, nodes = exported(prepared.model, prepared.inputs)
        except EdgewrightError:
            raise
        except Exception as error:
            raise StepFailed(f"PyTorch cannot export the model: {_short(error)}", hint=_HINT) from error
        try:
            mlmodel = coremltools.convert(program, **_arguments(coremltools, prepared, options, images, nodes))
        except Exception as error:
            raise StepFailed(f"coremltools cannot convert the model: {_short(error)}", hint=_HINT) from error
    return Converted(mlmodel, prepared, _sources(mlmodel, nodes))


def _sources(mlmodel: Any, nodes: tuple[str, ...]) -> dict[str, tuple[str, ...]]:
    operations = mlmodel._mil_program.functions["main"].operations
    found = {operation.name: tuple(nodes[number] for number in _handles(operation)) for operation in operations}
    return {name: sources for name, sources in found.items() if sources}


def _handles(operation: Any) -> list[int]:
    """Returns the numbers of the model's nodes that an operation was made from."""
    from coremltools.converters.mil.mil.scope import ScopeSource

    handles = operation.scopes.get(ScopeSource.EXIR_DEBUG_HANDLE) or ()
    return sorted({number for number in handles if number is not None})


def _arguments(
    coremltools: Any, prepared: Prepared, options: Options, images: Mapping[str, Image], nodes: tuple[str, ...]
) -> dict[str, Any]:
    declared = [v.name or "" for v in prepared.model.graph.inputs if v.name not in prepared.model.graph.initializers]
    takes = [
        images[name].described(coremltools, spec) if name in images else _tensor(coremltools, spec)
        for name, spec in zip(declared, prepared.inputs, strict=True)
    ]
    return {
        "inputs": takes,
        "outputs": [coremltools.TensorType(name=s.name, dtype=_numpy(s.dtype)) for s in prepared.outputs],
        "convert_to": "mlprogram",
        "minimum_deployment_target": getattr(coremltools.target, options.minimum),
        "compute_precision": _precision(coremltools, options, nodes),
        "skip_model_load": True,
    }


def _precision(coremltools: Any, options: Options, nodes: tuple[str, ...]) -> Any:
    if options.precision != "float16":
        return coremltools.precision.FLOAT32
    if not options.keep_float:
        return coremltools.precision.FLOAT16
    return coremltools.transform.FP16ComputePrecision(
        op_selector=lambda operation: not any(nodes[n] in options.keep_float for n in _handles(operation))
    )


def _tensor(coremltools: Any, spec: Any) -> Any:
    return coremltools.TensorType(name=spec.name, shape=spec.shape, dtype=_numpy(spec.dtype))


def _numpy(dtype: str) -> Any:
    import numpy as np

    return np.dtype(dtype).type


def _short(error: Exception) -> str:
    return " ".join(str(error).split())[:400] or type(error).__name__
