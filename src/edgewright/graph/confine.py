"""External data of an ONNX file, confined to the folder of that file.

A model from outside is untrusted: a `location` such as `../../etc/passwd` would otherwise copy any readable file into
the artifact.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import onnx
from google.protobuf.message import DecodeError  # type: ignore[import-untyped, unused-ignore]

from edgewright.errors import Corrupt, SourceError

MAX_EXTERNAL_BYTES = 64 << 30
"""More external data than this is refused before anything is read."""


def external_files(proto: onnx.ModelProto, folder: Path) -> tuple[Path, ...]:
    """Returns the files that hold external tensors, each checked to lie inside `folder` and to be long enough.

    Args:
        proto: A model parsed without its external data.
        folder: Folder of the ONNX file.

    Raises:
        SourceError: A path leaves the folder, a file is missing, or there is too much data.
        Corrupt: A file is shorter than the tensors it should hold.
    """
    root = folder.resolve()
    found: dict[Path, None] = {}
    for tensor in tensors(proto):
        if tensor.data_location == onnx.TensorProto.EXTERNAL:
            path = _confined(tensor, root)
            _check_length(tensor, path)
            found[path] = None
    total = sum(path.stat().st_size for path in found)
    if total > MAX_EXTERNAL_BYTES:
        raise SourceError(
            f"{folder}: external data of {total} bytes, at most {MAX_EXTERNAL_BYTES} are read",
            hint="split the model, or store its weights in a smaller type",
        )
    return tuple(found)


def files_named_by(path: Path) -> tuple[Path, ...]:
    """Returns the files that the ONNX file at `path` keeps tensors in; none where it cannot be parsed.

    Raises:
        SourceError: As `external_files`.
        Corrupt: As `external_files`.
    """
    try:
        proto = onnx.load(path, load_external_data=False)
    except DecodeError:
        return ()  # reading the model says what is wrong with it
    return external_files(proto, path.parent)


def tensors(proto: onnx.ModelProto) -> Iterator[onnx.TensorProto]:
    """Yields every tensor of `proto`: initialisers and attributes, subgraphs and functions included."""
    yield from _graph_tensors(proto.graph)
    for function in proto.functions:
        yield from _node_tensors(function.node)
    for training in proto.training_info:
        yield from _graph_tensors(training.initialization)
        yield from _graph_tensors(training.algorithm)


def _graph_tensors(graph: onnx.GraphProto) -> Iterator[onnx.TensorProto]:
    yield from graph.initializer
    for sparse in graph.sparse_initializer:
        yield from (sparse.values, sparse.indices)
    yield from _node_tensors(graph.node)


def _node_tensors(nodes: object) -> Iterator[onnx.TensorProto]:
    for node in nodes:  # type: ignore[attr-defined]
        for attribute in node.attribute:
            if attribute.HasField("t"):
                yield attribute.t
            yield from attribute.tensors
            if attribute.HasField("g"):
                yield from _graph_tensors(attribute.g)
            for graph in attribute.graphs:
                yield from _graph_tensors(graph)


def _confined(tensor: onnx.TensorProto, root: Path) -> Path:
    location = _entries(tensor).get("location", "")
    if not location or "\0" in location:
        raise Corrupt(f'tensor "{tensor.name}": external data without a usable location', hint="export the model again")
    path = (root / location).resolve()
    if not path.is_relative_to(root):
        raise SourceError(
            f'tensor "{tensor.name}": external data "{location}" leaves the folder of the model, towards {path}',
            hint="put the data file beside the model, under a relative path; for a symbolic link, copy with `cp -L`",
        )
    if not path.is_file():
        raise SourceError(
            f'tensor "{tensor.name}": external data file "{location}" is missing from {root}',
            hint="copy the data files that belong to the model into its folder",
        )
    return path


def _entries(tensor: onnx.TensorProto) -> dict[str, str]:
    return {entry.key: entry.value for entry in tensor.external_data}


def _check_length(tensor: onnx.TensorProto, path: Path) -> None:
    entries = _entries(tensor)
    try:
        offset, length = int(entries.get("offset", "0")), int(entries.get("length", "0"))
    except ValueError:
        offset = length = -1
    size = path.stat().st_size
    if offset < 0 or length < 0 or offset + length > size:
        raise Corrupt(
            f'tensor "{tensor.name}": external data "{path.name}" has {size} bytes, '
            f"bytes {entries.get('offset', '0')} to offset + {entries.get('length', '0')} are expected",
            hint="the data file is truncated or belongs to another model; copy or download it again",
        )
