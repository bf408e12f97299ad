"""A diagnosis as one self-contained HTML page that opens offline: stages, suspects, and what they rest on."""

from __future__ import annotations

from importlib.resources import files

import edgewright
from edgewright.core.parity import Diagnosis
from edgewright.errors import ToolchainMissing

_TALLEST_DB = 60.0


def diagnosis_html(found: Diagnosis, reference: str, candidate: str) -> str:
    """Returns the page; no script, and names that look like markup stay text.

    Raises:
        ToolchainMissing: jinja2 is not installed.
    """
    try:
        import jinja2
    except ImportError as error:
        raise ToolchainMissing("the page needs jinja2", hint='pip install "edgewright[build]"') from error
    environment = jinja2.Environment(loader=jinja2.PackageLoader("edgewright.report"), autoescape=True)
    environment.filters |= {"left": left, "share": share}
    css = files("edgewright.report").joinpath("templates/report.css").read_text(encoding="utf-8")
    return environment.get_template("diagnosis.html.jinja").render(
        found=found, reference=reference, candidate=candidate, css=css, version=edgewright.__version__
    )


def left(decibels: float) -> str:
    """Returns how much of an output is left, for a reader."""
    if decibels >= 199:
        return "all of it"
    return "nothing" if decibels <= -59 else f"{decibels:.1f} dB"


def share(decibels: float) -> float:
    """Returns the length of a bar, 0 to 100."""
    return round(100 * min(max(decibels, 0.0), _TALLEST_DB) / _TALLEST_DB, 1)
