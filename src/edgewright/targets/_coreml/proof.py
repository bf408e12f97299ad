"""What a written package says, held against the model it was made from."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from edgewright.core.tensors import TensorSpec
from edgewright.errors import StepFailed
from edgewright.targets._coreml.expected import Quantised, arrays_of, quantised_by
from edgewright.targets._coreml.program import Constant, Operation, Program
from edgewright.targets._coreml.weights import Weight, weights

SMALL = 16
"""Constants of fewer values are numbers that operations are configured with, and are not compared."""
_EXACT, _HALF = 2e-6, 1.5e-3
_HINT = "this is a defect of the converter or of Edgewright: report it with the model"


@dataclass(frozen=True, slots=True, eq=False)
class Compared:
    """One decoded tensor of weights.

    Attributes:
        weight: As the package stores it.
        operation: Who reads it.
        error: Largest difference to the model's, over the largest magnitude there; None where the model has none of
            that size.
        allowed: Largest error of its form: rounding; for a palette, what its nearest entries leave.
    """

    weight: Weight
    operation: str
    error: float | None
    allowed: float


def prove(
    program: Program,
    model: ir.Model,
    sources: Mapping[str, tuple[str, ...]],
    border: tuple[tuple[TensorSpec, ...], tuple[TensorSpec, ...]],
    form: str,
) -> tuple[str, ...]:
    """Returns what was proven, one sentence each.

    Args:
        program: As read back.
        model: As it was converted.
        sources: Name of an operation -> names of nodes of the model.
        border: Inputs and outputs that the package should have.
        form: What `weights` asked for.

    Raises:
        StepFailed: The package says something else than the model, or compression that was asked for did not happen.
    """
    _require_border(program, *border)
    compared = tuple(compare(program, model, sources))
    wrong = [c for c in compared if c.error is not None and c.error > c.allowed]
    if wrong:
        first = wrong[0]
        raise StepFailed(
            f"the package stores other weights than the model: {first.weight.name} of {first.operation} is off by "
            f"{first.error:.2g} of its largest value, {first.allowed:.2g} allowed, and {len(wrong) - 1} more",
            hint=_HINT,
        )
    require_compressed(compared, form)
    said = [_operations(program), _compared(compared), _stored(compared), *_activations(program, model, sources)]
    return tuple(sentence for sentence in said if sentence)


def _require_border(program: Program, inputs: tuple[TensorSpec, ...], outputs: tuple[TensorSpec, ...]) -> None:
    found = [value.name for value in program.description.input], [v.name for v in program.description.output]
    wanted = [spec.name for spec in inputs], [spec.name for spec in outputs]
    if found != wanted:
        raise StepFailed(f"the package has inputs and outputs {found}, expected {wanted}", hint=_HINT)
    shapes = {name: (dtype, shape) for name, dtype, shape in program.inputs}
    for spec in inputs:
        sizes = tuple(int(n) for n in spec.shape)
        if shapes[spec.name][1] != sizes:
            raise StepFailed(
                f"input {spec.name} of the package is {shapes[spec.name]}, expected {spec.dtype} {sizes}", hint=_HINT
            )


def compare(program: Program, model: ir.Model, sources: Mapping[str, tuple[str, ...]]) -> Iterator[Compared]:
    """Yields every tensor of weights that an operation of the program reads, once, beside the model's."""
    stored, seen = weights(program), set[str]()
    nodes = {node.name or "": node for node in model.graph}
    for operation in program.operations:
        if operation.op == "const" or operation.op.startswith("constexpr_"):
            continue
        for weight in _read_by(operation, stored):
            if weight.name in seen or weight.real.size < SMALL or weight.real.dtype.kind != "f":
                continue
            seen.add(weight.name)
            made_from = [nodes[name] for name in sources.get(operation.name, ()) if name in nodes]
            candidates = [array for node in made_from for array in arrays_of(node)]
            if not np.any(weight.real):
                continue  # a bias that the converter adds where the model has none
            found = min((pair for array in candidates for pair in _errors(weight, array)), default=(None, 0.0))
            yield Compared(weight, operation.name, *found)


def _read_by(operation: Operation, stored: Mapping[str, Weight]) -> Iterator[Weight]:
    for values in operation.inputs.values():
        for value in values:
            if isinstance(value, str) and value in stored:
                yield stored[value]
            elif isinstance(value, Constant) and isinstance(value.value, np.ndarray):
                yield Weight(f"{operation.name}/constant", value.dtype, value.value, value.size)


def _errors(weight: Weight, wanted: NDArray[Any]) -> Iterator[tuple[float, float]]:
    """Yields the error, and the largest one allowed, for every order of axes in which it may be stored."""
    found = weight.real
    if found.size != wanted.size:
        return
    rounding = _HALF if found.dtype == np.float16 else _EXACT
    for array in _orders(wanted, found.shape):
        top = float(np.max(np.abs(array))) or 1.0
        gap = float(np.max(np.abs(found.astype(np.float64) - array)))
        yield gap / top, rounding + (_to_nearest(array, found) / top if weight.levels else 0.0)


def _to_nearest(array: NDArray[Any], found: NDArray[Any]) -> float:
    """Returns how far the value farthest from every entry of a palette is from the nearest one."""
    table = np.unique(found.astype(np.float64))
    above = np.searchsorted(table, array).clip(0, len(table) - 1)
    below = (above - 1).clip(0)
    return float(np.max(np.minimum(np.abs(array - table[above]), np.abs(array - table[below]))))


def _orders(array: NDArray[Any], shape: tuple[int, ...]) -> Iterator[NDArray[Any]]:
    yield array.reshape(shape)
    if array.ndim >= 2:
        yield np.swapaxes(array, -1, -2).reshape(shape)
        yield np.swapaxes(array, 0, 1).reshape(shape)


def require_compressed(compared: tuple[Compared, ...], form: str) -> None:
    """Checks that large weights have the form that was asked for, and that palettes are as small as they say.

    Raises:
        StepFailed: Nothing was compressed (a converter that skips weights does not say so), or a palette holds more
            values than its bits can number.
    """
    for c in compared:
        if c.weight.levels and len(np.unique(c.weight.real)) > c.weight.levels:
            raise StepFailed(
                f"{c.weight.name}: {len(np.unique(c.weight.real))} values, its palette holds {c.weight.levels}",
                hint=_HINT,
            )
    wanted = {"int8": lambda w: w.form in ("int8", "uint8")}.get(form)
    wanted = (lambda w: bool(w.levels)) if form.startswith("palettised") else wanted
    if wanted is not None and compared and not any(wanted(c.weight) for c in compared):
        largest = max(c.weight.real.size for c in compared)
        raise StepFailed(
            f'weights = "{form}" compressed nothing: the largest tensor has {largest} values',
            hint="leave `weights` out for so small a model; for a large one, report it with the version of NumPy",
        )


def _operations(program: Program) -> str:
    counted = Counter(o.op for o in program.operations if o.op != "const")
    shown = ", ".join(f"{count} {op}" for op, count in counted.most_common(5))
    names = ", ".join(v.name for v in (*program.description.input, *program.description.output))
    return f"package read back: {sum(counted.values())} operations ({shown}), inputs and outputs {names} as declared"


def _compared(compared: tuple[Compared, ...]) -> str:
    if not compared:
        return "package read back: it holds no weights"
    known = [c for c in compared if c.error is not None]
    values = sum(c.weight.real.size for c in known)
    worst = max((c.error or 0.0 for c in known), default=0.0)
    text = f"weights decoded and compared: {len(known)} of {len(compared)} tensors ({values:,} values)"
    text += f", at most {worst:.1e} of the largest value of each"
    combined = [c.operation for c in compared if c.error is None]
    return text + (f"; combined by the converter, not compared: {', '.join(combined[:5])}" if combined else "")


def _stored(compared: tuple[Compared, ...]) -> str:
    if not compared:
        return ""
    counted = Counter(c.weight.form for c in compared)
    whole = sum(c.weight.real.size * 4 for c in compared)
    size = sum(c.weight.size or c.weight.real.nbytes for c in compared)
    forms = ", ".join(f"{count} as {form}" for form, count in counted.most_common())
    return f"weights stored: {forms}: {size:,} bytes, {size / whole:.2f} of float32"


def _activations(program: Program, model: ir.Model, sources: Mapping[str, tuple[str, ...]]) -> Iterator[str]:
    nodes = {node.name or "": node for node in model.graph}
    found = [o for o in program.operations if o.op == "quantize"]
    constants = weights(program)
    pairs = [
        (o, _numbers(o, constants), [quantised_by(nodes[n]) for n in sources.get(o.name, ()) if n in nodes])
        for o in found
    ]
    for operation, said, wanted in pairs:
        known = [w for w in wanted if w is not None]
        if known and not any(same_quantiser(said, w) for w in known):
            raise StepFailed(f"{operation.name} quantises by {said}, the model by {known[0]}", hint=_HINT)
    same = sum(any(w is not None for w in wanted) for _, _, wanted in pairs)
    if found:
        yield f"quantisers of activations: {same} of {len(found)} compared, with the scales of the model"


def _numbers(operation: Operation, constants: Mapping[str, Weight]) -> Quantised:
    parts = {key: _value(values[0], constants) for key, values in operation.inputs.items()}
    scale, zero = parts["scale"], parts.get("zero_point")
    one = scale is not None and scale.size == 1
    return Quantised(
        operation.outputs[0][1],
        float(scale.reshape(-1)[0]) if one and scale is not None else math.nan,
        0 if zero is None else int(zero.reshape(-1)[0]),
    )


def _value(value: str | Constant, constants: Mapping[str, Weight]) -> NDArray[Any] | None:
    found = constants[value].real if isinstance(value, str) and value in constants else getattr(value, "value", None)
    return found if isinstance(found, np.ndarray) else None


def same_quantiser(said: Quantised, wanted: Quantised) -> bool:
    """Compares the real values that two quantisers cover: unsigned ones may be stored as signed ones."""
    factors = (1.0, *wanted.addends)
    near = (math.isclose(said.scale * factor, wanted.scale, rel_tol=2e-3) for factor in factors)
    return said.lowest == wanted.lowest and any(near)
