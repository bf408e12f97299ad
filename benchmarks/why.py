"""Scores `edgewright why` on planted faults: the right layer and cause first, among the first three, and repaired.

    python benchmarks/why.py --seed 7 --count 24

Every case is written into a folder, diagnosed through the command line, and the first suspect's command is run there.
Thresholds were chosen on seeds 0 to 9.
"""

from __future__ import annotations

import argparse
import json
import os
import shlex
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from edgewright.runtimes._machine import local_device
from edgewright.testing.faults import Case, generate, kinds_for


@dataclass(frozen=True)
class Outcome:
    """What came of one case."""

    kind: str
    family: str
    truth: str
    answer: str
    rank: int
    good: float
    bad: float
    repaired: float | None
    sound: bool
    command: str


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--count", type=int, default=0, help="cases; by default every kind once and two more")
    parser.add_argument("--kinds", nargs="*", default=[], help="only these kinds")
    parser.add_argument("--no-repair", action="store_true", help="do not run the suggested commands")
    parser.add_argument("--json", type=Path, help="write the outcomes")
    options = parser.parse_args()
    kinds = tuple(options.kinds) or kinds_for(local_device())
    count = options.count or max(24, len(kinds))
    with tempfile.TemporaryDirectory(prefix="edgewright-why-") as folder:
        outcomes = []
        for case in generate(options.seed, count, Path(folder), kinds):
            outcomes.append(judged(case, repair=not options.no_repair))
            print(shown(outcomes[-1]), flush=True)
    print(total(outcomes))
    if options.json:
        options.json.write_text(json.dumps([asdict(outcome) for outcome in outcomes], indent=2) + "\n")
    return 0


def judged(case: Case, *, repair: bool = True) -> Outcome:
    """Diagnoses a case and runs the first suspect's command."""
    home, deployed = case.projects
    arguments = ["why", "reference.onnx", "candidate", "--project", home, "--json"]
    arguments += ["--deployed", deployed] if deployed != home else []
    try:
        suspects = json.loads(edgewright(arguments, case.folder))["suspects"]
    except subprocess.CalledProcessError as error:
        print(f"   why failed: {error.stderr.strip()[-400:]}", flush=True)
        suspects = []
    rank = next((place for place, suspect in enumerate(suspects, 1) if right(case, suspect)), 0)
    first = suspects[0] if suspects else {"cause": "nothing", "node": "", "fix": ""}
    after = repaired(case, first["fix"]) if repair and first["fix"] else None
    where = f"{case.truth.cause} at {case.truth.nodes[0]}" if case.truth.nodes else case.truth.cause
    answer = f"{first['cause']} at {first['node']}" if first["node"] else first["cause"]
    sound = after is not None and case.repaired(after)
    return Outcome(case.kind, case.family, where, answer, rank, case.good, case.bad, after, sound, first["fix"])


def right(case: Case, suspect: Mapping[str, Any]) -> bool:
    """Says whether a suspect names the planted cause, in the layer it was planted in."""
    truth = case.truth
    return suspect["cause"] == truth.cause and (not truth.nodes or suspect["node"] in truth.nodes)


def repaired(case: Case, command: str) -> float | None:
    """Runs a suggested command and returns the share of right answers afterwards; None if it fails."""
    model, project = case.folder / "candidate", case.folder / case.projects[1]
    for part in command.split(" && "):
        words = shlex.split(part)
        try:
            edgewright(words[1:], case.folder)
        except subprocess.CalledProcessError as error:
            print(f"   {part}\n   {error.stderr.strip()[-400:]}", flush=True)
            return None
        out = case.folder / words[words.index("-o") + 1]
        if out.suffix == ".toml":
            project = out
        else:
            model = out / "artifact" if (out / "artifact").is_dir() else out
    return case.score(model, project)


def edgewright(arguments: Sequence[str], folder: Path) -> str:
    command = [sys.executable, "-W", "ignore", "-m", "edgewright.cli", *arguments]
    environment = {**os.environ, "EDGEWRIGHT_CACHE": str(folder / ".cache")}
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=True)
    return done.stdout


def shown(outcome: Outcome) -> str:
    after = "not run" if outcome.repaired is None else f"{outcome.repaired:.2f}"
    verdict = "ok" if outcome.sound else "NOT REPAIRED"
    return (
        f"{outcome.kind:23} {outcome.family:12} {outcome.good:.2f} -> {outcome.bad:.2f} -> {after} {verdict:12} "
        f"rank {outcome.rank or '-'}  {outcome.truth} | {outcome.answer}"
    )


def total(outcomes: Sequence[Outcome]) -> str:
    count = len(outcomes)
    first = sum(o.rank == 1 for o in outcomes)
    three = sum(1 <= o.rank <= 3 for o in outcomes)
    sound = sum(o.sound for o in outcomes)
    return f"{count} cases: first {first} ({first / count:.0%}), among the first three {three}, repaired {sound}"


if __name__ == "__main__":
    raise SystemExit(main())
