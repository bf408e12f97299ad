"""Follows objects from frame to frame, to count each once.

A small form of SORT (Bewley et al., "Simple Online and Realtime Tracking", ICIP 2016): boxes are matched by IoU with
where each track should be now, and a track survives a few frames without a match. The Kalman filter is replaced by a
smoothed constant velocity, and the Hungarian method by taking the best pair first. As in ByteTrack (Zhang et al.,
ECCV 2022), boxes with a low score continue a track but start none, so that a score that flickers does not count twice.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

from edgewright.bundle.compare import intersection_over_union
from edgewright.core.decision import Detections

Box = tuple[float, float, float, float]


@dataclass(slots=True)
class Track:
    """One object.

    Attributes:
        id: 1, 2, 3... in the order of confirmation; 0 until then.
        label: Class index.
        box: Where it was seen last.
        velocity: Movement of the box per frame, smoothed.
        hits: Frames in which it was seen.
        missed: Frames since it was seen last.
    """

    label: int
    box: Box
    id: int = 0
    velocity: Box = (0.0, 0.0, 0.0, 0.0)
    hits: int = 1
    missed: int = 0

    def predicted(self) -> Box:
        """Returns where the box should be one frame after the last update."""
        step = self.missed + 1
        a, b, c, d = (x + v * step for x, v in zip(self.box, self.velocity, strict=True))
        return a, b, c, d

    def see(self, box: Box) -> None:
        """Takes the box of this frame."""
        step = self.missed + 1
        moved = ((new - old) / step for new, old in zip(box, self.box, strict=True))
        a, b, c, d = (0.7 * v + 0.3 * m for v, m in zip(self.velocity, moved, strict=True))
        self.velocity, self.box, self.hits, self.missed = (a, b, c, d), box, self.hits + 1, 0


@dataclass(slots=True)
class Tracker:
    """Gives every detection the number of its track.

    Attributes:
        start_score: Least score of a box that starts a track.
        min_iou: Least overlap of a box with the place where its track should be.
        max_missed: Frames without a match after which a track ends.
        min_hits: Frames after which a track counts as an object; drops single false detections.
        counts: Class index -> distinct objects so far.
    """

    start_score: float = 0.3
    min_iou: float = 0.3
    max_missed: int = 15
    min_hits: int = 3
    counts: Counter[int] = field(default_factory=Counter)
    _tracks: list[Track] = field(default_factory=list)
    _given: int = 0

    def update(self, found: Detections) -> tuple[int, ...]:
        """Matches one frame.

        Returns:
            Per detection, the id of its track; 0 while the track is not confirmed, or when there is none.
        """
        pairs = self._match(found)
        ids: list[int] = []
        seen: set[int] = set()
        for index, (box, label) in enumerate(zip(found.boxes, found.classes, strict=True)):
            track = pairs.get(index)
            if track is not None:
                track.see(box)
            elif found.scores[index] >= self.start_score:
                track = Track(label, box)
                self._tracks.append(track)
            ids.append(self._confirmed(track))
            seen.add(id(track))
        self._age(seen)
        return tuple(ids)

    def _match(self, found: Detections) -> dict[int, Track]:
        """Returns detection -> track: sure detections first, among them the best overlaps first."""
        candidates = [
            (
                found.scores[index] >= self.start_score,
                intersection_over_union(track.predicted(), box),
                number,
                index,
            )
            for number, track in enumerate(self._tracks)
            for index, box in enumerate(found.boxes)
            if track.label == found.classes[index]
        ]
        pairs: dict[int, Track] = {}
        used: set[int] = set()
        for _, overlap, number, index in sorted(candidates, reverse=True):
            if overlap >= self.min_iou and number not in used and index not in pairs:
                pairs[index] = self._tracks[number]
                used.add(number)
        return pairs

    def _confirmed(self, track: Track | None) -> int:
        if track is None:
            return 0
        if not track.id and track.hits >= self.min_hits:
            self._given += 1
            track.id = self._given
            self.counts[track.label] += 1
        return track.id

    def _age(self, seen: set[int]) -> None:
        for track in self._tracks:
            track.missed += id(track) not in seen
        # An unconfirmed track must be seen in consecutive frames.
        self._tracks = [t for t in self._tracks if t.missed <= (self.max_missed if t.id else 1)]
