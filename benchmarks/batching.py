"""Throughput of the Banking77 classifier in batches against one query at a time, and its latency under load.

Three things are measured on a bundle, all of them from text to decision:

1. the best batch under a latency bound, as `edgewright batch` finds it;
2. throughput: all queries at once, through the same loop as `edgewright run`, single and in batches, interleaved; the
   ratio of every round, its median and 95% interval;
3. latency: queries that arrive at random (Poisson) at a given share of what single queries reach at most.

    EDGEWRIGHT_BENCH=... python benchmarks/batching.py examples/banking77/edgewright-out/banking77-onnxruntime.ewb
"""

from __future__ import annotations

import argparse
import csv
import itertools
import os
import random
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from statistics import median

from edgewright.bundle.decide import Decider, open_decider
from edgewright.bundle.open import open_bundle
from edgewright.device.batching import Batching, results_together
from edgewright.device.loop import Meter, Tally, results
from edgewright.device.sources import Frame
from edgewright.device.timing.rounds import median_interval
from edgewright.device.tune import Limits, Tuned, tune


def queries(limit: int) -> list[str]:
    """Returns the texts of the test file, shuffled."""
    file = Path(os.environ["EDGEWRIGHT_BENCH"]) / "banking77" / "test.csv"
    with file.open(newline="", encoding="utf-8") as rows:
        texts = [row["text"] for row in csv.DictReader(rows)]
    random.Random(0).shuffle(texts)
    return texts[:limit]


def frames(texts: Iterable[str]) -> Iterator[Frame]:
    """Yields the texts as fast as they are taken."""
    return (Frame(str(i), i, text, False) for i, text in enumerate(texts))


def arriving(texts: list[str], per_second: float, seconds: float) -> Iterator[Frame]:
    """Yields texts at random moments, as many per second on average."""
    rng, start, due = random.Random(1), time.perf_counter(), 0.0
    for i, text in enumerate(itertools.cycle(texts)):
        due += rng.expovariate(per_second)
        if due > seconds:
            return
        time.sleep(max(0.0, start + due - time.perf_counter()))
        yield Frame(str(i), i, text, False)


def run(decide: Decider, source: Iterator[Frame], batching: Batching | None) -> Meter:
    """Runs the loop of `edgewright run` without writing anything down."""
    meter, tally = Meter(), Tally()
    if batching is None:
        loop: Iterable[object] = results(decide, source, meter, tally, warmup=1)
    else:
        loop = results_together(decide, source, meter, tally, batching, warmup=1)
    for _ in loop:
        pass
    return meter


def throughput(decide: Decider, texts: list[str], batching: Batching, rounds: int) -> None:
    """Prints the ratio of queries per second, in batches over single."""
    single, together = [], []
    for number in range(rounds):
        order = (None, batching) if number % 2 == 0 else (batching, None)
        for each in order:
            (single if each is None else together).append(run(decide, frames(texts), each).fps)
    ratios = [b / a for a, b in zip(single, together, strict=True)]
    low, high = median_interval(ratios)
    print(f"throughput: single {median(single):.0f}/s, in batches of {batching.size} {median(together):.0f}/s")
    print(f"ratio {median(ratios):.2f} (95% interval {low:.2f} to {high:.2f}), {rounds} interleaved rounds")


def latency(decide: Decider, texts: list[str], batching: Batching, rate: float, seconds: float) -> None:
    """Prints percentiles of the latency, waiting included, for queries that arrive at random."""
    for name, each in (("single", Batching(1)), (f"up to {batching.size}", batching)):
        meter = run(decide, arriving(texts, rate, seconds), each)
        told = ", ".join(f"p{p} {meter.percentile(p):.1f} ms" for p in (50, 95, 99))
        print(f"{rate:.0f} queries/s, {name}: {told}, {meter.fps:.0f}/s done")


def show(found: Tuned) -> None:
    """Prints what `edgewright batch` prints."""
    for row in found.tried:
        size = f"{row.size} of {row.size * row.ahead}" if row.ahead > 1 else str(row.size)
        gain = f"{row.gain.value:.2f} ({row.gain.low:.2f} to {row.gain.high:.2f})"
        print(f"  {size:>10}  p50 {row.p50_ms:7.2f} ms  p95 {row.p95_ms:7.2f} ms  gain {gain}  {row.broke}")
    best = found.best
    print(f"best: {best.size} of {best.size * best.ahead}, delay {found.max_delay_ms} ms: {found.reason}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("bundle", type=Path)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--latency-ms", type=float, default=50.0)
    parser.add_argument("--queries", type=int, default=512)
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--seconds", type=float, default=10.0, help="of every load")
    parser.add_argument("--batch", type=int, default=0, help="take this batch, whatever is best")
    asked = parser.parse_args()
    bundle, texts = open_bundle(asked.bundle), queries(asked.queries)
    print(f"{bundle.path.name}: {bundle.manifest.recipe.title}, {asked.threads} threads, {len(texts)} queries")
    found = tune(bundle, texts, Limits(latency_ms=asked.latency_ms, largest=64, seconds=asked.seconds), asked.threads)
    show(found)
    batching = Batching(asked.batch or found.best.size, found.max_delay_ms, found.best.ahead)
    with open_decider(bundle, asked.threads) as decide:
        throughput(decide, texts, batching, asked.rounds)
        most = run(decide, frames(texts), None).fps
        for share in (0.5, 0.9, 1.2):
            latency(decide, texts, batching, share * most, asked.seconds)


if __name__ == "__main__":
    main()
