"""Proves a Core ML package on macOS.

    python prove_on_mac.py [--tolerance-db 30] [--agreement 0.99] [--runs 50]

Needs coremltools and NumPy (and Pillow where the package takes images). Reads golden.npz beside it: inputs, and what
the model that the package was made from answers to them. Prints, per compute unit, the signal-to-noise ratio of every
output, the share of samples with the same largest value, and the latency. Exit code: 0 when every compute unit
reaches both floors, 1 when one does not, 2 when nothing could be run.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np

UNITS = ("CPU_ONLY", "CPU_AND_GPU", "CPU_AND_NE", "ALL")


def samples(file: Path) -> list[dict[str, dict[str, Any]]]:
    """Returns per sample {"in": ..., "image": ..., "out": ...}, arrays by name."""
    found: dict[int, dict[str, dict[str, Any]]] = {}
    with np.load(file, allow_pickle=False) as arrays:
        for key in arrays.files:
            number, kind, name = key.split("/", 2)
            entry = found.setdefault(int(number), {"in": {}, "image": {}, "out": {}})
            entry[kind][name] = arrays[key]
    return [found[number] for number in sorted(found)]


def fed(sample: dict[str, dict[str, Any]]) -> dict[str, Any]:
    """Returns what `predict` takes."""
    feed = dict(sample["in"])
    for name, pixels in sample["image"].items():
        from PIL import Image

        feed[name] = Image.fromarray(pixels)
    return feed


def noise_db(wanted: list[Any], found: list[Any]) -> float:
    """Returns the ratio of signal to noise in decibels over all samples."""
    signal = sum(float(np.sum(np.square(w, dtype=np.float64))) for w in wanted)
    pairs = zip(wanted, found, strict=True)
    noise = sum(float(np.sum(np.square(w.astype(np.float64) - f.astype(np.float64)))) for w, f in pairs)
    if noise == 0:
        return float("inf")
    return 10 * float(np.log10(signal / noise)) if signal else float("-inf")


def agreement(wanted: list[Any], found: list[Any]) -> float:
    """Returns the share of rows whose largest value is at the same place."""
    same = [np.argmax(_rows(w), axis=1) == np.argmax(_rows(f), axis=1) for w, f in zip(wanted, found, strict=True)]
    return float(np.mean(np.concatenate(same)))


def _rows(array: Any) -> Any:
    return array.reshape(array.shape[0] if array.ndim > 1 else 1, -1)


def proven(model: Any, given: list[dict[str, dict[str, Any]]], arguments: argparse.Namespace, unit: str) -> bool:
    """Runs every sample, prints what came out, and says whether both floors are reached."""
    feeds = [fed(sample) for sample in given]
    answers = [model.predict(feed) for feed in feeds]
    reached = True
    for name in given[0]["out"]:
        wanted = [sample["out"][name] for sample in given]
        found = [np.asarray(answer[name]).reshape(w.shape) for answer, w in zip(answers, wanted, strict=True)]
        decibels, same = noise_db(wanted, found), agreement(wanted, found)
        good = decibels >= arguments.tolerance_db and same >= arguments.agreement
        reached = reached and good
        print(f"{unit:12} {name}: {decibels:.1f} dB, {same:.1%} agree over {len(given)}: {'ok' if good else 'FAILED'}")
    times = []
    for number in range(arguments.runs):
        start = time.perf_counter()
        model.predict(feeds[number % len(feeds)])
        times.append((time.perf_counter() - start) * 1000)
    if times:
        print(f"{unit:12} latency: median {statistics.median(times):.2f} ms, best {min(times):.2f} ms of {len(times)}")
    return reached


def main() -> int:
    """Returns the exit code."""
    parser = argparse.ArgumentParser(description="Proves a Core ML package on macOS.")
    parser.add_argument("--tolerance-db", type=float, default=30.0, help="least signal-to-noise ratio")
    parser.add_argument("--agreement", type=float, default=0.99, help="least share of samples that agree")
    parser.add_argument("--runs", type=int, default=50, help="timed predictions per compute unit")
    parser.add_argument("--units", nargs="*", default=UNITS, choices=UNITS, help="compute units to try")
    arguments = parser.parse_args()
    here = Path(__file__).resolve().parent
    try:
        import coremltools
    except ImportError as error:
        print(f"coremltools cannot be imported: {error}; pip install coremltools", file=sys.stderr)
        return 2
    given = samples(here / "golden.npz")
    results = []
    for unit in arguments.units:
        try:
            chosen = getattr(coremltools.ComputeUnit, unit)
            model = coremltools.models.MLModel(str(here / "model.mlpackage"), compute_units=chosen)
            results.append(proven(model, given, arguments, unit))
        except Exception as error:
            print(f"{unit:12} cannot be run: {error}", file=sys.stderr)
    if not results:
        return 2
    return 0 if all(results) else 1


if __name__ == "__main__":
    sys.exit(main())
