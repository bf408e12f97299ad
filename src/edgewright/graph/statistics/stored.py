"""Statistics on disk: `statistics.json` for what is read, `statistics.npz` for the arrays, without pickle."""

from __future__ import annotations

import zipfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgewright.core.codec import decode_stored, encode_json
from edgewright.errors import Corrupt
from edgewright.graph.statistics.tensors import (
    UNKNOWN,
    ChannelStatistics,
    Extreme,
    Statistics,
    TensorStatistics,
    stacked,
)

STATISTICS_FILE = "statistics.json"
ARRAYS_FILE = "statistics.npz"
ARRAYS = ("counts", "odd", "low", "high", "mean")
MOST_BYTES = 1 << 30


@dataclass(frozen=True, slots=True)
class _Tensor:
    """One row of `statistics.json`; arrays lie one after the other in `statistics.npz`."""

    name: str
    low: float
    high: float
    bins: int = 0
    exponent: int | None = None
    lowest: Extreme = UNKNOWN
    highest: Extreme = UNKNOWN
    axis: int | None = None
    channels: int = 0
    weight: float = 0.0


@dataclass(frozen=True, slots=True)
class _File:
    samples: int
    bins: int
    tensors: tuple[_Tensor, ...]
    notes: dict[str, str] = field(default_factory=dict)
    skipped: dict[str, str] = field(default_factory=dict)


def write_statistics(statistics: Statistics, folder: Path) -> None:
    """Writes `statistics.json` and `statistics.npz` into `folder`."""
    rows = tuple(_row(name, seen) for name, seen in statistics.tensors.items())
    skipped = {str(index): name for index, name in statistics.skipped.items()}
    found = list(statistics.tensors.values())
    channels = [seen.channels for seen in found if seen.channels is not None]
    folder.mkdir(parents=True, exist_ok=True)
    np.savez_compressed(
        folder / ARRAYS_FILE,
        allow_pickle=False,
        counts=_narrow([seen.counts for seen in found]),
        odd=_narrow([stacked(seen)[1] for seen in found]),
        low=_joined([c.low for c in channels], np.float32),
        high=_joined([c.high for c in channels], np.float32),
        mean=_joined([c.mean for c in channels], np.float64),
    )
    table = _File(statistics.samples, statistics.bins, rows, dict(statistics.notes), skipped)
    (folder / STATISTICS_FILE).write_bytes(encode_json(table))


def read_statistics(folder: Path) -> Statistics:
    """Reads what the pass `calibrate` wrote.

    Args:
        folder: Its output folder, or the file `statistics.json` in it.

    Raises:
        Corrupt: A file is missing or damaged, or the two do not belong together.
    """
    path = folder / STATISTICS_FILE if folder.is_dir() else folder
    try:
        table = decode_stored(_File, path.read_bytes())
        arrays = _arrays(path.parent / ARRAYS_FILE)
        return _statistics(table, arrays)
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
        raise Corrupt(f"{path}: {error}", hint="remove it and run again") from error


def _row(name: str, seen: TensorStatistics) -> _Tensor:
    found = seen.channels
    return _Tensor(
        name,
        seen.low,
        seen.high,
        seen.counts.size,
        seen.exponent,
        seen.lowest,
        seen.highest,
        found.axis if found else None,
        found.low.size if found else 0,
        found.weight if found else 0.0,
    )


def _narrow(parts: list[NDArray[Any]]) -> NDArray[Any]:
    counts = _joined(parts, np.int64)
    return counts.astype(np.uint32) if counts.max(initial=0) < 2**32 else counts


def _joined(parts: list[NDArray[Any]], dtype: type) -> NDArray[Any]:
    return np.concatenate(parts).astype(dtype, copy=False) if parts else np.zeros(0, dtype)


def _arrays(path: Path) -> dict[str, NDArray[Any]]:
    with zipfile.ZipFile(path) as archive:
        size = sum(entry.file_size for entry in archive.infolist())
    if size > MOST_BYTES:
        raise ValueError(f"{path.name} unpacks to {size} bytes, expected at most {MOST_BYTES}")
    with np.load(path, allow_pickle=False) as stored:
        return {name: stored[name] for name in ARRAYS}


def _statistics(table: _File, arrays: dict[str, NDArray[Any]]) -> Statistics:
    rows = table.tensors
    counted, channels = sum(r.bins for r in rows), sum(r.channels for r in rows)
    sizes = {"counts": counted, "odd": counted, "low": channels, "high": channels, "mean": channels}
    for name, size in sizes.items():
        if arrays[name].shape != (size,):
            raise ValueError(f'array "{name}" has shape {list(arrays[name].shape)}, expected [{size}]')
    counts, odd = arrays["counts"].astype(np.int64), arrays["odd"].astype(np.int64)
    tensors: dict[str, TensorStatistics] = {}
    at = channel = 0
    for row in table.tensors:
        part = slice(channel, channel + row.channels)
        found = None
        if row.axis is not None:
            low, high, mean = (arrays[each][part] for each in ("low", "high", "mean"))
            found = ChannelStatistics(row.axis, low, high, mean, row.weight)
        bins = slice(at, at + row.bins)
        tensors[row.name] = TensorStatistics(
            row.low, row.high, counts[bins], row.exponent, odd[bins], row.lowest, row.highest, found
        )
        at, channel = bins.stop, channel + row.channels
    skipped = {int(index): name for index, name in table.skipped.items()}
    return Statistics(table.samples, tensors, table.bins, table.notes, skipped)
