"""A comparison of two releases as JUnit XML: one suite per target, one case per figure."""

from __future__ import annotations

from edgewright.report.junit_cases import Case, Suite, document
from edgewright.search.release import Finding, ReleaseDiff
from edgewright.search.release.values import UNKNOWN, WORSE


def diff_junit(diff: ReleaseDiff) -> bytes:
    """Returns the XML document; what is worse is a failure with the reason, what could not be compared is skipped."""
    suites = [
        Suite(t.target, [_case(finding) for finding in t.findings], {"old": t.old, "new": t.new}) for t in diff.targets
    ]
    lost = "the old release has an artifact for it, the new one has none"
    suites += [Suite(target, [Case("an artifact was made", failure=lost)]) for target in diff.gone]
    return document(f"{diff.project} release", suites, "WorseThanTheLastRelease")


def _case(finding: Finding) -> Case:
    name = f"{finding.name} is no worse than in the last release"
    if finding.verdict == WORSE:
        return Case(name, failure=finding.sentence)
    return Case(name, skipped=finding.sentence if finding.verdict == UNKNOWN else "")
