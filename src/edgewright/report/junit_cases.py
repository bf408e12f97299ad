"""JUnit XML from plain cases, in the structure that Jenkins, GitLab and GitHub actions read.

Its description: https://github.com/testmoapp/junitxml
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from xml.etree import ElementTree as ET

_FORBIDDEN = re.compile("[^\\t\\n\\r\\x20-\\ud7ff\\ue000-\\ufffd\\U00010000-\\U0010ffff]")


@dataclass(frozen=True, slots=True)
class Case:
    """One check: passed where it names neither a failure nor why it was skipped."""

    name: str
    failure: str = ""
    skipped: str = ""


@dataclass(frozen=True, slots=True)
class Suite:
    """The checks of one target.

    Attributes:
        name: Of the suite.
        cases: In order.
        properties: Name -> value, for a reader.
    """

    name: str
    cases: Sequence[Case]
    properties: Mapping[str, str] = field(default_factory=dict)


def document(name: str, suites: Sequence[Suite], kind: str) -> bytes:
    """Returns the XML document.

    Args:
        name: Of the whole; class names begin with it.
        suites: In order.
        kind: Type of the failures, e.g. `BudgetNotMet`.
    """
    root = ET.Element("testsuites", {"name": _clean(name), **_counts([c for suite in suites for c in suite.cases])})
    for suite in suites:
        element = ET.SubElement(root, "testsuite", {"name": _clean(suite.name), **_counts(suite.cases)})
        if suite.properties:
            properties = ET.SubElement(element, "properties")
            for key, value in suite.properties.items():
                ET.SubElement(properties, "property", name=key, value=_clean(value))
        for case in suite.cases:
            _write(element, f"{name}.{suite.name}", case, kind)
    ET.indent(root)
    return bytes(ET.tostring(root, encoding="utf-8", xml_declaration=True)) + b"\n"


def _counts(cases: Sequence[Case]) -> dict[str, str]:
    failures, skipped = sum(bool(c.failure) for c in cases), sum(bool(c.skipped) for c in cases)
    counts = {"tests": len(cases), "failures": failures, "errors": 0, "skipped": skipped, "time": 0}
    return {key: str(value) for key, value in counts.items()}


def _write(suite: ET.Element, classname: str, case: Case, kind: str) -> None:
    element = ET.SubElement(suite, "testcase", classname=_clean(classname), name=_clean(case.name), time="0")
    if case.failure:
        failure = ET.SubElement(element, "failure", message=_clean(case.failure), type=kind)
        failure.text = _clean(case.failure)
    elif case.skipped:
        ET.SubElement(element, "skipped", message=_clean(case.skipped))


def _clean(text: str) -> str:
    """Drops the characters that XML 1.0 cannot hold."""
    return _FORBIDDEN.sub("", text)
