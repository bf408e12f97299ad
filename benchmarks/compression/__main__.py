"""Training-time compression held against what it promises, beside other tools where there are any.

    python benchmarks/compression                      # everything (hours on two cores)
    python benchmarks/compression --only keyword_spotting
    python benchmarks/compression --quick              # small subsets: does it run, not what it reaches

Every module here is one promise: it prunes, distils or trains a real model on real data, measures quality on samples
that training never saw and latency interleaved with the original, and prints what was asked beside what was measured.
Exits with 1 where something asked was not reached. Needs EDGEWRIGHT_BENCH and the trained examples (`make examples`).
"""

from __future__ import annotations

import argparse
import importlib
import sys
import time
from pathlib import Path

from rich.console import Console
from rich.table import Table
from setting import Options, Row

PARTS = (
    "latency_table",
    "fashion_pruning",
    "fashion_student",
    "fashion_w4a8",
    "keyword_spotting",
    "banking77",
    "yolox_nano",
)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", action="append", choices=PARTS, help="one part; may be given again")
    parser.add_argument("--quick", action="store_true", help="small subsets and one epoch")
    parser.add_argument("--threads", type=int, default=1, help="of training and of every timed model")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--work", type=Path, default=Path("build/compression"), help="where everything is written")
    given = parser.parse_args()
    options = Options(given.work.resolve(), given.quick, given.threads, given.seed)
    rows: list[Row] = []
    for name in given.only or PARTS:
        started = time.perf_counter()
        print(f"== {name}", flush=True)
        rows += importlib.import_module(name).run(options)
        print(f"== {name}: {time.perf_counter() - started:.0f} s", flush=True)
    Console(width=150).print(_table(rows))
    return 0 if all(row.met for row in rows) else 1


def _table(rows: list[Row]) -> Table:
    table = Table("claim", "asked", "measured", "", title="Training-time compression")
    for row in rows:
        table.add_row(row.claim, row.asked, row.measured, "met" if row.met else "NOT MET")
    return table


if __name__ == "__main__":
    sys.exit(main())
