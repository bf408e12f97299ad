"""Writes the first test clips as WAV files, for `edgewright run` to listen to: `work/clips/CLASS/NUMBER.wav`."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import soundfile

HERE = Path(__file__).parent
LABELS = ("Down", "Go", "Left", "No", "Off", "On", "Right", "Stop", "Up", "Yes", "Silence", "Unknown")
FIRST, COUNT = 550, 24  # clips of the test split


def main() -> None:
    source = Path(os.environ.get("EDGEWRIGHT_BENCH", "")) / "kws" / "kws01_waveforms_int16.npz"
    if not source.is_file():
        raise SystemExit(f"no clips in {source}: set EDGEWRIGHT_BENCH (see examples/README.md)")
    with np.load(source) as arrays:
        x, y = arrays["x"], arrays["y"]
    for row in range(FIRST, FIRST + COUNT):
        folder = HERE / "work" / "clips" / LABELS[y[row]]
        folder.mkdir(parents=True, exist_ok=True)
        soundfile.write(folder / f"{row}.wav", x[row], 16000, subtype="PCM_16")
    print(f"{COUNT} clips in {HERE / 'work' / 'clips'}")


if __name__ == "__main__":
    main()
