"""A transformer of four layers teaches one of two, made of its own layers, which then runs in INT8.

The example's classifier with four layers is trained here as the example trains its two, and is the original. The
student keeps every second layer without the least of its channels, and learns from the teacher and the labels of the
9,000 training queries; the 3,080 test queries only judge. Beside it: the same student from the labels alone, and
without any training.
"""

from __future__ import annotations

import csv
import os
import random
import sys
from pathlib import Path
from typing import Any

from setting import CLEAN_UP, EXAMPLES, Judged, Options, Row, Setting, open_setting

from edgewright.core.recipe import StepSpec
from edgewright.core.tensors import TensorSpec
from edgewright.engine.execute import Result
from edgewright.project.config import ModelConfig, load_project

EXAMPLE = EXAMPLES / "banking77"
PROJECT = "banking77/edgewright.toml"
LAYERS, TEACHER_EPOCHS, LENGTH = 4, 14, 48
UNKNOWN = 1
HELD_OUT = 1003
STUDENT = StepSpec("student", {"network": "every-second-layer"})
NARROWER = StepSpec("prune", {"macs": 0.7, "importance": "magnitude"})
"""Half of the layers cost half of the time; with INT8 alone that comes to 2.5 times on some days only."""
INT8 = StepSpec("dynamic-int8", {"weight_bits": 7})
"""Products of 8-bit weights would saturate on processors without VNNI."""


def run(options: Options) -> tuple[Row, ...]:
    """Trains teacher and student, scores on the test queries, and times in turn with the teacher."""
    setting = _setting(options)
    fit = {"validation": 0.0, "clip_norm": 1.0, "weight_decay": 0.05, "schedule": "one-cycle", "warmup": 0.15}
    fit["augment"] = [{"op": "mask-tokens", "share": 0.1, "token": UNKNOWN, "keep": [0]}]
    training: dict[str, Any] = {"epochs": 1 if options.quick else 5, "batch": 64, "learning_rate": 1e-3, "fit": fit}
    taught = StepSpec("distill", {**training, "temperature": 2.0, "labels": 0.5})
    alone = {**training, "smoothing": 0.1}
    recipes = {
        "two layers, not trained": (STUDENT, CLEAN_UP),
        "two layers, narrower, distilled": (STUDENT, NARROWER, taught, CLEAN_UP),
        "two layers, narrower, distilled, INT8": (STUDENT, NARROWER, taught, CLEAN_UP, INT8),
        "two layers, narrower, labels alone": (STUDENT, NARROWER, StepSpec("fine-tune", alone), CLEAN_UP),
    }
    teacher = setting.compile(setting.apply([CLEAN_UP]))
    reference = setting.judge(teacher)
    print(f"  four layers: {reference.value:.4f}", flush=True)
    rows: tuple[Row, ...] = ()
    for title, passes in recipes.items():
        artifact = setting.compile(setting.apply(passes))
        found = _told(title, setting, artifact, reference)
        if INT8 in passes:
            rows = (_quality(reference, found), _speed(setting, artifact, teacher))
            print("\n".join(f"  {row.claim}: {row.measured}" for row in rows), flush=True)
    return rows


def _told(title: str, setting: Setting, artifact: Result, reference: Judged) -> Judged:
    found = setting.judge(artifact, reference=reference)
    print(f"  {title}: {found.value:.4f}", flush=True)
    return found


def _quality(reference: Judged, found: Judged) -> Row:
    difference = found.difference
    assert difference is not None
    shown = f"{reference.value:.2%} -> {found.value:.2%}: {difference.value * 100:+.2f} points"
    interval = f" ({difference.low * 100:+.2f} to {difference.high * 100:+.2f})"
    claim, met = "3 four layers to two and INT8: loss", difference.value >= -0.015
    return Row(claim, "at most 1.5 points", shown + interval, met)


def _speed(setting: Setting, artifact: Result, teacher: Result) -> Row:
    ratio = setting.time(artifact, teacher).speedup
    shown = f"{ratio.value:.2f}x ({ratio.low:.2f} to {ratio.high:.2f})"
    return Row("3 four layers to two and INT8: speed", "at least 2.5 times", shown, ratio.value >= 2.5)


def _setting(options: Options) -> Setting:
    options.work.mkdir(parents=True, exist_ok=True)
    queries = options.work / "banking77-train.csv"
    held_out = _write_training_queries(queries)
    assert held_out == _read(EXAMPLE / "work" / "heldout.csv"), "train the example first: make examples"
    model = options.work / f"banking77-teacher{'-quick' if options.quick else ''}.onnx"
    if not model.is_file():
        _train_teacher(queries, model, 1 if options.quick else TEACHER_EPOCHS)
    data = {**load_project(EXAMPLES / PROJECT).file.data, "train": {"path": str(queries)}}
    return open_setting(PROJECT, options, data=data, model=ModelConfig(str(model)))


def _train_teacher(queries: Path, out: Path, epochs: int) -> None:
    """Trains the example's network with four layers, by the example's own code, and exports it."""
    import onnx_ir as ir
    import torch
    from tokenizers import Tokenizer

    from edgewright.training.export import export

    sys.path.insert(0, str(EXAMPLE))
    import network  # type: ignore[import-not-found]
    import train  # type: ignore[import-not-found]

    network.LAYERS = LAYERS
    torch.manual_seed(0)
    random.seed(0)
    names = (EXAMPLE / "work" / "labels.txt").read_text().splitlines()
    rows = _read(queries)
    ids = train.encode(Tokenizer.from_file(str(EXAMPLE / "work" / "tokenizer.json")), [text for text, _ in rows])
    teacher = network.classifier(0.3)
    labels = torch.tensor([names.index(category) for _, category in rows])
    train.train(teacher, ids, labels, epochs, batch=64, drop=0.1)
    sizes = (TensorSpec("ids", "int64", ("batch", LENGTH)),)
    ir.save(export(teacher.eval(), sizes, ("logits",), title="the teacher"), out)


def _write_training_queries(file: Path) -> list[tuple[str, str]]:
    """Writes the queries that the example trains on; returns those that it holds out."""
    rows = _read(Path(os.environ["EDGEWRIGHT_BENCH"]) / "banking77" / "train.csv")
    random.Random(0).shuffle(rows)  # as the example does
    if not file.is_file():
        with file.open("w", newline="", encoding="utf-8") as opened:
            csv.writer(opened).writerows([("text", "category"), *rows[HELD_OUT:]])
    return rows[:HELD_OUT]


def _read(path: Path) -> list[tuple[str, str]]:
    with path.open(newline="", encoding="utf-8") as opened:
        return [(row["text"], row["category"]) for row in csv.DictReader(opened)]
