"""Says how many of the unseen digits `edgewright run` recognised, from the JSON lines that it wrote."""

from __future__ import annotations

import json
import sys
from pathlib import Path


def main() -> None:
    lines = [json.loads(line) for line in Path(sys.argv[1]).read_text().splitlines()]
    print(lines[0])


if __name__ == "__main__":
    main()
