"""The learning rate over the steps, as a share of its highest value."""

from __future__ import annotations

import math


def factor(step: int, steps: int, schedule: str, warmup: float) -> float:
    """Returns the share of the highest learning rate at `step`, 0 to `steps` - 1.

    The rate rises in a line over the first `warmup` share of the steps, and then falls to zero (`cosine`: half a
    cosine, Loshchilov and Hutter 2017; `linear`) or stays (`constant`). `one-cycle` (Smith and Topin 2018) rises from
    a 25th along a cosine and falls along another; its warmup is at least 0.25.
    """
    if schedule == "one-cycle":
        return _one_cycle(step / max(steps, 1), max(warmup, 0.25))
    rising = math.ceil(warmup * steps)
    if step < rising:
        return (step + 1) / (rising + 1)
    gone = (step - rising) / max(steps - rising, 1)
    if schedule == "cosine":
        return (1 + math.cos(math.pi * gone)) / 2
    return 1 - gone if schedule == "linear" else 1.0


def _one_cycle(gone: float, peak: float) -> float:
    if gone < peak:
        return 1 - (1 - 1 / 25) * (1 + math.cos(math.pi * gone / peak)) / 2
    return (1 + math.cos(math.pi * (gone - peak) / (1 - peak))) / 2
