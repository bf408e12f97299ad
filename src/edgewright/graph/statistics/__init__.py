"""Calibration statistics: gathered in one pass, in memory that does not grow with the number of samples.

In processing order: `probes` adds to a graph what leaves it (extremes, sub-samples), `gather` reduces batch after batch
into `histogram`s, `tensors` holds the result, `notes` says what is odd about it, `shards` joins
parts, `stored` keeps it.
"""

from edgewright.graph.statistics.gather import Batch, Feed, Gatherer, Infer, gather
from edgewright.graph.statistics.probes import Probes, activations, probe, with_activations
from edgewright.graph.statistics.shards import merge
from edgewright.graph.statistics.stored import STATISTICS_FILE, read_statistics, write_statistics
from edgewright.graph.statistics.tensors import ChannelStatistics, Extreme, Statistics, TensorStatistics

__all__ = [
    "STATISTICS_FILE",
    "Batch",
    "ChannelStatistics",
    "Extreme",
    "Feed",
    "Gatherer",
    "Infer",
    "Probes",
    "Statistics",
    "TensorStatistics",
    "activations",
    "gather",
    "merge",
    "probe",
    "read_statistics",
    "with_activations",
    "write_statistics",
]
