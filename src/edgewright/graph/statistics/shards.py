"""Shards of the calibration samples, joined."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import reduce

from edgewright.errors import ConfigError
from edgewright.graph.statistics.notes import noted
from edgewright.graph.statistics.tensors import Statistics, join


def merge(shards: Sequence[Statistics]) -> Statistics:
    """Returns what one pass over the samples of all shards gives: counts and extremes exactly, means to rounding.

    Raises:
        ConfigError: There are none, or they are of different models or numbers of bins.
    """
    if not shards:
        raise ConfigError("no statistics to merge", hint="name the results of `calibrate`, one per shard")
    return noted(reduce(_merged, shards))


def _merged(a: Statistics, b: Statistics) -> Statistics:
    if a.bins != b.bins:
        raise ConfigError(f"shards with {a.bins} and {b.bins} bins", hint="calibrate all shards with the same `bins`")
    if a.tensors.keys() != b.tensors.keys():
        name = min(a.tensors.keys() ^ b.tensors.keys())
        raise ConfigError(f'shards of different models: only one has "{name}"', hint="calibrate the same model")
    tensors = {name: join(seen, b.tensors[name], a.bins) for name, seen in a.tensors.items()}
    return replace(a, samples=a.samples + b.samples, tensors=tensors, skipped={**a.skipped, **b.skipped})
