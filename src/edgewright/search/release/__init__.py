"""Two releases side by side: is the new one worse than the old one, in what, by how much, and is that certain?

`read_release` opens what a search left behind, `compare` judges, `time_in_turn` runs both here. Nothing is measured
twice: the outcomes of every test sample travel beside a bundle, so that the difference is paired.
"""

from edgewright.search.release.compare import compare
from edgewright.search.release.duel import Timed, time_in_turn
from edgewright.search.release.read import Release, Shipped, read_release
from edgewright.search.release.records import SampleRecords, gather, read_records, records_file, write_records
from edgewright.search.release.values import Change, Finding, Moved, ReleaseDiff, TargetDiff, Tolerance

__all__ = [
    "Change",
    "Finding",
    "Moved",
    "Release",
    "ReleaseDiff",
    "SampleRecords",
    "Shipped",
    "TargetDiff",
    "Timed",
    "Tolerance",
    "compare",
    "gather",
    "read_records",
    "read_release",
    "records_file",
    "time_in_turn",
    "write_records",
]
