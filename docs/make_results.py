"""Puts the result table and its picture on the README's first page, from the studies of the examples.

Run after `edgewright optimize` of the examples: `python docs/make_results.py`. Nothing is typed in by hand.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from html import escape
from pathlib import Path

from edgewright.core.codec import decode_stored
from edgewright.core.recipe import Candidate, Study

ROOT = Path(__file__).parent.parent
README = ROOT / "README.md"
PICTURE = ROOT / "docs" / "images" / "results.svg"
BEGIN, END = "<!-- results: written by docs/make_results.py -->", "<!-- end of results -->"
TITLES = {
    "keyword-spotting": "Keyword spotting (DS-CNN, TFLite)",
    "yolox-nano": "Detection (YOLOX-nano, ONNX)",
    "fashion-mnist": "Fashion-MNIST (ResNet-20, PyTorch)",
    "fashion-mnist-mobilenet": "Fashion-MNIST (MobileNetV2, PyTorch)",
    "banking77": "Banking77 (transformer, PyTorch)",
}
WIDTH, HEIGHT, GAP, LEFT, TOP, BOTTOM = 400, 250, 24, 58, 44, 42
STYLE = """
text { font: 12px system-ui, sans-serif; fill: #24292f } .title { font-weight: 600; font-size: 13px }
.axis { stroke: #8c959f } .grid { stroke: #8c959f; stroke-opacity: .25 }
.limit { stroke: #cf222e; stroke-dasharray: 4 3 }
.onnxruntime { fill: #0969da } .openvino { fill: #9a6700 } .litert { fill: #1a7f37 } .out { fill-opacity: .25 }
.winner { stroke: #24292f; stroke-width: 2 } .small { font-size: 11px }
@media (prefers-color-scheme: dark) {
  text { fill: #e6edf3 } .winner { stroke: #e6edf3 } .onnxruntime { fill: #58a6ff } .openvino { fill: #d29922 }
  .litert { fill: #3fb950 }
}
"""


@dataclass(frozen=True)
class Point:
    """One measured candidate: speed-up over the original, change of quality in points."""

    candidate: Candidate
    speedup: float
    points: float
    winner: bool


def studies() -> list[Study]:
    """Returns the studies that are there, in the order of `TITLES`."""
    found = [decode_stored(Study, p.read_bytes()) for p in ROOT.glob("examples/*/edgewright-out/**/study.json")]
    known = {study.project: study for study in found if study.winners}
    return [known[name] for name in TITLES if name in known]


def points(study: Study) -> list[Point]:
    """Returns every candidate whose quality and time are known."""
    base = study.reference.measurement
    winners = set(study.winners.values())
    found = []
    for candidate in study.candidates:
        got = candidate.measurement
        if got is None or got.timing is None or base is None:
            continue
        first, original = got.tune.figures[0], base.tune.figures[0]
        change = (first.value - original.value) * (1 if first.higher_is_better else -1)
        found.append(Point(candidate, got.timing.speedup.value, 100 * change, candidate.id in winners))
    return found


def signed(share: float) -> str:
    """Returns a difference in points, without a sign where it rounds to nothing."""
    text = f"{100 * share:+.1f}"
    return "0.0" if text in ("+0.0", "-0.0") else text


def table(found: list[Study]) -> str:
    """Returns the Markdown table of winners."""
    rows = [
        "| model | runtime | chosen | quality on held-out data | speed | size |",
        "|---|---|---|---|---|---|",
    ]
    for study in found:
        base = study.reference.measurement
        for target in study.winners:
            best = study.best(target)
            got = best.measurement
            if got is None or got.timing is None or got.test is None or base is None or base.timing is None:
                continue
            figure, change, speed = got.test.figures[0], got.test.difference[0], got.timing.speedup
            quality = (
                f"{figure.metric} {100 * figure.value:.1f}%, {signed(change.value)} points "
                f"({signed(change.low)} to {signed(change.high)}), n = {figure.samples}"
            )
            size = f"{got.timing.size_bytes / base.timing.size_bytes:.0%} of {base.timing.size_bytes / 1e6:.2f} MB"
            mark = "" if study.met.get(target) else " (breaks the budget)"
            ratio = f"**{speed.value:.2f}x** ({speed.low:.2f} to {speed.high:.2f})"
            cells = (TITLES[study.project], target, best.recipe.title + mark, quality, ratio, size)
            rows.append(f"| {' | '.join(cells)} |")
    return "\n".join(rows)


def panel(study: Study, left: float, top: float) -> str:
    """Returns one scatter plot: speed-up to the right, change of quality upwards, cut at -6 points."""
    found = points(study)
    fastest = max([1.1, *(p.speedup for p in found)]) * 1.08
    low, high = -6.0, 2.0

    def x(speed: float) -> float:
        return left + LEFT + (WIDTH - LEFT - 12) * speed / fastest

    def y(change: float) -> float:
        inside = min(max(change, low), high)
        return top + TOP + (HEIGHT - TOP - BOTTOM) * (high - inside) / (high - low)

    bottom = top + HEIGHT - BOTTOM
    parts = [f'<text class="title" x="{left + LEFT}" y="{top + 18}">{escape(TITLES[study.project])}</text>']
    for change in (-6, -4, -2, 0, 2):
        text = ("≤ -6" if change == low else f"{change:+d}") if change else "0"
        parts.append(f'<line class="grid" x1="{x(0)}" x2="{x(fastest)}" y1="{y(change)}" y2="{y(change)}"/>')
        parts.append(f'<text class="small" x="{x(0) - 6}" y="{y(change) + 4}" text-anchor="end">{text}</text>')
    for tenth in range(0, int(fastest * 10) + 1, 5):
        at = x(tenth / 10)
        parts.append(f'<line class="axis" x1="{at}" x2="{at}" y1="{bottom}" y2="{bottom + 4}"/>')
        parts.append(f'<text class="small" x="{at}" y="{bottom + 17}" text-anchor="middle">{tenth / 10:g}x</text>')
    if study.budget.quality_drop is not None:
        limit = y(-100 * study.budget.quality_drop)
        parts.append(f'<line class="limit" x1="{x(0)}" x2="{x(fastest)}" y1="{limit}" y2="{limit}"/>')
    parts.append(f'<line class="axis" x1="{x(1)}" x2="{x(1)}" y1="{top + TOP}" y2="{bottom}"/>')
    for p in sorted(found, key=lambda p: p.winner):
        kind = f"{p.candidate.target}{' winner' if p.winner else ''}{' out' if p.candidate.violations else ''}"
        told = f"{p.candidate.target}, {p.candidate.recipe.title}: {p.speedup:.2f}x, {p.points:+.1f} points"
        parts.append(f'<circle class="{kind}" cx="{x(p.speedup):.1f}" cy="{y(p.points):.1f}" r="6">')
        parts.append(f"<title>{escape(told)}</title></circle>")
    return "\n".join(parts)


def picture(found: list[Study]) -> str:
    """Returns all panels as one SVG, two in a row."""
    rows = (len(found) + 1) // 2
    width, height = 2 * WIDTH + GAP, rows * HEIGHT + 34
    panels = [panel(s, (i % 2) * (WIDTH + GAP), (i // 2) * HEIGHT) for i, s in enumerate(found)]
    key = (
        f'<g transform="translate({LEFT},{height - 14})"><circle class="onnxruntime" cx="0" cy="-4" r="6"/>'
        '<text x="10">ONNX Runtime</text><circle class="openvino" cx="118" cy="-4" r="6"/><text x="128">OpenVINO</text>'
        '<circle class="litert" cx="216" cy="-4" r="6"/><text x="226">LiteRT</text>'
        '<text x="285">ring: chosen; pale: breaks the budget (dashed); across: speed; up: points</text></g>'
    )
    head = f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" role="img" width="{width}">'
    return "\n".join([head, f"<style>{STYLE}</style>", *panels, key, "</svg>", ""])


def main() -> None:
    """Writes the picture and the table."""
    found = studies()
    if not found:
        raise SystemExit("no studies: run `make examples` first")
    PICTURE.write_text(picture(found))
    device = found[0].device
    extensions = ", ".join(device.isa) or "no vector extensions"
    note = f"\n\nMeasured on {device.processor}, {device.cores} cores ({extensions}), one thread.\n"
    text = README.read_text()
    between = f"{BEGIN}\n\n{table(found)}{note}\n{END}"
    README.write_text(re.sub(f"{re.escape(BEGIN)}.*{re.escape(END)}", lambda _: between, text, flags=re.S))


if __name__ == "__main__":
    main()
