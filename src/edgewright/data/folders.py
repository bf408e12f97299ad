"""Readers `images` and `wav`: one file per sample."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np

from edgewright.core.data import Sample
from edgewright.data.source import Indices, Source, existing, positions
from edgewright.errors import DataError
from edgewright.pipeline.image import read_file
from edgewright.pipeline.spec import resolved

IMAGES = frozenset({".jpg", ".jpeg", ".png", ".bmp", ".webp", ".tif", ".tiff", ".ppm", ".pgm"})
SOUNDS = frozenset({".wav", ".flac", ".ogg"})


@dataclass(frozen=True, slots=True)
class Images:
    """A folder of images, in the order of their paths, or in that of a COCO annotation file.

    Attributes:
        path: The folder.
        annotations: COCO JSON with boxes; `file_name` is relative to `path`. Classes are found by name among the
            project's labels; without labels `category_id` is the class index.
        label: `folder`: the sub-folder is the class (images that lie in none have no label); `none`.
        rows: Slices such as `0:100`; empty for all.
        shuffle: Seed of a permutation before slicing.
    """

    reader: ClassVar[str] = "images"
    path: str
    annotations: str = ""
    label: Literal["folder", "none"] = "folder"
    rows: str = ""
    shuffle: int | None = None

    def open(self, root: Path, labels: tuple[str, ...]) -> Source:
        folder = existing(resolved(root, self.path), self.path)
        if self.annotations:
            items = _coco_items(existing(resolved(root, self.annotations), self.annotations), labels)
            return _chosen(folder, items, (), self.rows, self.shuffle)
        return _open_folder(folder, IMAGES, labels, self.label, self.rows, self.shuffle)

    def files(self, root: Path) -> Iterator[Path]:
        yield from _listed(resolved(root, self.path), IMAGES)
        if self.annotations:
            yield resolved(root, self.annotations)


@dataclass(frozen=True, slots=True)
class Wav:
    """A folder of sound files (WAV, FLAC, OGG), in the order of their paths.

    Attributes:
        path: The folder.
        label: `folder`: the sub-folder is the class (files that lie in none have no label); `none`.
        rows: Slices such as `0:100`; empty for all.
        shuffle: Seed of a permutation before slicing.
    """

    reader: ClassVar[str] = "wav"
    path: str
    label: Literal["folder", "none"] = "folder"
    rows: str = ""
    shuffle: int | None = None

    def open(self, root: Path, labels: tuple[str, ...]) -> Source:
        folder = existing(resolved(root, self.path), self.path)
        return _open_folder(folder, SOUNDS, labels, self.label, self.rows, self.shuffle)

    def files(self, root: Path) -> Iterator[Path]:
        yield from _listed(resolved(root, self.path), SOUNDS)


@dataclass(frozen=True, eq=False)
class _FolderSource:
    folder: Path
    items: Sequence[tuple[str, Any]]
    has_labels: bool
    labels: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.items)

    def __iter__(self) -> Iterator[Sample]:
        for name, label in self.items:
            yield Sample(name, read_file(self.folder / name), label)

    def thinned(self, step: int) -> _FolderSource:
        return replace(self, items=self.items[::step])

    def origin(self) -> dict[str, Indices]:
        only = np.zeros(1, np.int64)
        return {str((self.folder / name).resolve()): only for name, _ in self.items}


def _chosen(
    folder: Path, items: Sequence[tuple[str, Any]], labels: tuple[str, ...], rows: str, shuffle: int | None
) -> Source:
    kept = [items[i] for i in positions(len(items), rows, shuffle, str(folder)).tolist()]
    return _FolderSource(folder, kept, all(label is not None for _, label in kept), labels)


def _listed(folder: Path, suffixes: frozenset[str]) -> list[Path]:
    return sorted(p for p in folder.rglob("*") if p.suffix.lower() in suffixes and p.is_file())


def _open_folder(
    folder: Path, suffixes: frozenset[str], labels: tuple[str, ...], label: str, rows: str, shuffle: int | None
) -> Source:
    names = [path.relative_to(folder).as_posix() for path in _listed(folder, suffixes)]
    if not names:
        hint = f"put files ending in {', '.join(sorted(suffixes))} into it, or correct `path`"
        raise DataError(f"{folder} holds no such files", hint=hint)
    classes = sorted({name.split("/")[0] for name in names if "/" in name})
    if label == "none" or not classes:
        return _chosen(folder, [(name, None) for name in names], (), rows, shuffle)
    loose = [name for name in names if "/" not in name]
    if loose:
        message = f"{folder}: {loose[0]} and {len(loose) - 1} more lie beside the class folders"
        raise DataError(message, hint='move them into the folder of their class, or set label = "none"')
    strange = [name for name in classes if labels and name not in labels]
    if strange:
        message = f"{folder}: the folder {strange[0]} is not among the labels ({', '.join(labels[:8])}...)"
        raise DataError(message, hint='rename it, add it to labels, or set label = "none"')
    known = labels or tuple(classes)
    index = {name: i for i, name in enumerate(known)}
    return _chosen(folder, [(name, index[name.split("/")[0]]) for name in names], known, rows, shuffle)


def _coco_items(path: Path, labels: tuple[str, ...]) -> list[tuple[str, Any]]:
    """Returns (file name, {"boxes", "classes", "crowd"}) of every image, in the order of the file."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        classes = _coco_classes(content["categories"], labels, path)
        found: dict[Any, dict[str, list[Any]]] = {
            image["id"]: {"boxes": [], "classes": [], "crowd": []} for image in content["images"]
        }
        for annotation in content["annotations"]:
            label = found[annotation["image_id"]]
            label["boxes"].append(_corners(annotation, path))
            label["classes"].append(classes[annotation["category_id"]])
            label["crowd"].append(bool(annotation.get("iscrowd", 0)))
        return [(str(image["file_name"]), found[image["id"]]) for image in content["images"]]
    except (OSError, ValueError) as error:
        raise DataError(f"cannot read {path}: {error}", hint="give a COCO annotation file (JSON)") from error
    except (KeyError, TypeError) as error:
        message = f"{path} is no complete COCO file: {type(error).__name__} {error}"
        hint = "it needs images (id, file_name), annotations (image_id, category_id, bbox) and categories (id, name)"
        raise DataError(message, hint=hint) from error


def _coco_classes(categories: Sequence[Mapping[str, Any]], labels: tuple[str, ...], path: Path) -> dict[int, int]:
    if not labels:
        return {category["id"]: category["id"] for category in categories}
    unknown = [category["name"] for category in categories if category["name"] not in labels]
    if unknown:
        message = f"{path}: the category {unknown[0]!r} is not among the {len(labels)} labels"
        raise DataError(message, hint="give the model's class names as labels, in index order")
    return {category["id"]: labels.index(category["name"]) for category in categories}


def _corners(annotation: Mapping[str, Any], path: Path) -> list[float]:
    x, y, width, height = (float(v) for v in annotation["bbox"])
    if not (np.isfinite([x, y, width, height]).all() and width >= 0 and height >= 0):
        message = f"{path}: annotation {annotation.get('id')} has the box {annotation['bbox']}"
        raise DataError(message, hint="boxes are x, y, width, height in pixels, none of them NaN, no side negative")
    return [x, y, x + width, y + height]
