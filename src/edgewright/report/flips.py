"""Which decisions compression changed, and who was right. Pure once the outcomes are read."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import zip_longest
from pathlib import Path
from typing import Any

import numpy as np

from edgewright.core.decision import Classification, Decision, Detections, Segmentation, decision_from_json

SAME_OBJECT_IOU = 0.5
NONE = "none"
Box = tuple[float, float, float, float]


@dataclass(frozen=True, slots=True, eq=False)
class Outcome:
    """What one artifact decided about one sample."""

    id: str
    label: Any
    decision: Decision


@dataclass(frozen=True, slots=True, eq=False)
class Flip:
    """One sample whose decision differs between the original and a candidate.

    Attributes:
        id: Of the sample.
        split: Where it comes from.
        label: The truth, None where there is none.
        before: The original's decision.
        after: The candidate's.
        group: Name of the class it is shown under.
        right: `original`, `candidate`, `both`, `neither`, or `unknown` without a label.
    """

    id: str
    split: str
    label: Any
    before: Decision
    after: Decision
    group: str
    right: str


def read_outcomes(folder: Path) -> dict[str, Outcome]:
    """Reads `outcomes.json` of an evaluate step.

    Raises:
        ValueError: The file does not hold outcomes.
    """
    data = json.loads((folder / "outcomes.json").read_text(encoding="utf-8"))
    records = data.get("samples", data.get("outcomes")) if isinstance(data, dict) else data
    if not isinstance(records, list):
        raise ValueError(f"{folder.name}/outcomes.json: expected a list of samples, got {type(records).__name__}")
    try:
        found = (Outcome(str(r["id"]), r.get("label"), decision_from_json(r["decision"])) for r in records)
        return {outcome.id: outcome for outcome in found}
    except (KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"{folder.name}/outcomes.json: malformed sample: {error}") from error


def find_flips(
    before: Mapping[str, Outcome], after: Mapping[str, Outcome], split: str, labels: Sequence[str]
) -> tuple[Flip, ...]:
    """Returns the samples that both saw and decided differently, in the order of `before`.

    Args:
        before: The original's outcomes by sample id.
        after: The candidate's.
        split: Named in each flip.
        labels: Class names by index.
    """
    flips = []
    for key, old in before.items():
        new = after.get(key)
        if new is not None and changed(old.decision, new.decision):
            group = _group(old, new.decision, labels)
            right = who_is_right(old.decision, new.decision, old.label)
            flips.append(Flip(key, split, old.label, old.decision, new.decision, group, right))
    return tuple(flips)


def changed(before: Decision, after: Decision) -> bool:
    """True when a user would see another decision.

    Classification: another first class. Detections: the objects do not pair off one to one with equal class and
    IoU of at least 0.5. Segmentation: another class at any pixel. Plain tensors have no decision to flip.
    """
    if isinstance(before, Classification) and isinstance(after, Classification):
        return before.indices[:1] != after.indices[:1]
    if isinstance(before, Detections) and isinstance(after, Detections):
        return len(before.boxes) != len(after.boxes) or len(matches(before, after)) != len(before.boxes)
    if isinstance(before, Segmentation) and isinstance(after, Segmentation):
        return not np.array_equal(before.mask, after.mask)
    return before.kind != after.kind


def matches(first: Detections, second: Detections) -> tuple[tuple[int, int], ...]:
    """Pairs objects of equal class greedily by IoU, at least 0.5."""
    pairs = [
        (iou(a, b), i, j)
        for i, a in enumerate(first.boxes)
        for j, b in enumerate(second.boxes)
        if first.classes[i] == second.classes[j]
    ]
    used_first: set[int] = set()
    used_second: set[int] = set()
    found = []
    for overlap, i, j in sorted(pairs, key=lambda p: (-p[0], p[1], p[2])):
        if overlap >= SAME_OBJECT_IOU and i not in used_first and j not in used_second:
            used_first.add(i)
            used_second.add(j)
            found.append((i, j))
    return tuple(found)


def iou(a: Box, b: Box) -> float:
    """Returns intersection over union of two (x1, y1, x2, y2) boxes; 0 for empty ones."""
    width = min(a[2], b[2]) - max(a[0], b[0])
    height = min(a[3], b[3]) - max(a[1], b[1])
    if width <= 0 or height <= 0:
        return 0.0
    common = width * height
    union = (a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - common
    return common / union if union > 0 else 0.0


def class_name(index: int, labels: Sequence[str]) -> str:
    """Returns the name of a class, `none` for -1, `class 7` where it has no name."""
    if index < 0:
        return NONE
    return labels[index] if index < len(labels) else f"class {index}"


def label_boxes(label: Any) -> Detections | None:
    """Returns the truth of a detection sample as detections of score 1; None where there is none."""
    if not isinstance(label, Mapping) or "boxes" not in label:
        return None
    crowd = label.get("crowd") or [False] * len(label["boxes"])
    kept = [i for i, is_crowd in enumerate(crowd) if not is_crowd]
    boxes = tuple((float(b[0]), float(b[1]), float(b[2]), float(b[3])) for b in (label["boxes"][i] for i in kept))
    classes = tuple(int(label["classes"][i]) for i in kept)
    return Detections(boxes, (1.0,) * len(boxes), classes)


def who_is_right(before: Decision, after: Decision, label: Any) -> str:
    """Returns `original`, `candidate`, `both`, `neither`, or `unknown`.

    Detections are judged by F1 against the labelled objects at IoU 0.5; the higher one is right.
    """
    if isinstance(before, Classification) and isinstance(after, Classification) and _is_index(label):
        return _verdict(before.indices[:1] == (int(label),), after.indices[:1] == (int(label),))
    truth = label_boxes(label)
    if isinstance(before, Detections) and isinstance(after, Detections) and truth is not None:
        old, new = f1(before, truth), f1(after, truth)
        if old == new:
            return "both" if old == 1.0 else "neither"
        return "original" if old > new else "candidate"
    return "unknown"


def f1(found: Detections, truth: Detections) -> float:
    """Returns F1 at IoU 0.5; 1 when there is nothing to find and nothing was found."""
    total = len(found.boxes) + len(truth.boxes)
    return 2 * len(matches(found, truth)) / total if total else 1.0


def select(flips: Sequence[Flip], limit: int) -> tuple[Flip, ...]:
    """Returns at most `limit` flips, taking from every group in turn so that no class is hidden by a large one."""
    groups: dict[str, list[Flip]] = {}
    for flip in flips:
        groups.setdefault(flip.group, []).append(flip)
    turns = zip_longest(*groups.values())
    taken = [flip for turn in turns for flip in turn if flip is not None][:limit]
    order = {name: position for position, name in enumerate(sorted(groups, key=lambda n: (-len(groups[n]), n)))}
    return tuple(sorted(taken, key=lambda f: order[f.group]))


def _is_index(label: Any) -> bool:
    return isinstance(label, (int, np.integer)) and not isinstance(label, bool)


def _verdict(before_right: bool, after_right: bool) -> str:
    if before_right and after_right:
        return "both"
    if before_right or after_right:
        return "original" if before_right else "candidate"
    return "neither"


def _group(old: Outcome, new: Decision, labels: Sequence[str]) -> str:
    if isinstance(old.decision, Classification):
        if _is_index(old.label):
            return class_name(int(old.label), labels)
        return class_name(old.decision.indices[0] if old.decision.indices else -1, labels)
    if isinstance(old.decision, Detections) and isinstance(new, Detections):
        return class_name(_changed_class(old.decision, new), labels)
    return "all"


def _changed_class(before: Detections, after: Detections) -> int:
    """Returns the class of which most objects appeared or vanished."""
    pairs = matches(before, after)
    kept_before, kept_after = {i for i, _ in pairs}, {j for _, j in pairs}
    loose = [c for i, c in enumerate(before.classes) if i not in kept_before]
    loose += [c for j, c in enumerate(after.classes) if j not in kept_after]
    return Counter(loose).most_common(1)[0][0] if loose else -1
