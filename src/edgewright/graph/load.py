"""ONNX on disk <-> `onnx_ir.Model` in memory, and the tensors a model takes and gives."""

from __future__ import annotations

import errno
import shutil
from collections.abc import Iterable
from pathlib import Path

import onnx
import onnx_ir as ir
from google.protobuf.message import DecodeError  # type: ignore[import-untyped, unused-ignore]

from edgewright.core.codec import decode_stored
from edgewright.core.target import Plan
from edgewright.core.tensors import TensorSpec
from edgewright.errors import Corrupt, SourceError
from edgewright.graph import custom
from edgewright.graph.confine import external_files
from edgewright.store.files import full_disk

MODEL_FILE = "model.onnx"
DATA_FILE = "model.onnx.data"
PLAN_FILE = "plan.json"
MAX_PROTO_BYTES = (2 << 30) - 1
EMBED_BYTES = 1 << 30
"""Weights up to this size are written into `model.onnx`; more go to one data file beside it."""


def model_file(path: Path) -> Path:
    """Returns the ONNX file that `path` stands for: itself, or the `model.onnx` (or only ONNX file) of a folder.

    Raises:
        SourceError: There is none, or more than one.
    """
    if not path.is_dir():
        return path
    if (path / MODEL_FILE).is_file():
        return path / MODEL_FILE
    found = sorted(path.glob("*.onnx"))
    if len(found) != 1:
        raise SourceError(
            f"{path}: expected {MODEL_FILE} or one ONNX file, found {len(found)}", hint="name the file itself"
        )
    return found[0]


def load_proto(path: Path) -> onnx.ModelProto:
    """Parses an ONNX file without its external data, whose paths are checked.

    Raises:
        SourceError: No such file, not ONNX, too large, or external data outside its folder.
        Corrupt: The file is damaged.
    """
    path = model_file(path)
    proto = onnx.ModelProto()
    try:
        proto.ParseFromString(_read(path))
    except DecodeError as error:
        raise Corrupt(
            f"{path}: not a complete ONNX file ({_size(path)} bytes)",
            hint="the file is truncated or of another format; copy or export it again",
        ) from error
    if not proto.HasField("graph") or not proto.graph.output or not proto.opset_import:
        raise Corrupt(
            f"{path}: an ONNX model without a graph, outputs or opset ({_size(path)} bytes)",
            hint="the file is truncated or of another format; copy or export it again",
        )
    external_files(proto, path.parent)
    return proto


def load(path: Path) -> ir.Model:
    """Reads a model; external data are mapped, not copied, until used.

    Args:
        path: An ONNX file or a hub model folder.

    Raises:
        SourceError: No such file, not ONNX, too large, or external data outside its folder.
        Corrupt: The file is damaged, or a library of custom operators beside it.
    """
    path = model_file(path)
    proto = load_proto(path)
    try:
        model = ir.from_proto(proto)
    except Exception as error:  # the deserialiser raises many kinds for a damaged graph
        raise Corrupt(f"{path}: damaged graph: {error}", hint="export or download the model again") from error
    ir.external_data.set_base_dir(model.graph, path.parent.resolve())
    custom.found_beside(model, path.parent)
    return model


def save(model: ir.Model, folder: Path, *, libraries: bool = True) -> Path:
    """Writes `model` as hub model folder; nothing half-written stays if it fails.

    Args:
        model: The graph.
        folder: Where to.
        libraries: Write its libraries of custom operators beside it, too.

    Returns:
        Path of `model.onnx`.

    Raises:
        OutOfSpace: The disk is full.
    """
    folder.mkdir(parents=True, exist_ok=True)
    ir.external_data.load_to_model(model)
    weights = weight_bytes(model)
    target = folder / MODEL_FILE
    partial = folder / f"{MODEL_FILE}.partial"
    kept = dict(model.metadata_props)
    try:
        if libraries:
            model.metadata_props.update(custom.written_beside(model, folder))
        ir.save(model, partial, external_data=DATA_FILE if weights > EMBED_BYTES else None)
        partial.replace(target)
    except OSError as error:
        partial.unlink(missing_ok=True)
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise full_disk(folder) from error
        raise
    finally:
        model.metadata_props.update(kept)
    return target


def carry_plan(source: Path, folder: Path) -> None:
    """Copies `plan.json` of the hub folder `source` into `folder` where there is one."""
    plan = source / PLAN_FILE
    if source.is_dir() and plan.is_file():
        shutil.copyfile(plan, folder / PLAN_FILE)


def stored_plan(folder: Path) -> Plan | None:
    """Reads the `plan.json` of a hub folder; None where there is none.

    Raises:
        Corrupt: It cannot be read.
    """
    path = folder / PLAN_FILE
    try:
        return decode_stored(Plan, path.read_bytes()) if path.is_file() else None
    except ValueError as error:
        raise Corrupt(f"{path}: {error}", hint="make the model again") from error


def weight_bytes(model: ir.Model) -> int:
    """Returns the bytes of all initialisers, subgraphs included."""
    return sum(t.nbytes for g in model.graphs() for v in g.initializers.values() if (t := v.const_value) is not None)


def tensor_specs(model: ir.Model) -> tuple[tuple[TensorSpec, ...], tuple[TensorSpec, ...]]:
    """Returns inputs (initialisers listed as inputs left out) and outputs, in the graph's order."""
    graph = model.graph
    inputs = (value for value in graph.inputs if value.name not in graph.initializers)
    return _specs(inputs), _specs(graph.outputs)


def dtype_name(dtype: ir.DataType | None) -> str:
    """Returns NumPy's name of `dtype`, `string` for strings and `unknown` where the graph does not say."""
    if dtype is None or dtype == ir.DataType.UNDEFINED:
        return "unknown"
    return "string" if dtype == ir.DataType.STRING else str(dtype.numpy().name)


def _specs(values: Iterable[ir.Value]) -> tuple[TensorSpec, ...]:
    return tuple(TensorSpec(v.name or "", dtype_name(v.dtype), _shape(v)) for v in values)


def _shape(value: ir.Value) -> tuple[int | str, ...]:
    if value.shape is None:
        return ()
    return tuple(d if isinstance(d, int) else d.value or f"{value.name}.{i}" for i, d in enumerate(value.shape))


def _read(path: Path) -> bytes:
    try:
        size = path.stat().st_size
        if size > MAX_PROTO_BYTES:
            raise SourceError(
                f"{path}: {size} bytes, ONNX files end at 2 GiB", hint="store the weights as external data"
            )
        data = path.read_bytes()
    except FileNotFoundError as error:
        raise SourceError(f"{path}: no such model file", hint="check the path") from error
    except OSError as error:
        raise SourceError(f"{path}: {error.strerror}", hint="check the path and its permissions") from error
    if data.startswith(b"version https://git-lfs"):
        raise SourceError(f"{path}: a Git LFS pointer, not the model", hint="run `git lfs pull` in its repository")
    return data


def _size(path: Path) -> int:
    return path.stat().st_size
