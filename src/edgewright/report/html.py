"""The study as one self-contained HTML file that opens offline, in light, dark and print."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from importlib.resources import files
from typing import TYPE_CHECKING, Any

import edgewright
from edgewright.core.measurement import Device
from edgewright.core.recipe import Candidate, Study
from edgewright.core.telemetry import Telemetry
from edgewright.errors import ToolchainMissing
from edgewright.report import operators, telemetry
from edgewright.report.compression import Compression, compressions
from edgewright.report.evidence import Evidence
from edgewright.report.gallery import Gallery, gallery
from edgewright.report.layer_pictures import Pictures, pictures
from edgewright.report.memory import MemoryView, memory
from edgewright.report.operators import Comparison, PlacementGroup
from edgewright.report.plots import pareto_plots
from edgewright.report.rows import Row, row, rows
from edgewright.report.standings import headline, standing_rows
from edgewright.search import wording

if TYPE_CHECKING:
    from jinja2 import Environment

    from edgewright.report.traces.attach import Attached

_HINT = 'pip install "edgewright[build]"'


@dataclass(frozen=True, slots=True)
class Detail:
    """One candidate in full."""

    candidate: Candidate
    row: Row
    comparison: Comparison | None
    placement: tuple[PlacementGroup, ...]


@dataclass(frozen=True, slots=True)
class TargetPage:
    """Everything the page says about one target."""

    name: str
    anchor: str
    met: bool
    winner: Detail | None
    rows: tuple[Row, ...]
    details: tuple[Detail, ...]
    gallery: Gallery | None
    pictures: Pictures | None = None
    memory: MemoryView | None = None
    telemetry: Mapping[str, Any] = field(default_factory=dict)
    compressions: tuple[Compression, ...] = ()


def report_html(study: Study, evidence: Evidence, traces: Sequence[Attached] = ()) -> str:
    """Returns the page. Every figure says on what it was measured; nothing is requested from any network.

    A content security policy lets only the two scripts of the page run, by their digests, so that a label, a path
    or a file name that looks like markup stays text twice over: escaped, and refused.

    Args:
        study: An annotated study.
        evidence: Where outcomes and samples come from.
        traces: Files beside the page that it lists.

    Raises:
        ToolchainMissing: jinja2 or plotly is not installed.
    """
    pages = tuple(_target_page(study, name, evidence, i) for i, name in enumerate(_targets(study)))
    plots = {f"{page.anchor}-{kind}": plot for page in pages for kind, plot in pareto_plots(study, page.name).items()}
    plots |= {f"{p.anchor}-{kind}": figure for p in pages if p.pictures for kind, figure in p.pictures.figures.items()}
    plots |= {f"{p.anchor}-{kind}": figure for p in pages for kind, figure in p.telemetry.items()}
    plots |= {
        f"{p.anchor}-compression-{number}-{kind}": figure
        for p in pages
        for number, found in enumerate(p.compressions)
        for kind, figure in found.figures.items()
    }
    environment, parts = page_parts()
    return environment.get_template("report.html.jinja").render(
        **parts,
        study=study,
        pages=pages,
        plots=plots,
        reference=_detail(study, study.reference),
        limits=limits(study),
        standings=standing_rows(study),
        telemetry_captions=telemetry.CAPTIONS,
        attached=traces,
        headline=headline(study),
        device=device_facts(study.device),
        source=source_facts(study.source),
    )


def page_parts() -> tuple[Environment, dict[str, Any]]:
    """Returns the templates, and what every page with plots needs: style, scripts, and the digests of the scripts.

    Raises:
        ToolchainMissing: jinja2 or plotly is not installed.
    """
    plotly, script = _plotly_js(), _text("report.js")
    hashes = [_hash(plotly), _hash(script)]
    parts = {"css": _text("report.css"), "plotly": plotly, "script": script, "hashes": hashes}
    return templates(), {**parts, "version": edgewright.__version__}


def _targets(study: Study) -> tuple[str, ...]:
    return tuple(dict.fromkeys(c.target for c in study.candidates))


def _target_page(study: Study, target: str, evidence: Evidence, index: int) -> TargetPage:
    winner = study.best(target) if target in study.winners else None
    details = tuple(_detail(study, c) for c in study.of_target(target) if c.id != study.reference.id)
    return TargetPage(
        name=target,
        anchor=f"target-{index}",
        met=study.met.get(target, False),
        winner=None if winner is None else _detail(study, winner),
        rows=rows(study, target),
        details=details,
        gallery=None if winner is None else gallery(study, winner, evidence),
        pictures=None if winner is None else pictures(study, winner, evidence),
        memory=None if winner is None else memory(winner, evidence),
        telemetry=telemetry.plots(_watched(winner)),
        compressions=compressions(study, target, evidence),
    )


def _watched(candidate: Candidate | None) -> Telemetry | None:
    timing = candidate.measurement.timing if candidate and candidate.measurement else None
    return timing.conditions.telemetry if timing else None


def _detail(study: Study, candidate: Candidate) -> Detail:
    return Detail(
        candidate=candidate,
        row=row(study, candidate, study.of_target(candidate.target) or (candidate,)),
        comparison=operators.compare(study, candidate),
        placement=operators.placement_groups(candidate.placement),
    )


_LIMIT_WORDS: Mapping[str, tuple[str, Any]] = {
    "worst_class_drop": ("loss of any class at most {}", None),
    "changed_share": ("at most {} of decisions changed", wording.share),
    "speedup": ("at least {} the speed of the original", wording.speed),
    "throughput": ("at least {} samples/s", "{:g}".format),
    "size_bytes": ("at most {} on disk", wording.size),
    "peak_memory_bytes": ("at most {} of memory", wording.size),
    "energy_mj": ("at most {} mJ per run", "{:g}".format),
}


def limits(study: Study) -> tuple[str, ...]:
    """Returns the limits of the budget in words."""
    measurement = study.reference.measurement
    figure = measurement.tune.figures[0] if measurement else None
    share = figure is not None and wording.figure_is_share(figure)
    metric = figure.metric if figure else "quality"
    found = []
    for limit in fields(study.budget):
        value = getattr(study.budget, limit.name)
        if value is None or limit.name == "latency_percentile":
            continue
        if limit.name == "quality_drop":
            found.append(f"loss of {metric} at most {wording.amount(value, share)}")
        elif limit.name == "quality_floor":
            found.append(f"{metric} no worse than {wording.quality(value, share)}")
        elif limit.name == "latency_ms":
            found.append(f"p{study.budget.latency_percentile} at most {wording.milliseconds(value)}")
        else:
            text, shown = _LIMIT_WORDS[limit.name]
            found.append(text.format(shown(value) if shown else wording.amount(value, share)))
    return tuple(found)


def device_facts(device: Device) -> tuple[tuple[str, str], ...]:
    """Returns name and value of what is known about the machine."""
    return (
        ("name", device.name),
        ("processor", device.processor),
        ("cores used", str(device.cores)),
        ("machine", device.machine),
        ("instruction sets", ", ".join(device.isa) or "none that matter"),
        ("memory", wording.size(device.memory_bytes)),
        ("system", device.system),
    )


def source_facts(source: Mapping[str, Any]) -> tuple[tuple[str, str], ...]:
    """Returns what was imported, key by key."""
    return tuple((key.replace("_", " "), f"{v:.3g}" if isinstance(v, float) else str(v)) for key, v in source.items())


def templates() -> Environment:
    """Returns the templates of pages.

    Raises:
        ToolchainMissing: jinja2 is not installed.
    """
    try:
        from jinja2 import Environment, PackageLoader, StrictUndefined
    except ImportError as error:
        raise ToolchainMissing("report.html: jinja2 is not installed", hint=_HINT) from error
    environment = Environment(
        autoescape=True,
        loader=PackageLoader("edgewright.report"),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {
        "bytes": wording.size,
        "share": wording.share,
        "micros": microseconds,
        "plural": wording.plural,
        "seconds": lambda value: f"{value:.1f} s",
    }
    return environment


def microseconds(value: float | None) -> str:
    """Returns three significant digits with the unit; `-` for None."""
    if value is None:
        return "-"
    return f"{value / 1000:.3g} ms" if value >= 1000 else f"{value:.3g} µs"


def _plotly_js() -> str:
    try:
        from plotly.offline import get_plotlyjs
    except ImportError as error:
        raise ToolchainMissing("report.html: plotly is not installed", hint=_HINT) from error
    return str(get_plotlyjs()).replace("\r\n", "\n")


def _text(name: str) -> str:
    return (files("edgewright.report") / "templates" / name).read_text(encoding="utf-8")


def _hash(script: str) -> str:
    return "sha256-" + base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
