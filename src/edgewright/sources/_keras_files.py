"""Keras files are looked through before Keras sees them: what they ask to be run, read or unpacked."""

from __future__ import annotations

import json
import zipfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import IO, TYPE_CHECKING, Any

from edgewright.errors import Corrupt, SourceError

if TYPE_CHECKING:
    import h5py

_CONFIG, _METADATA, _WEIGHTS = "config.json", "metadata.json", "model.weights.h5"
_MAX_TEXT_BYTES = 256 << 20
_MAX_BYTES = 16 << 30
"""Of everything in the file, unpacked: more is no model that fits an edge device."""
_RUNS_CODE = {"Lambda", "__lambda__", "TorchModuleWrapper", "JaxLayer", "FlaxLayer", "TFSMLayer"}
"""What carries a program, or names one elsewhere."""
_OWN_MODULES = ("keras", "tf_keras", "tensorflow.keras", "tensorflow.python.keras")
_PLAIN_BUILTINS = {"function", "slice", "range", "Ellipsis", "NoneType"}
_TF_FAMILIES = ("math", "nn", "linalg", "image", "signal", "bitwise", "keras.backend", "__operators__")
_TF_UNSAFE = {"py_function", "numpy_function", "load_library", "load_op_library", "print"}
ADVICE = "where it was built, run model.export(FOLDER), and give the folder: a SavedModel holds plain operators"


@dataclass(frozen=True, slots=True)
class KerasFile:
    """A file that may be given to Keras.

    Attributes:
        path: Where it is.
        keras: Major version of the Keras that wrote it.
    """

    path: Path
    keras: int


def examine(path: Path) -> KerasFile:
    """Looks through a `.keras` or `.h5` file; nothing in it is run.

    Raises:
        SourceError: No such file, another format, weights alone, a custom object, or something that runs code.
        Corrupt: The file is damaged.
    """
    if not path.is_file():
        raise SourceError(f"{path}: no such model file", hint="check the path")
    with path.open("rb") as file:
        start = file.read(64)
    if start.startswith(b"version https://git-lfs"):
        raise SourceError(f"{path}: a Git LFS pointer, not the model", hint="run `git lfs pull` in its repository")
    if start.startswith(b"PK"):
        return _examine_archive(path)
    if start.startswith(b"\x89HDF\r\n\x1a\n"):
        return _examine_h5(path)
    raise SourceError(
        f"{path}: neither a .keras archive nor an HDF5 file (begins with {start[:8]!r})",
        hint="save the model again: model.save('model.keras')",
    )


def _examine_archive(path: Path) -> KerasFile:
    try:
        with zipfile.ZipFile(path) as archive:
            _check_members(path, archive)
            config = _json(path, archive, _CONFIG)
            metadata = _json(path, archive, _METADATA)
            if archive.testzip() is not None:
                raise zipfile.BadZipFile("a checksum is wrong")
            with archive.open(_WEIGHTS) as weights:
                _check_weights(path, weights)
    except (zipfile.BadZipFile, OSError, EOFError, ValueError, NotImplementedError, RuntimeError) as error:
        raise Corrupt(f"{path}: not a complete .keras archive: {error}", hint="copy or save the model again") from error
    check_config(path, config)
    return KerasFile(path, _major(metadata.get("keras_version")))


def _check_members(path: Path, archive: zipfile.ZipFile) -> None:
    members = archive.infolist()
    names = [member.filename for member in members]
    outside = [name for name in names if _leaves_folder(name)]
    if outside:
        raise SourceError(f"{path}: member {outside[0]!r} lies outside the archive", hint="do not use this file")
    lacking = [name for name in (_CONFIG, _METADATA, _WEIGHTS) if name not in names]
    if lacking:
        hint = "save the whole model: model.save('model.keras')"
        raise SourceError(f"{path}: an archive without {lacking[0]}, not a Keras model", hint=hint)
    total = sum(member.file_size for member in members)
    text = max(archive.getinfo(name).file_size for name in (_CONFIG, _METADATA))
    if total > _MAX_BYTES or text > _MAX_TEXT_BYTES or len(names) != len(set(names)):
        raise SourceError(
            f"{path}: unpacks to {total} bytes in {len(names)} members (configuration {text} bytes)",
            hint=f"a model has at most {_MAX_BYTES} bytes, its configuration {_MAX_TEXT_BYTES}; do not use this file",
        )


def _leaves_folder(name: str) -> bool:
    pure = PurePosixPath(name.replace("\\", "/"))
    return pure.is_absolute() or ".." in pure.parts or ":" in name


def _json(path: Path, archive: zipfile.ZipFile, member: str) -> dict[str, Any]:
    with archive.open(member) as file:
        found = json.loads(file.read(_MAX_TEXT_BYTES))
    if not isinstance(found, dict):
        raise ValueError(f"{member} holds no object")
    return found


def _examine_h5(path: Path) -> KerasFile:
    import h5py

    try:
        with h5py.File(path, "r") as file:
            _check_links(path, file)
            config, version = file.attrs.get("model_config"), file.attrs.get("keras_version")
            weights_alone = config is None
            found = {} if config is None else json.loads(config)
    except (OSError, ValueError, KeyError, RuntimeError) as error:
        raise Corrupt(f"{path}: not a complete HDF5 file: {error}", hint="copy or save the model again") from error
    if weights_alone:
        hint = "save the whole model where it was built: model.save('model.keras')"
        raise SourceError(f"{path}: holds weights without the model they belong to", hint=hint)
    check_config(path, found)
    return KerasFile(path, _major(version))


def _check_weights(path: Path, weights: IO[bytes]) -> None:
    import h5py

    with h5py.File(weights, "r") as file:
        _check_links(path, file)


def _check_links(path: Path, root: h5py.Group) -> None:
    """HDF5 can name other files, which would be read into the model, and claim any size."""
    import h5py

    total, pending = 0, [root]
    while pending:
        group = pending.pop()
        for name in group:
            if not isinstance(group.get(name, getlink=True), h5py.HardLink):
                raise SourceError(f"{path}: {group.name}/{name} is a link elsewhere", hint="do not use this file")
            item = group[name]
            if isinstance(item, h5py.Group):
                pending.append(item)
                continue
            if item.is_virtual or item.external:
                raise SourceError(f"{path}: {item.name} lies in another file", hint="do not use this file")
            total += item.nbytes
            if total > _MAX_BYTES:
                hint = f"a model has at most {_MAX_BYTES} bytes; do not use this file"
                raise SourceError(f"{path}: claims more than {_MAX_BYTES} bytes of weights", hint=hint)


def check_config(path: Path, config: Mapping[str, Any]) -> None:
    """Checks every object that the configuration asks Keras to build; how it was trained is left out.

    Raises:
        SourceError: One is not Keras' own, or runs code.
    """
    for entry, layer in _objects({key: value for key, value in config.items() if key != "compile_config"}):
        name = str(entry["class_name"])
        where = f'layer "{layer}"' if layer else "the model"
        if name in _RUNS_CODE:
            raise SourceError(
                f"{path}: {where} is a {name}, which runs code from outside Keras",
                hint=f"write it with layers of Keras; or, if you trust the model: {ADVICE}",
            )
        _check_origin(path, entry, name, where)
        _check_function(path, entry, name, where)
        _check_files(path, entry, name, where)


def _check_origin(path: Path, entry: Mapping[str, Any], name: str, where: str) -> None:
    module, registered = entry.get("module"), entry.get("registered_name")
    family, mark, _ = str(registered or "").partition(">")
    own = module is None or _within(str(module), _OWN_MODULES) or (module == "builtins" and name in _PLAIN_BUILTINS)
    if not own or (mark and not _within(family, _OWN_MODULES)):
        origin = registered or f"{module}.{name}"
        raise SourceError(f'{path}: {where} is a custom object, "{origin}", not one of Keras', hint=ADVICE)


def _check_function(path: Path, entry: Mapping[str, Any], name: str, where: str) -> None:
    """Keras 2 writes calls of TensorFlow between layers as their public name."""
    if name not in ("TFOpLambda", "SlicingOpLambda", "ClassMethod", "InstanceMethod", "InstanceProperty"):
        return
    symbol = str((entry.get("config") or {}).get("function", "")).removeprefix("compat.v1.")
    plain = "." not in symbol and symbol not in _TF_UNSAFE
    if name == "ClassMethod" or not (plain or _within(symbol, _TF_FAMILIES)):
        raise SourceError(f"{path}: {where} calls tf.{symbol}, which no model needs", hint=ADVICE)


def _check_files(path: Path, entry: Mapping[str, Any], name: str, where: str) -> None:
    """Lookup layers may name a vocabulary file, which would be read from this machine."""
    vocabulary = (entry.get("config") or {}).get("vocabulary") if isinstance(entry.get("config"), Mapping) else None
    if isinstance(vocabulary, str):
        raise SourceError(f"{path}: {where} ({name}) reads the file {vocabulary!r}", hint=ADVICE)


def _within(name: str, families: tuple[str, ...]) -> bool:
    return any(name == family or name.startswith(f"{family}.") for family in families)


def _objects(config: Any) -> Iterator[tuple[Mapping[str, Any], str]]:
    """Yields every serialised object, and the name of the layer it is part of."""
    pending: list[tuple[Any, str]] = [(config, "")]
    while pending:
        value, layer = pending.pop()
        if isinstance(value, list):
            pending.extend((item, layer) for item in value)
        elif isinstance(value, Mapping):
            inner = value.get("config")
            if "class_name" in value:
                layer = str(value.get("name") or (inner.get("name") if isinstance(inner, Mapping) else "") or layer)
                yield value, layer
            pending.extend((item, layer) for item in value.values())


def _major(version: Any) -> int:
    text = str(version or "2").partition(".")[0]
    return int(text) if text.isdigit() else 2
