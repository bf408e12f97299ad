"""The flip gallery: the very samples whose decision compression changed, ready for the page."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgewright.core.data import Sample
from edgewright.core.decision import Classification, Decision, Detections, Segmentation, Tensors
from edgewright.core.recipe import Candidate, Study
from edgewright.errors import Corrupt
from edgewright.measure._outcomes import read_outcomes
from edgewright.report import flips, media
from edgewright.report.evidence import Evidence
from edgewright.report.flips import Flip

LIMIT = 48
SPLITS = ("test", "tune")


@dataclass(frozen=True, slots=True)
class DrawnBox:
    """A box to draw, in pixels of the original picture; `loose` when the other side has no such object."""

    x: float
    y: float
    width: float
    height: float
    text: str
    loose: bool


@dataclass(frozen=True, slots=True)
class Panel:
    """One side of a flip: what a model said, and what to draw over the sample."""

    title: str
    text: str
    boxes: tuple[DrawnBox, ...] = ()
    mask: media.Media | None = None


@dataclass(frozen=True, slots=True)
class Item:
    """One flip as shown."""

    id: str
    group: str
    label: str
    right: str
    media: media.Media
    before: Panel
    after: Panel
    truth: tuple[DrawnBox, ...]


@dataclass(frozen=True, slots=True)
class Gallery:
    """The gallery of one target.

    Attributes:
        candidate: The winner.
        split: Where the samples come from.
        compared: Samples that both decided on.
        total: Samples whose decision changed.
        right: Who was right, over all of them.
        groups: Class -> items shown and how many there are, largest first.
        note: Why there is nothing to show.
    """

    candidate: Candidate
    split: str = ""
    compared: int = 0
    total: int = 0
    right: tuple[tuple[str, int], ...] = ()
    groups: tuple[tuple[str, int, tuple[Item, ...]], ...] = ()
    note: str = ""

    @property
    def shown(self) -> int:
        """How many are on the page."""
        return sum(len(items) for _, _, items in self.groups)


def gallery(study: Study, candidate: Candidate, evidence: Evidence, limit: int = LIMIT) -> Gallery:
    """Compares the decisions of `candidate` with the reference's, on `test` where both have it, else on `tune`."""
    if candidate.id == study.reference.id:
        return Gallery(candidate, note="The winner is the original itself.")
    for split in SPLITS:
        before = evidence.file(study.reference, f"{split}-outcomes")
        after = evidence.file(candidate, f"{split}-outcomes")
        if before is not None and after is not None:
            return _compare(study, candidate, evidence, split, (before, after), limit)
    return Gallery(candidate, note="The outcomes per sample are no longer in the store.")


def _compare(
    study: Study, candidate: Candidate, evidence: Evidence, split: str, folders: tuple[Path, Path], limit: int
) -> Gallery:
    try:
        before, after = (read_outcomes(folder) for folder in folders)
        by_id = {outcome.id: outcome for outcome in after}
        found = flips.find_flips(before, by_id, split, study.labels)
    except (Corrupt, ValueError) as error:
        return Gallery(candidate, split=split, note=f"The outcomes cannot be read: {error}")
    compared = sum(outcome.id in by_id for outcome in before)
    if not found:
        return Gallery(candidate, split, compared, note=f"No decision changed on the {compared} samples of {split}.")
    counts = Counter(flip.group for flip in found)
    items: dict[str, list[Item]] = {}
    chosen = flips.select(found, limit)
    wanted = {flip.id for flip in chosen}
    # In the order of the data set, so that a stream is read once.
    samples = {flip.id: evidence.sample(split, flip.id) for flip in found if flip.id in wanted}
    for flip in chosen:
        items.setdefault(flip.group, []).append(_item(flip, samples[flip.id], evidence.rate, study.labels))
    groups = tuple((name, counts[name], tuple(shown)) for name, shown in items.items())
    right = tuple(Counter(flip.right for flip in found).most_common())
    return Gallery(candidate, split, compared, len(found), right, groups)


def _item(flip: Flip, sample: Sample | None, rate: int | None, labels: Sequence[str]) -> Item:
    absent = media.Media("text", text="the sample is no longer in the data")
    shown = absent if sample is None else media.show(sample.value, rate)
    truth = flips.label_boxes(flip.label)
    return Item(
        id=flip.id,
        group=flip.group,
        label=label_text(flip.label, labels),
        right=flip.right,
        media=shown,
        before=_panel("original", flip.before, flip.after, labels),
        after=_panel("candidate", flip.after, flip.before, labels),
        truth=() if truth is None else _boxes(truth, truth, labels),
    )


def label_text(label: Any, labels: Sequence[str]) -> str:
    """Returns a label as a reader knows it."""
    if label is None:
        return "no label"
    if isinstance(label, int) and not isinstance(label, bool):
        return flips.class_name(label, labels)
    truth = flips.label_boxes(label)
    if truth is not None:
        return objects_text(truth, labels)
    return media.show(label).text if isinstance(label, str) else str(label)[:120]


def _panel(title: str, mine: Decision, other: Decision, labels: Sequence[str]) -> Panel:
    if isinstance(mine, Detections):
        against = other if isinstance(other, Detections) else mine
        return Panel(title, objects_text(mine, labels), _boxes(mine, against, labels))
    if isinstance(mine, Segmentation):
        return Panel(title, "", mask=media.mask_picture(mine.mask))
    return Panel(title, decision_text(mine, labels))


def decision_text(decision: Decision, labels: Sequence[str]) -> str:
    """Returns the first class with its score, or the first values of plain tensors."""
    if isinstance(decision, Tensors):
        return ", ".join(f"{name} {_values(array)}" for name, array in list(decision.values.items())[:3])
    if not isinstance(decision, Classification):
        return decision.kind
    if not decision.indices:
        return flips.NONE
    name = flips.class_name(decision.indices[0], labels)
    return f"{name} ({decision.scores[0]:.2f})" if decision.scores else name


def _values(array: NDArray[Any]) -> str:
    flat = np.asarray(array).ravel()
    more = " ..." if flat.size > 4 else ""
    return " ".join(f"{value:.4g}" for value in flat[:4]) + more


def objects_text(found: Detections, labels: Sequence[str]) -> str:
    """Returns how many objects of which class were found, the most frequent first."""
    counts = Counter(flips.class_name(c, labels) for c in found.classes)
    return ", ".join(f"{count} {name}" for name, count in counts.most_common()) or "nothing"


def _boxes(mine: Detections, other: Detections, labels: Sequence[str]) -> tuple[DrawnBox, ...]:
    paired = {i for i, _ in flips.matches(mine, other)}
    return tuple(
        DrawnBox(
            x=box[0],
            y=box[1],
            width=max(box[2] - box[0], 0.0),
            height=max(box[3] - box[1], 0.0),
            text=f"{flips.class_name(mine.classes[i], labels)} {mine.scores[i]:.2f}",
            loose=i not in paired,
        )
        for i, box in enumerate(mine.boxes)
    )
