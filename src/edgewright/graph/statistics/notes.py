"""What is odd about calibration statistics, said in a sentence per tensor."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from edgewright.graph.statistics.tensors import Extreme, Statistics, TensorStatistics

FAR = 10.0
"""One sample that reaches so many times further than every other is an outlier."""
SHOWN = 5


def noted(statistics: Statistics) -> Statistics:
    """Returns `statistics` with its notes written anew from what it holds."""
    notes = {name: ". ".join(said) for name, seen in statistics.tensors.items() if (said := _sentences(seen))}
    if statistics.skipped:
        first, tensor = min(statistics.skipped.items())
        notes[""] = (
            f'{len(statistics.skipped)} samples left out, the first one sample {first}: "{tensor}" is not finite there'
        )
    return replace(statistics, notes=notes)


def _sentences(seen: TensorStatistics) -> list[str]:
    if seen.low == seen.high:
        return ["zero throughout" if seen.low == 0 else f"constant, {seen.low:.6g} throughout"]
    found = [_outlier(seen.low, seen.lowest, seen), _outlier(seen.high, seen.highest, seen), _dead(seen)]
    return [sentence for sentence in found if sentence]


def _outlier(value: float, extreme: Extreme, seen: TensorStatistics) -> str:
    """Says so when one sample reaches far beyond what all others reach on either side."""
    usual = [abs(e.others) for e in (seen.lowest, seen.highest) if e.others is not None]
    if extreme.others is None or abs(value) <= FAR * max(usual) or max(usual) == 0:
        return ""
    return f"sample {extreme.sample} reaches {value:.4g}, no other beyond {extreme.others:.4g}"


def _dead(seen: TensorStatistics) -> str:
    if seen.channels is None:
        return ""
    dead = np.flatnonzero(seen.channels.low == seen.channels.high)
    if not dead.size:
        return ""
    more = f" and {dead.size - SHOWN} more" if dead.size > SHOWN else ""
    listed = ", ".join(str(i) for i in dead[:SHOWN])
    return f"{dead.size} of {seen.channels.low.size} channels never change: {listed}{more}"
