"""Source `saved-model`: a SavedModel folder through tf2onnx, in the environment of the toolchain `tensorflow`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from edgewright.core.step import Context
from edgewright.errors import Corrupt, SourceError
from edgewright.sources import _tensorflow

GRAPH_FILE = "saved_model.pb"
_MAX_GRAPH_BYTES = (2 << 30) - 1
_DEFAULT = "serving_default"
_REACHES_OUT = {
    "ReadFile", "WriteFile", "MatchingFiles", "PyFunc", "PyFuncStateless", "EagerPyFunc", "WholeFileReader",
    "WholeFileReaderV2", "TextLineReader", "TextLineReaderV2", "TFRecordReader", "TFRecordReaderV2", "LMDBReader",
    "FixedLengthRecordReader", "FixedLengthRecordReaderV2", "TextLineDataset", "TFRecordDataset", "TFRecordDatasetV2",
    "FixedLengthRecordDataset", "FixedLengthRecordDatasetV2", "LMDBDataset", "CSVDataset", "CSVDatasetV2", "SqlDataset",
    "RpcCall", "RpcClient", "RpcServer", "DataServiceDataset", "DataServiceDatasetV2",
}  # fmt: skip
"""Operators that read, write or call what lies outside the model."""


@dataclass(frozen=True, slots=True)
class SavedModelSource:
    """Imports one signature of a SavedModel; inputs and outputs keep the names they have there.

    `run` takes inputs["model"] (the folder); it writes `model.onnx` and `import.json`. The folder is untrusted:
    operators that read files or call Python are refused by name. The reference of the comparison is the signature
    itself in TensorFlow, on random inputs.

    Attributes:
        signature: Which one; empty for `serving_default`, or the only one.
        opset: 13 to 18.
        samples: Batches to compare on.
        least_snr_db: Smallest signal-to-noise ratio between the signature and the import, in dB.
    """

    name: ClassVar[str] = "saved-model"
    version: ClassVar[int] = 1
    requires: ClassVar[tuple[str, ...]] = _tensorflow.REQUIRES
    toolchain: ClassVar[str] = _tensorflow.TOOLCHAIN

    signature: str = ""
    opset: int = 18
    samples: int = 16
    least_snr_db: float = 60.0

    def run(self, inputs: Mapping[str, Path], out: Path, context: Context) -> None:
        """Imports the folder.

        Raises:
            SourceError: Not a SavedModel, no such signature, or an operator that reaches outside.
            Corrupt: It is damaged.
            StepFailed: tf2onnx does not convert it, or the import computes something else.
        """
        folder = inputs["model"]
        graph = _read(folder)
        tensorflow = _tensorflow.start()
        _check_operators(folder, graph)
        context.progress(0.2, "looked through")
        try:
            loaded = tensorflow.saved_model.load(str(folder))
        except Exception as error:  # TensorFlow raises many kinds
            text = " ".join(str(error).split())[:500]
            hint = "copy or export the whole folder again, variables included"
            raise Corrupt(f"{folder}: TensorFlow cannot read it: {type(error).__name__}: {text}", hint=hint) from error
        context.progress(0.3, "read")
        name = _chosen(folder, self.signature, sorted(loaded.signatures))
        function = _function(folder, name, loaded)
        _tensorflow.write_import(function, _tensorflow.Wish(self.opset, self.samples, self.least_snr_db), out, context)


def _read(folder: Path) -> bytes:
    path = folder / GRAPH_FILE
    if not path.is_file():
        raise SourceError(f"{folder}: no {GRAPH_FILE} in it, not a SavedModel", hint="give the folder that holds it")
    if path.stat().st_size > _MAX_GRAPH_BYTES:
        raise SourceError(f"{path}: {path.stat().st_size} bytes, at most 2 GiB are expected", hint="check the file")
    return path.read_bytes()


def _check_operators(folder: Path, graph: bytes) -> None:
    from google.protobuf.message import DecodeError
    from tensorflow.core.protobuf import saved_model_pb2

    saved = saved_model_pb2.SavedModel()
    try:
        saved.ParseFromString(graph)
    except DecodeError as error:
        hint = "copy or export the folder again"
        raise Corrupt(f"{folder / GRAPH_FILE}: damaged ({len(graph)} bytes)", hint=hint) from error
    graphs = [meta.graph_def for meta in saved.meta_graphs]
    nodes = [node for one in graphs for part in (one, *one.library.function) for node in _nodes(part)]
    found = sorted({f"{node.op} ({node.name})" for node in nodes if node.op in _REACHES_OUT})
    if found:
        hint = "export the model without what reads files or calls Python"
        raise SourceError(f"{folder}: reaches outside the model: {', '.join(found[:5])}", hint=hint)


def _nodes(part: Any) -> Sequence[Any]:
    return part.node_def if hasattr(part, "node_def") else part.node  # type: ignore[no-any-return]


def _chosen(folder: Path, wanted: str, names: Sequence[str]) -> str:
    if wanted in names:
        return wanted
    if not wanted and _DEFAULT in names:
        return _DEFAULT
    if not wanted and len(names) == 1:
        return names[0]
    what = f'no signature "{wanted}"' if wanted else "several signatures, none of them serving_default"
    if not names:
        hint = "export it with one: tf.saved_model.save(model, FOLDER, signatures=...) or model.export(FOLDER)"
        raise SourceError(f"{folder}: the SavedModel has no signatures", hint=hint)
    hint = f'write signature = "..." under [model]; there are: {", ".join(names)}'
    raise SourceError(f"{folder}: {what}", hint=hint)


def _function(folder: Path, name: str, loaded: Any) -> _tensorflow.Function:
    signature = loaded.signatures[name]
    takes = signature.structured_input_signature[1]
    gives = list(signature.structured_outputs)

    def call(*tensors: Any) -> Sequence[Any]:
        found = signature(**dict(zip(takes, tensors, strict=True)))
        return [found[key] for key in gives]

    return _tensorflow.Function(
        call=call,
        inputs=tuple((key, spec.dtype.name, _shape(spec.shape)) for key, spec in takes.items()),
        outputs=tuple(gives),
        label=f"{folder.name} ({name})",
        runner=f"signature {name} in TensorFlow",
        kind=SavedModelSource.name,
    )


def _shape(shape: Any) -> Any:
    return None if shape.rank is None else tuple(shape.as_list())


plugin = SavedModelSource
