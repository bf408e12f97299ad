"""Terminal, HTML, JSON and JUnit views of a study: what a search found out, for a reader, a plot and a build server.

`write_report` is the way in; the views themselves are in the modules of this package and are imported when used.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from edgewright.core.recipe import Study
    from edgewright.report.evidence import Evidence

__all__ = ["write_report"]


def write_report(study: Study, evidence: Evidence, folder: Path) -> None:
    """Writes `report.html`, `report.json`, `summary.md` and `junit.xml` into `folder`, each whole or not at all.

    Args:
        study: An annotated study (`edgewright.search.explain.annotate`).
        evidence: Where the outcomes and samples of the flip gallery come from.
        folder: Made if it is not there.

    Raises:
        ToolchainMissing: jinja2 or plotly is not installed; the JSON and JUnit files are written by then.
        OutOfSpace: The disk is full.
    """
    from edgewright.report.compression import compressions
    from edgewright.report.json_report import report_json
    from edgewright.report.junit import junit_xml
    from edgewright.report.markdown import study_markdown
    from edgewright.store.files import write_atomic

    targets = dict.fromkeys(candidate.target for candidate in study.candidates)
    compressed = {target: compressions(study, target, evidence) for target in targets}
    write_atomic(folder / "report.json", report_json(study, compressed))
    write_atomic(folder / "junit.xml", junit_xml(study))
    write_atomic(folder / "summary.md", study_markdown(study).encode())
    from edgewright.report.html import report_html
    from edgewright.report.traces import attached

    write_atomic(folder / "report.html", report_html(study, evidence, attached(folder)).encode())
