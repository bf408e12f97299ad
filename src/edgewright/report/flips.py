"""Which decisions compression changed, and who was right. Pure once the outcomes are read."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import zip_longest
from typing import Any

import numpy as np

from edgewright.core.decision import Classification, Decision, Detections
from edgewright.measure._outcomes import Outcome
from edgewright.measure.metrics.agreement import DISPLAY_SCORE, SAME_OBJECT_IOU, changed

NONE = "none"
Box = tuple[float, float, float, float]


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


def find_flips(
    before: Sequence[Outcome], after: Mapping[str, Outcome], split: str, labels: Sequence[str]
) -> tuple[Flip, ...]:
    """Returns the samples that both saw and decided differently, in the order of `before`.

    What counts as another decision is what `changed_share` of a quality counts (`measure.metrics.agreement`).

    Args:
        before: The original's outcomes.
        after: The candidate's, by sample id.
        split: Named in each flip.
        labels: Class names by index.

    Raises:
        ValueError: A recorded decision is malformed.
    """
    flips = []
    for outcome in before:
        if outcome.id not in after:
            continue
        old, new = shown(outcome.decided()), shown(after[outcome.id].decided())
        if _differs(old, new):
            group = _group(old, new, outcome.label, labels)
            right = who_is_right(old, new, outcome.label)
            flips.append(Flip(outcome.id, split, outcome.label, old, new, group, right))
    return tuple(flips)


def shown(decision: Decision) -> Decision:
    """Leaves out detections below the display score: a user never sees them."""
    if not isinstance(decision, Detections):
        return decision
    kept = [i for i, score in enumerate(decision.scores) if score >= DISPLAY_SCORE]
    return Detections(
        boxes=tuple(decision.boxes[i] for i in kept),
        scores=tuple(decision.scores[i] for i in kept),
        classes=tuple(decision.classes[i] for i in kept),
    )


def _differs(before: Decision, after: Decision) -> bool:
    return before.kind != after.kind or changed(after, before)


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


def _group(old: Decision, new: Decision, label: Any, labels: Sequence[str]) -> str:
    if isinstance(old, Classification):
        if _is_index(label):
            return class_name(int(label), labels)
        return class_name(old.indices[0] if old.indices else -1, labels)
    if isinstance(old, Detections) and isinstance(new, Detections):
        return class_name(_changed_class(old, new), labels)
    return "all"


def _changed_class(before: Detections, after: Detections) -> int:
    """Returns the class of which most objects appeared or vanished."""
    pairs = matches(before, after)
    kept_before, kept_after = {i for i, _ in pairs}, {j for _, j in pairs}
    loose = [c for i, c in enumerate(before.classes) if i not in kept_before]
    loose += [c for j, c in enumerate(after.classes) if j not in kept_after]
    return Counter(loose).most_common(1)[0][0] if loose else -1
