"""A picture of the arena: operators from left to right, bytes from bottom to top, one bar per tensor."""

from __future__ import annotations

from xml.sax.saxutils import escape

from edgewright.formats.tflite.reader import TfliteGraph
from edgewright.targets._micro.arena import Prediction
from edgewright.targets._micro.planner import Buffer, height, peak

_WIDTH, _HEIGHT, _LEFT, _BOTTOM, _TOP = 960, 420, 70, 110, 34
_COLOURS = ("#4c78a8", "#72b7b2", "#54a24b", "#eeca3b", "#b279a2", "#9d755d")
_SCRATCH, _PEAK = "#bab0ac", "#e45756"
_LETTER = 6.2


def draw(graph: TfliteGraph, arena: Prediction) -> str:
    """Returns the picture as SVG.

    Args:
        graph: The file.
        arena: Its prediction.
    """
    steps = len(graph.operators) + 1
    tall = max(height(arena.buffers), 1)
    busiest, alive = peak(arena.buffers)
    across = (_WIDTH - _LEFT - 10) / steps
    up = (_HEIGHT - _TOP - _BOTTOM) / tall
    bars = [_bar(buffer, at, across, up, busiest) for at, buffer in enumerate(arena.buffers)]
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {_HEIGHT}" role="img" '
        f'font-family="sans-serif" font-size="11"><title>Arena over operators</title>',
        f'<text x="{_LEFT}" y="18" font-size="13">Arena over operators: {tall:,} bytes of tensors at '
        f"{escape(_step(graph, busiest))}, {sum(b.size for b in alive):,} in use; {arena.tail:,} more stay</text>",
        *_scale(tall, up),
        *bars,
        *_operators(graph, across),
        "</svg>",
    ]
    return "\n".join(parts)


def _bar(buffer: Buffer, number: int, across: float, up: float, busiest: int) -> str:
    x, y = _LEFT + buffer.first * across, _HEIGHT - _BOTTOM - buffer.end * up
    wide, tall = (buffer.last - buffer.first + 1) * across, max(buffer.size * up, 0.5)
    colour = _SCRATCH if buffer.scratch else _COLOURS[number % len(_COLOURS)]
    edge = _PEAK if buffer.first <= busiest <= buffer.last else "white"
    label = f"{buffer.name}: {buffer.size:,} bytes at {buffer.offset:,}, operators {buffer.first} to {buffer.last}"
    made = (
        f'<rect x="{x:.1f}" y="{y:.1f}" width="{wide:.1f}" height="{tall:.1f}" fill="{colour}" '
        f'stroke="{edge}"><title>{escape(label)}</title></rect>'
    )
    fits = int((wide - 4) / _LETTER)
    if tall >= 12 and fits >= 4:
        made += (
            f'<text x="{x + 3:.1f}" y="{y + tall / 2 + 4:.1f}" fill="white">{escape(_short(buffer.name, fits))}</text>'
        )
    return made


def _scale(tall: int, up: float) -> list[str]:
    found = []
    for quarter in range(5):
        size = tall * quarter // 4
        y = _HEIGHT - _BOTTOM - size * up
        found.append(f'<line x1="{_LEFT}" x2="{_WIDTH - 10}" y1="{y:.1f}" y2="{y:.1f}" stroke="#ddd"/>')
        found.append(f'<text x="{_LEFT - 6}" y="{y + 4:.1f}" text-anchor="end">{size:,}</text>')
    return found


def _operators(graph: TfliteGraph, across: float) -> list[str]:
    found = []
    for step in range(len(graph.operators) + 1):
        x, y = _LEFT + (step + 0.5) * across, _HEIGHT - _BOTTOM + 8
        place = f'x="{x:.1f}" y="{y}" transform="rotate(60 {x:.1f} {y})"'
        found.append(f'<text {place} font-size="9">{escape(_step(graph, step))}</text>')
    return found


def _step(graph: TfliteGraph, step: int) -> str:
    return "input" if step == 0 else f"{step} {graph.operators[step - 1].op}"


def _short(name: str, letters: int) -> str:
    return name if len(name) <= letters else "..." + name[-(letters - 3) :]
