"""Libraries of custom operators beside a hub model: named in the model with their digests, copied from pass to pass.

Only what an import put there is taken: a model from outside that names libraries has the names dropped, so that no
native code runs that the project did not declare.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterable, Mapping
from pathlib import Path

import onnx_ir as ir

from edgewright.errors import Corrupt
from edgewright.runtimes._ort_custom import FOLDER, place_of
from edgewright.store.files import digest_file

KEY = "edgewright.custom_operators"
"""Entry of the model's metadata: {path: digest}, the path relative to the folder, or absolute in memory."""


def declare(model: ir.Model, libraries: Iterable[Path]) -> None:
    """Makes `libraries`, and no others, those of `model`.

    Raises:
        UsageError: One does not exist, or is no native library.
    """
    model.metadata_props.pop(KEY, None)
    found = {str(library.resolve()): str(digest_file(library)) for library in libraries if place_of(library)}
    if found:
        model.metadata_props[KEY] = json.dumps(found)


def libraries(model: ir.Model) -> tuple[Path, ...]:
    """Returns the libraries of a loaded model."""
    return tuple(Path(path) for path in _entries(model))


def found_beside(model: ir.Model, folder: Path) -> None:
    """Turns the names that `written_beside` wrote into files of `folder`; called on loading.

    Raises:
        Corrupt: A file is missing or was changed.
    """
    entries = _entries(model)
    if not entries or any(Path(path).is_absolute() for path in entries):
        model.metadata_props.pop(KEY, None)
        return
    for path, digest in entries.items():
        file = folder / path
        if not path.startswith(f"{FOLDER}/") or ".." in path or not file.is_file() or digest_file(file) != digest:
            raise Corrupt(f"{file}: the library of custom operators is missing or was changed", hint="import it again")
    model.metadata_props[KEY] = json.dumps({str((folder / path).resolve()): d for path, d in entries.items()})


def written_beside(model: ir.Model, folder: Path) -> dict[str, str]:
    """Copies the libraries of `model` into `folder`; called on saving.

    Returns:
        The metadata to write into the file.
    """
    if KEY not in model.metadata_props:
        return dict(model.metadata_props)
    placed: dict[str, str] = {}
    for path, digest in sorted(_entries(model).items()):
        library = Path(path)
        # on the way from pass to pass the folder already is the one of its machine
        name = place_of(library)
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        if (folder / name).resolve() != library:
            shutil.copyfile(library, folder / name)
        placed[name] = digest
    return {**model.metadata_props, KEY: json.dumps(placed)}


def _entries(model: ir.Model) -> Mapping[str, str]:
    found = json.loads(model.metadata_props.get(KEY, "{}"))
    return found if isinstance(found, dict) else {}
