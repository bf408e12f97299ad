"""Labelled samples for planted faults, made by seed: pictures, pictures with one object, texts, sounds."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]
Table = Mapping[str, Any]
FIT, CALIBRATION, TUNE, TEST = slice(0, 400), slice(400, 464), slice(464, 624), slice(624, 784)
COUNT = 784
CLASSES = 6
SIDE = 24
PIXELS = 640
"""Side of the picture that boxes are given for; pictures are stored smaller."""
MEAN, STD = (0.45, 0.40, 0.35), (0.22, 0.24, 0.26)


@dataclass(frozen=True, slots=True, eq=False)
class Samples:
    """Raw samples as a project stores them.

    Attributes:
        values: One row per sample, as the reader gives them.
        labels: Class, or box (x1, y1, x2, y2) and class.
        preprocess: Tables that prepare them.
        classes: How many there are.
        vocabulary: Number of tokens; 0 where samples are no texts.
    """

    values: Array
    labels: Array
    preprocess: tuple[Table, ...]
    classes: int = CLASSES
    vocabulary: int = 0

    def fitting(self) -> tuple[Array, Array]:
        """Returns prepared samples and labels of the part that networks are fitted on."""
        from pathlib import Path

        from edgewright.pipeline import Preprocess

        prepare = Preprocess.from_spec(self.preprocess, Path())
        tensors = [next(iter(prepare(value).tensors.values())) for value in self.values[FIT]]
        return np.stack(tensors), self.labels[FIT]


def _picture_tables(mean: tuple[float, ...] = MEAN, std: tuple[float, ...] = STD) -> tuple[Table, ...]:
    scaled = {"op": "normalise", "scale": 1 / 255, "mean": list(mean), "std": list(std)}
    return (scaled, {"op": "layout", "order": "chw"})


def images(rng: np.random.Generator) -> Samples:
    """Gratings: three colours in two directions, with noise; uint8 [24, 24, 3]."""
    labels = rng.integers(0, CLASSES, COUNT)
    colours = np.array([[1.0, 0.35, 0.1], [0.2, 0.9, 0.3], [0.15, 0.4, 1.0]])
    row, column = np.mgrid[0:SIDE, 0:SIDE]
    phase = rng.uniform(0, 2 * np.pi, COUNT)[:, None, None]
    pitch = rng.uniform(0.8, 1.1, COUNT)[:, None, None]
    across = np.where((labels % 2)[:, None, None] == 0, row, column)
    wave = 0.5 + 0.5 * np.sin(across * pitch + phase)
    tint = colours[labels // 2] * rng.uniform(0.6, 1.0, (COUNT, 1))
    pictures = wave[..., None] * tint[:, None, None] * 190 + rng.normal(32, 14, (COUNT, SIDE, SIDE, 3))
    return Samples(np.clip(pictures, 0, 255).astype(np.uint8), labels, _picture_tables())


def objects(rng: np.random.Generator) -> Samples:
    """One coloured square per picture; labels are its box in pixels of 640 and its class."""
    classes = 4
    kind = rng.integers(0, classes, COUNT)
    colours = np.array([[1.0, 0.2, 0.1], [0.1, 0.9, 0.2], [0.1, 0.3, 1.0], [0.9, 0.8, 0.1]])
    size = rng.integers(8, 13, COUNT)
    corner = (rng.uniform(0, 1, (COUNT, 2)) * (SIDE - size)[:, None]).astype(int)
    pictures = rng.normal(60, 12, (COUNT, SIDE, SIDE, 3))
    for index in range(COUNT):
        x, y = corner[index]
        pictures[index, y : y + size[index], x : x + size[index]] = colours[kind[index]] * 190 + 30
    boxes = np.c_[corner, corner + size[:, None]] * (PIXELS / SIDE)
    stored = np.clip(pictures, 0, 255).astype(np.uint8)
    return Samples(stored, np.c_[boxes, kind], _picture_tables(), classes)


def texts(rng: np.random.Generator) -> Samples:
    """Twelve tokens, four of them typical of the class; int64 [12]."""
    vocabulary, length, typical = 60, 12, 5
    labels = rng.integers(0, CLASSES, COUNT)
    tokens = rng.integers(CLASSES * typical, vocabulary, (COUNT, length))
    for index, label in enumerate(labels):
        where = rng.choice(length, 4, replace=False)
        tokens[index, where] = label * typical + rng.integers(0, typical, 4)
    return Samples(tokens.astype(np.int64), labels, ({"op": "cast", "dtype": "int64"},), vocabulary=vocabulary)


def sounds(rng: np.random.Generator) -> Samples:
    """Tones of six pitches with noise; int16 [768]."""
    labels = rng.integers(0, CLASSES, COUNT)
    time = np.arange(768)
    pitch = 0.05 * 1.6 ** labels[:, None] * rng.uniform(0.95, 1.05, (COUNT, 1))
    loud = rng.uniform(5000, 9000, (COUNT, 1))
    waves = loud * np.sin(time * pitch + rng.uniform(0, 6.28, (COUNT, 1))) + rng.normal(0, 1200, (COUNT, 768))
    tables: tuple[Table, ...] = ({"op": "scale", "by": 1 / 8192}, {"op": "expand", "axis": 0})
    return Samples(np.clip(waves, -32768, 32767).astype(np.int16), labels, tables)
