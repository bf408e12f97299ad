"""The .mlpackage folder: written with the same bytes for the same model."""

from __future__ import annotations

import json
import uuid
from pathlib import Path
from typing import Any

PACKAGE = "model.mlpackage"
MANIFEST = f"{PACKAGE}/Manifest.json"
_DATA = "com.apple.CoreML"
SPECIFICATION = f"{PACKAGE}/Data/{_DATA}/model.mlmodel"
WEIGHTS = f"{PACKAGE}/Data/{_DATA}/weights/weight.bin"
_DATE = "com.github.apple.coremltools.conversion_date"
_ITEMS = {
    "model.mlmodel": ("CoreML Model Specification", f"{_DATA}/model.mlmodel"),
    "weights": ("CoreML Model Weights", f"{_DATA}/weights"),
}


def write_package(mlmodel: Any, out: Path) -> tuple[str, ...]:
    """Writes the package of a converted model without dates and random identifiers.

    Args:
        mlmodel: coremltools' model.
        out: The artifact folder.

    Returns:
        Its files, relative to `out`; the manifest first.
    """
    weights = out / WEIGHTS
    weights.parent.mkdir(parents=True)
    specification = mlmodel.get_spec()
    specification.description.metadata.userDefined.pop(_DATE, None)
    (out / SPECIFICATION).write_bytes(specification.SerializeToString(deterministic=True))
    given = Path(mlmodel.weights_dir) / "weight.bin" if mlmodel.weights_dir else None
    stored = given is not None and given.is_file()
    if given is not None and stored:
        weights.write_bytes(given.read_bytes())
    else:
        weights.parent.rmdir()
    (out / MANIFEST).write_text(_manifest(stored))
    return (MANIFEST, SPECIFICATION, WEIGHTS) if stored else (MANIFEST, SPECIFICATION)


def _manifest(weights: bool) -> str:
    names = [name for name in _ITEMS if weights or name != "weights"]
    numbers = {name: str(uuid.uuid5(uuid.NAMESPACE_URL, f"edgewright/coreml/{name}")) for name in names}
    items = {
        numbers[name]: {"author": _DATA, "description": _ITEMS[name][0], "name": name, "path": _ITEMS[name][1]}
        for name in names
    }
    content = {
        "fileFormatVersion": "1.0.0",
        "itemInfoEntries": items,
        "rootModelIdentifier": numbers["model.mlmodel"],
    }
    return json.dumps(content, indent=4) + "\n"
