"""YOLOX-nano pruned by measured latency and distilled without a label, from pet photos and video frames.

The photos that the example calibrates and chooses with (109), enlarged by mirrored, cropped, moved and recoloured
copies and mosaics of four, and frames of the two videos teach; the 76 photos of its test split judge. Nobody sees a
box: the original answers for every picture what the pruned network has to say. The original is cleaned up the same way
before it is timed. Rates were chosen by agreement with the original on photos held out of the 109; how far is pruned
and how long is learnt, by latency and by a loss that still fell, after earlier recipes had been judged.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray
from setting import CLEAN_UP, EXAMPLES, Judged, Options, Row, Setting, open_setting

from edgewright.core.data import PairedDifference
from edgewright.core.recipe import StepSpec
from edgewright.data import open_spec
from edgewright.data.spec import data_spec
from edgewright.engine.execute import Result
from edgewright.project.config import load_project

PROJECT = "yolox_nano/edgewright.toml"
FASTER, LOSS = 0.30, 0.02
SIDE = 416
_KEPT = {"least": 0.375, "keep": ["Conv_41"], "align": 8}
"""The first convolution stays: its time is that of reading the picture, whatever it makes of it."""
Picture = NDArray[np.uint8]


@dataclass(frozen=True, slots=True)
class Plan:
    """How much is learnt from, and for how long.

    Attributes:
        copies: Of each photo.
        frames: Of both videos.
        epochs: Of distillation.
        batch: Pictures per step.
        rate: The highest learning rate; three times as much undoes what was reconstructed.
        latency: Asked of `prune`.
        seconds: For which both networks are timed.
    """

    copies: int = 8
    frames: int = 100
    epochs: int = 14
    batch: int = 4
    rate: float = 1e-3
    latency: float = 0.715
    seconds: float = 30.0


def run(options: Options) -> tuple[Row, ...]:
    """Prunes, reconstructs, distils, scores, times, and prints every figure."""
    plan = Plan(copies=1, frames=8, epochs=1, seconds=5.0) if options.quick else Plan()
    setting = _setting(options, plan)
    cleaned = setting.compile(setting.apply([CLEAN_UP]))
    original = setting.judge(cleaned)
    print(f"  original: mAP50 {original.value:.4f}", flush=True)
    stages = stages_of(plan)
    for count in range(2, len(stages) + 1):
        model = setting.apply(stages[:count])
        found = _judged(setting, stages[count - 1].name, model, original)
    speed = setting.time(setting.compile(model), cleaned, plan.seconds).speedup
    less, low, high = (1 - 1 / ratio for ratio in (speed.value, speed.low, speed.high))
    measured = f"{less:.0%} less [{low:.0%}, {high:.0%}], {_said(found)}"
    asked = f"{FASTER:.0%} less latency, at most {100 * LOSS:.0f} points of mAP50"
    met = bool(less >= FASTER and found.value >= -LOSS)
    return (Row("4 YOLOX-nano pruned, distilled without labels", asked, measured, met),)


def stages_of(plan: Plan) -> tuple[StepSpec, ...]:
    """Returns the recipe."""
    fit: dict[str, Any] = {"validation": 0.0, "warmup": 0.1, "weight_decay": 0.0, "clip_norm": 10.0}
    regime = {"epochs": plan.epochs, "batch": plan.batch, "learning_rate": plan.rate, "fit": fit}
    return (
        CLEAN_UP,
        StepSpec("prune", {"latency": plan.latency, **_KEPT, "split": "unlabelled", "limit": 128, "batch": 2}),
        StepSpec("reconstruct", {"limit": 128}),
        StepSpec("distill", {**regime, "loss": "detector"}),
    )


def _judged(setting: Setting, title: str, model: Result, original: Judged) -> PairedDifference:
    found = setting.judge(setting.compile(model), reference=original)
    assert found.difference is not None
    print(f"  {title}: mAP50 {found.value:.4f}, {_said(found.difference)}", flush=True)
    return found.difference


def _said(difference: PairedDifference) -> str:
    low, high = 100 * difference.low, 100 * difference.high
    return f"{100 * difference.value:+.1f} points [{low:+.1f}, {high:+.1f}]"


def _setting(options: Options, plan: Plan) -> Setting:
    known = load_project(EXAMPLES / PROJECT).file.data
    pictures = _pictures(options, plan)
    data = {**known, "unlabelled": {"path": str(pictures), "annotations": "", "rows": "", "label": "none"}}
    return open_setting(PROJECT, options, data=data)


def _pictures(options: Options, plan: Plan) -> Path:
    """Writes what is learnt from as image files, once."""
    folder = options.work / f"yolox-pictures-{plan.copies}-{plan.frames}"
    if not folder.is_dir():
        partial = folder.with_suffix(".partial")
        partial.mkdir(parents=True, exist_ok=True)
        rng = np.random.default_rng(0)
        photos = [_decoded(photo) for photo in _photos()]
        for index, picture in enumerate([*_varied(photos, plan.copies, rng), *_frames(plan.frames)]):
            cv2.imwrite(str(partial / f"{index:04}.png"), picture)
        partial.rename(folder)
    return folder


def _photos() -> Iterator[bytes]:
    """Yields the photos that calibrate and choose; those that report stay out."""
    project = load_project(EXAMPLES / PROJECT)
    data = open_spec(data_spec(project.root, project.file.data, project.file.preprocess, labels=project.labels))
    for split in ("calibration", "tune"):
        for sample in data.dataset(split):
            yield sample.value


def _decoded(photo: bytes) -> Picture:
    return np.asarray(cv2.imdecode(np.frombuffer(photo, np.uint8), cv2.IMREAD_COLOR), np.uint8)


def _varied(photos: list[Picture], copies: int, rng: np.random.Generator) -> Iterator[Picture]:
    """Yields every photo, its mirror image, two moved and recoloured copies, a mosaic and so on, `copies` of each."""
    for copy in range(copies):
        for photo in photos:
            if copy < 2:
                yield photo[:, ::-1] if copy else photo
                continue
            four = [_mirrored(photos[i], rng) for i in rng.choice(len(photos), 4, replace=False)]
            yield _recoloured(_mosaic(four, rng) if copy % 4 == 0 else _mirrored(_moved(photo, rng), rng), rng)


def _mirrored(photo: Picture, rng: np.random.Generator) -> Picture:
    return photo[:, ::-1] if rng.random() < 0.5 else photo


def _moved(photo: Picture, rng: np.random.Generator) -> Picture:
    """Cuts out a part of another aspect, and now and then puts it smaller and elsewhere."""
    share, aspect = rng.uniform(0.55, 1.0), np.exp(rng.uniform(-0.15, 0.15))
    part = _cut(photo, min(share * aspect, 1.0), min(share / aspect, 1.0), rng)
    if rng.random() < 0.6:
        return part
    scale = SIDE / max(part.shape[:2]) * rng.uniform(0.6, 1.0)
    height, width = (int(size * scale) for size in part.shape[:2])
    top, left = rng.integers(SIDE - height + 1), rng.integers(SIDE - width + 1)
    whole = np.full((SIDE, SIDE, 3), 114, np.uint8)
    whole[top : top + height, left : left + width] = cv2.resize(part, (width, height))
    return whole


def _cut(photo: Picture, tall: float, wide: float, rng: np.random.Generator) -> Picture:
    height, width = int(photo.shape[0] * tall), int(photo.shape[1] * wide)
    top, left = rng.integers(photo.shape[0] - height + 1), rng.integers(photo.shape[1] - width + 1)
    return photo[top : top + height, left : left + width]


def _recoloured(photo: Picture, rng: np.random.Generator) -> Picture:
    """Shifts the hue, scales saturation and brightness."""
    colours = cv2.cvtColor(np.ascontiguousarray(photo), cv2.COLOR_BGR2HSV).astype(np.float32)
    colours[..., 0] = (colours[..., 0] + rng.uniform(-8, 8)) % 180
    colours[..., 1:] *= rng.uniform(0.6, 1.4, 2)
    return np.asarray(cv2.cvtColor(colours.clip(0, (179, 255, 255)).astype(np.uint8), cv2.COLOR_HSV2BGR), np.uint8)


def _mosaic(photos: list[Picture], rng: np.random.Generator) -> Picture:
    """Puts four photos beside each other (Bochkovskiy et al. 2020)."""
    whole = np.full((SIDE, SIDE, 3), 114, np.uint8)
    across, down = rng.integers(SIDE // 3, 2 * SIDE // 3, 2)
    corners = ((0, 0, down, across), (0, across, down, SIDE), (down, 0, SIDE, across), (down, across, SIDE, SIDE))
    for photo, (top, left, bottom, right) in zip(photos, corners, strict=True):
        whole[top:bottom, left:right] = cv2.resize(photo, (int(right - left), int(bottom - top)))
    return whole


def _frames(count: int) -> Iterator[Picture]:
    """Yields frames of both videos, evenly spread."""
    for name in ("one-by-one-person-detection.mp4", "bottle-detection.mp4"):
        video = cv2.VideoCapture(str(Path(os.environ["EDGEWRIGHT_BENCH"]) / "video" / name))
        total = int(video.get(cv2.CAP_PROP_FRAME_COUNT))
        wanted = set(np.linspace(0, total - 1, count // 2).astype(int).tolist())
        for index in range(total):
            there, frame = video.read()
            if there and index in wanted:
                yield np.asarray(frame, np.uint8)
        video.release()
