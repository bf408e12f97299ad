"""Runs a bundle on the unseen digits with `edgewright run` and says how many it recognised."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).parent


def main() -> None:
    bundle = Path(sys.argv[1])
    lines = HERE / "work" / f"{bundle.stem}.jsonl"
    program = Path(sys.executable).with_name("edgewright")
    subprocess.run([program, "run", bundle, "--source", HERE / "work" / "unseen", "--output", lines], check=True)
    found = [json.loads(line) for line in lines.read_text().splitlines()]
    pairs = [(line["frame"], line["labels"][0]) for line in found]
    wrong = [f"{file} taken for {label}" for file, label in pairs if Path(file).parent.name != label]
    print(f"{len(found) - len(wrong)} of {len(found)} unseen digits recognised", *wrong, sep="\n  ")


if __name__ == "__main__":
    main()
