"""The model card of a bundle: what it is, what it was measured to do, and what only its owner can say.

Sections follow Mitchell et al., "Model Cards for Model Reporting" (FAT* 2019).
"""

from __future__ import annotations

from importlib.resources import files

from edgewright.core.bundle import Manifest
from edgewright.core.measurement import Quality
from edgewright.errors import ToolchainMissing


def model_card(manifest: Manifest) -> str:
    """Returns the model card as Markdown.

    Raises:
        ToolchainMissing: Jinja2 is not installed.
    """
    try:
        from jinja2 import Environment, StrictUndefined
    except ImportError as error:
        message = f"the model card cannot be written: {error}"
        raise ToolchainMissing(message, hint='pip install "edgewright[build]"') from error
    environment = Environment(  # noqa: S701 - Markdown, not HTML
        undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True, keep_trailing_newline=True
    )
    environment.filters |= {"cell": _cell, "amount": _amount, "figure": _figure}
    template = (files("edgewright.bundle") / "model-card.md.jinja").read_text(encoding="utf-8")
    measured = manifest.measurement
    return environment.from_string(template).render(
        m=manifest,
        splits=[(name, quality) for name, quality in _splits(manifest) if quality],
        timing=measured.timing if measured else None,
        limits=_limits(manifest),
    )


def _splits(manifest: Manifest) -> list[tuple[str, Quality | None]]:
    measured = manifest.measurement
    return [] if measured is None else [("test", measured.test), ("tune", measured.tune)]


def _limits(manifest: Manifest) -> list[tuple[str, str]]:
    budget = manifest.budget
    limits = {
        "largest drop of quality": budget.quality_drop,
        "smallest quality": budget.quality_floor,
        "largest drop of one class": budget.worst_class_drop,
        "largest share of changed decisions": budget.changed_share,
        f"largest latency (p{budget.latency_percentile}), ms": budget.latency_ms,
        "smallest speed-up": budget.speedup,
        "smallest throughput, samples/s": budget.throughput,
        "largest size, bytes": budget.size_bytes,
        "largest peak memory, bytes": budget.peak_memory_bytes,
        "largest energy per run, mJ": budget.energy_mj,
    }
    return [(name, f"{limit:g}") for name, limit in limits.items() if limit is not None]


def _cell(value: object) -> str:
    """Keeps text from breaking out of a table cell or starting markup."""
    return str(value).replace("\\", "\\\\").replace("|", "\\|").replace("<", "&lt;").replace("\n", " ")


def _figure(value: float) -> str:
    return f"{value:.4g}"


def _amount(size: float) -> str:
    """Returns a size in bytes as one reads it, in powers of 1024."""
    for unit in ("B", "KiB", "MiB"):
        if size < 1024:
            return f"{size:.4g} {unit}"
        size /= 1024
    return f"{size:.4g} GiB"
