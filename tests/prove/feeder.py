"""Runs a bundle on arrays with the device half alone and prints one JSON line: python feeder.py BUNDLE ARRAYS CACHE."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np

from edgewright.bundle import open_bundle
from edgewright.bundle.decide import open_decider
from edgewright.runtimes._machine import local_device

BUILDER = ("onnx", "onnx_ir", "torch", "edgewright.graph", "edgewright.search", "edgewright.engine")


def main(bundle: str, arrays: str, cache: str) -> None:
    opened = open_bundle(Path(bundle), Path(cache))
    with open_decider(opened) as decide:
        top = [decide(value).indices[0] for value in np.load(arrays)]  # type: ignore[union-attr]
    device = local_device()
    print(
        json.dumps(
            {
                "machine": device.machine,
                "isa": device.isa,
                "variant": opened.runs,
                "top": top,
                "builder": [name for name in BUILDER if name in sys.modules],
            }
        )
    )


if __name__ == "__main__":
    main(*sys.argv[1:])
