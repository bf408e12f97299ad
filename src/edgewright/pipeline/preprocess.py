"""From a raw value to the tensors of a model."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgewright.core.data import Prepared
from edgewright.core.tensors import TensorSpec
from edgewright.errors import ConfigError, DataError, EdgewrightError
from edgewright.pipeline.audio import Mfcc, Stft
from edgewright.pipeline.decode import Decode
from edgewright.pipeline.image import ChannelOrder, Crop, Layout, Letterbox, Resize
from edgewright.pipeline.item import Item, PreOperation
from edgewright.pipeline.spec import Table, file_fields, operations, resolved, with_files
from edgewright.pipeline.tensor import Cast, Expand, Normalise, Reshape, Scale, Transpose, Window
from edgewright.pipeline.text import Tokenise

_ALL: tuple[type[PreOperation], ...] = (
    Decode,
    Resize,
    Letterbox,
    Crop,
    Normalise,
    Scale,
    ChannelOrder,
    Layout,
    Expand,
    Reshape,
    Transpose,
    Cast,
    Stft,
    Mfcc,
    Window,
    Tokenise,
)
PREPROCESSING: Mapping[str, type[PreOperation]] = {kind.op: kind for kind in _ALL}
"""`op` name -> operation."""

ONLY_INPUT = ""
"""The name a single array has while the model's inputs are not known."""


@dataclass(frozen=True)
class Preprocess:
    """Turns a raw value into `Prepared` by a list of operations. Build it with `from_spec`.

    A value that is a mapping (several inputs, or a pair {"a": ..., "b": ...}) is taken entry by entry: each
    operation is applied to every entry, or to one if its table has the key `on`. At the end the names are those of
    the model's inputs; a single array is bound to the model's only input.

    Attributes:
        spec: The tables, as written.
        root: Folder that relative paths are taken from.
        inputs: The model's inputs, with their batch axis; empty when unknown, and then nothing is checked.
    """

    spec: tuple[Table, ...]
    root: Path
    inputs: tuple[TensorSpec, ...] = ()
    _steps: tuple[tuple[str, PreOperation], ...] = field(default=(), repr=False, compare=False)

    @classmethod
    def from_spec(cls, ops: Sequence[Table], root: Path, inputs: Sequence[TensorSpec] = ()) -> Preprocess:
        """Builds the list of operations.

        Args:
            ops: One table per operation; `op` names it, the other keys are its fields.
            root: Folder that relative paths are taken from.
            inputs: The model's inputs, with their batch axis: binds names, and checks dtype and shape.

        Raises:
            ConfigError: An unknown operation or key, or a value that does not fit.
        """
        tables = tuple(dict(table) if isinstance(table, Mapping) else table for table in ops)
        bare = [_without_on(table) for table in tables]
        built = operations(PREPROCESSING, bare, "preprocess")
        targets = [_on(table, index) for index, table in enumerate(tables)]
        bound = (with_files(op, {p: str(resolved(root, p)) for p in file_fields(op).values()}) for op in built)
        return cls(tables, root, tuple(inputs), tuple(zip(targets, bound, strict=True)))

    def __call__(self, value: Any) -> Prepared:
        """Prepares one raw value.

        Raises:
            DataError: The value does not fit the operations, holds NaN or an infinity, or the result does not fit
                the model's inputs.
        """
        if isinstance(value, np.ndarray):
            check_finite(value, "the data", "repair or remove the sample")
        item = Item(value, {})
        for index, (on, operation) in enumerate(self._steps):
            try:
                item = _apply(operation, item, on)
            except EdgewrightError as error:
                raise type(error)(f"preprocess[{index}]: {error.message}", hint=error.hint) from error
        return Prepared(self._bound(item.value), item.geometry)

    @property
    def padding(self) -> dict[str, float]:
        """Model input -> what fills it up where samples of several lengths share a run.

        Known for texts that go from `tokenise` to the model unchanged but for their type.
        """
        found: dict[str, float] = {}
        for _, operation in self._steps:
            if isinstance(operation, Tokenise):
                found = operation.padding
            elif not isinstance(operation, Cast):
                found = {}
        return found

    def with_inputs(self, inputs: Sequence[TensorSpec]) -> Preprocess:
        """Returns the same list, bound to the inputs of a model."""
        return Preprocess(self.spec, self.root, tuple(inputs), self._steps)

    def resources(self) -> dict[str, Path]:
        """Returns the files the operations read: path as written in the spec -> where it lies."""
        built = operations(PREPROCESSING, [_without_on(table) for table in self.spec], "preprocess")
        written = [path for operation in built for path in file_fields(operation).values()]
        return {path: resolved(self.root, path) for path in written}

    def with_resources(self, paths: Mapping[str, str], root: Path) -> Preprocess:
        """Returns the same list with its files elsewhere, as a bundle needs.

        Args:
            paths: Path as written -> new path, relative to the new `root`.
            root: The new folder.
        """
        return Preprocess.from_spec([_renamed(table, paths) for table in self.spec], root, self.inputs)

    def _bound(self, value: Any) -> dict[str, NDArray[Any]]:
        if isinstance(value, Mapping):
            tensors = {str(name): _tensor(entry) for name, entry in value.items()}
        else:
            if len(self.inputs) > 1:
                names = ", ".join(spec.name for spec in self.inputs)
                raise DataError(
                    f"the model has {len(self.inputs)} inputs ({names}) and preprocessing gives one array",
                    hint="give samples as a mapping from input name to value, or tokenise with the right names",
                )
            tensors = {self.inputs[0].name if self.inputs else ONLY_INPUT: _tensor(value)}
        for name, array in tensors.items():
            check_finite(array, f"the model input {name or 'after preprocessing'}", _NAN_HINT)
        if self.inputs:
            return {spec.name: _fitting(spec, tensors) for spec in self.inputs}
        return tensors


_NAN_HINT = "look for a logarithm or a division by zero in the preprocessing, or an overflow in float16"


def check_finite(array: NDArray[Any], what: str, hint: str) -> None:
    """Refuses NaN and infinities.

    Raises:
        DataError: `array` holds one; the message says where.
    """
    if array.dtype.kind not in "fc" or np.isfinite(array).all():
        return
    bad = np.argwhere(~np.isfinite(array))
    first = array[tuple(bad[0])]
    message = f"{what} holds {first} at {bad[0].tolist()} ({len(bad)} of {array.size} values are not finite)"
    raise DataError(message, hint=hint)


def _apply(operation: PreOperation, item: Item, on: str) -> Item:
    if not isinstance(item.value, Mapping):
        if on:
            raise DataError(
                f'{operation.op} is for the entry "{on}" of a mapping, got {type(item.value).__name__}',
                hint='remove the key "on", or give samples as a mapping from input name to value',
            )
        return operation(item)
    if on and on not in item.value:
        message = f'{operation.op}: there is no entry "{on}" in the sample'
        raise DataError(message, hint=f"its entries are {', '.join(map(str, item.value))}")
    values, geometry = dict(item.value), item.geometry
    for name in [on] if on else list(values):
        done = operation(Item(values[name], dict(geometry).get(name, {})))
        values[name] = done.value
        if done.geometry:
            geometry = {**geometry, name: done.geometry}
    return Item(values, geometry)


def _tensor(value: Any) -> NDArray[Any]:
    array = np.asarray(value)
    if array.dtype.kind not in "biufc":
        raise DataError(
            f"preprocessing ends with {type(value).__name__}, not with numbers",
            hint='add the operation that turns it into numbers, such as "decode" or "tokenise"',
        )
    return np.ascontiguousarray(array) if array.ndim else array


def _fitting(spec: TensorSpec, tensors: Mapping[str, NDArray[Any]]) -> NDArray[Any]:
    if spec.name not in tensors:
        raise DataError(
            f"the model input {spec} gets no value; preprocessing gives {', '.join(tensors)}",
            hint="name the entries of the sample, or the fields of tokenise, after the model's inputs",
        )
    array = tensors[spec.name]
    if array.dtype != spec.dtype:
        raise DataError(
            f"the model input {spec.name} is {spec.dtype}, preprocessing gives {array.dtype}",
            hint=f'add {{ op = "cast", dtype = "{spec.dtype}" }} to the end of the preprocessing',
        )
    wanted = spec.shape[1:]
    if len(wanted) != array.ndim or any(
        isinstance(w, int) and w not in (-1, n) for w, n in zip(wanted, array.shape, strict=True)
    ):
        shown = [w if isinstance(w, int) else f"any ({w})" for w in wanted]
        raise DataError(
            f"the model input {spec.name} is {shown} per sample, preprocessing gives {list(array.shape)}",
            hint=_shape_hint(wanted, array.shape),
        )
    return array


def _shape_hint(wanted: Sequence[int | str], found: Sequence[int]) -> str:
    if len(found) == 3 and list(wanted) == [found[2], found[0], found[1]]:
        return 'add { op = "layout", order = "chw" } to the preprocessing'
    if len(found) == 3 and list(wanted) == [found[1], found[2], found[0]]:
        return 'remove { op = "layout", order = "chw" } from the preprocessing'
    if len(found) == len(wanted) + 1 and found[0] == 1:
        return "the batch axis is added for you: remove the leading axis with reshape"
    if len(wanted) == len(found) + 1 and wanted[-1] == 1:
        return 'add { op = "expand", axis = -1 } to the preprocessing'
    if len(wanted) == len(found) + 1 and wanted[0] == 1:
        return 'add { op = "expand", axis = 0 } to the preprocessing'
    return "resize, crop, window or reshape the samples to the model's shape"


def _on(table: Table, index: int) -> str:
    name = table.get("on", "")
    if not isinstance(name, str):
        raise ConfigError(f"preprocess[{index}]: on is the name of an entry, got {name!r}", hint="write it in quotes")
    return name


def _without_on(table: Table) -> Table:
    return {k: v for k, v in table.items() if k != "on"} if isinstance(table, Mapping) else table


def _renamed(table: Table, paths: Mapping[str, str]) -> Table:
    kind = PREPROCESSING[table["op"]]
    return {k: paths.get(v, v) if k in kind.files else v for k, v in table.items()}
