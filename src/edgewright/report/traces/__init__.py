"""Traces of other tools beside a report, and our own profile as a trace for them.

`kinds` tells what a file is, `summary` what it says in a few rows, `attach` copies it beside the report and puts it in,
`chrome` writes the time per operator as a trace that ui.perfetto.dev opens.
"""

from edgewright.report.traces.attach import Attached, attach, attached
from edgewright.report.traces.chrome import chrome_trace

__all__ = ["Attached", "attach", "attached", "chrome_trace"]
