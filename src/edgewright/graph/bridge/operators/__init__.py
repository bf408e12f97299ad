"""ONNX operators as functions of PyTorch tensors.

One function per operator and one dictionary per kind. A function's positional parameters are the inputs of the
operator, None where an optional one is left out; its keywords are the attributes, under their ONNX names. Inputs
that were attributes in older opsets need no second function: the bridge passes an attribute by the same name. What
else a function may ask for, by the name of a keyword, is the node's fact of that name:

- `opset`: the version of the standard domain, where the meaning changed;
- `outputs`: how many outputs the node has;
- `kinds`: the ONNX element types of the inputs, None where the model does not say;
- `straight_through`: whether rounding lets gradients pass.

An input annotated `Ints`, `Floats` or `Number` is passed as Python numbers when the model fixes it, as a tensor
otherwise; one annotated `Place` only where it is a single number. An input annotated `Buffer` is not trained when it is
an initialiser.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import Any

from edgewright.graph.bridge.operators import (
    activation,
    arithmetic,
    attention,
    casting,
    convolution,
    indexing,
    linear,
    losses,
    making,
    normalisation,
    pooling,
    quantisation,
    recurrent,
    reduction,
    resizing,
    sampling,
    selection,
    sequence,
    shape,
    signal,
)

OPERATORS: dict[str, Callable[..., Any]] = {
    **activation.OPERATORS,
    **arithmetic.OPERATORS,
    **attention.OPERATORS,
    **casting.OPERATORS,
    **convolution.OPERATORS,
    **indexing.OPERATORS,
    **linear.OPERATORS,
    **losses.OPERATORS,
    **making.OPERATORS,
    **normalisation.OPERATORS,
    **pooling.OPERATORS,
    **quantisation.OPERATORS,
    **recurrent.OPERATORS,
    **reduction.OPERATORS,
    **resizing.OPERATORS,
    **sampling.OPERATORS,
    **selection.OPERATORS,
    **sequence.OPERATORS,
    **shape.OPERATORS,
    **signal.OPERATORS,
}
"""ONNX name -> function."""
CONTROL = ("Constant", "If", "Loop", "Scan")
"""Converted by the builder itself, since they hold values or graphs."""
OLDEST = 7
"""Before opset 7 broadcasting was an attribute."""
_OLDEST = {"Not": 1, "Scan": 9}
FACTS = ("opset", "outputs", "kinds", "straight_through")


@dataclass(frozen=True, slots=True)
class Signature:
    """What a function takes.

    Attributes:
        inputs: Names of the positional parameters, in order.
        variadic: It takes any number of inputs after them.
        attributes: Names accepted as keywords; None when PyTorch's own function is used, which takes none.
        facts: Which facts of the node it asks for.
        fixed: Inputs that become Python numbers where the model fixes them.
        scalars: The same of inputs that the model fixes to one number.
        buffers: Inputs that are not trained.
    """

    inputs: tuple[str, ...]
    variadic: bool
    attributes: frozenset[str]
    facts: tuple[str, ...]
    fixed: frozenset[int]
    scalars: frozenset[int]
    buffers: frozenset[int]


@cache
def signature(operator: str) -> Signature:
    """Returns the signature of the function of `operator`; PyTorch's own functions take tensors only."""
    try:
        parameters = list(inspect.signature(OPERATORS[operator]).parameters.values())
    except ValueError:
        return Signature((), True, frozenset(), (), frozenset(), frozenset(), frozenset())
    inputs = [p for p in parameters if p.kind is p.POSITIONAL_OR_KEYWORD]
    return Signature(
        inputs=tuple(p.name for p in inputs),
        variadic=any(p.kind is p.VAR_POSITIONAL for p in parameters),
        attributes=_attributes(operator, parameters),
        facts=tuple(p.name for p in parameters if p.name in FACTS),
        fixed=_annotated(inputs, ("Ints", "Floats", "Number")),
        scalars=_annotated(inputs, ("Place",)),
        buffers=_annotated(inputs, ("Buffer",)),
    )


def _attributes(operator: str, parameters: list[inspect.Parameter]) -> frozenset[str]:
    names = {p.name for p in parameters if p.kind is not p.VAR_POSITIONAL} - set(FACTS)
    if any(p.kind is p.VAR_KEYWORD for p in parameters):
        names |= signature("Conv").attributes
    return frozenset(names)


@cache
def oldest(operator: str) -> int:
    """Returns the first opset at which `operator` is converted."""
    import onnx

    schemas = onnx.defs.get_all_schemas_with_history()
    first = min(s.since_version for s in schemas if s.name == operator and not s.domain)
    return max(first, _OLDEST.get(operator, OLDEST))


def _annotated(inputs: list[inspect.Parameter], names: tuple[str, ...]) -> frozenset[int]:
    words = [str(p.annotation).split(" | ") for p in inputs]
    return frozenset(i for i, word in enumerate(words) if set(word) & set(names))
