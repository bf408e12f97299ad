"""The MLPerf Tiny keyword spotter from TFLite through ONNX to INT8 TFLite, beside the published INT8 file.

    EDGEWRIGHT_BENCH=... python benchmarks/ds_cnn.py
    python benchmarks/ds_cnn.py --rounds 40

The published float file (.tflite) is imported, cleaned up, calibrated on the first 100 clips and quantised by the
scheme `litert-s8s8-full`; the compiler writes an all-integer .tflite. Both files then see the same 1000 clips, rounded
to the scale of their own input, in LiteRT and in the interpreter of TensorFlow Lite Micro. Accuracy is over all
1000 clips (the 100 for calibration are among them, for both alike) with the paired 95% interval of the difference;
speed is interleaved, one thread, XNNPACK.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgewright.formats.tflite.reader import parse
from edgewright.runtimes.tflm import TflmRunner

ROOT = Path(__file__).resolve().parents[1]
PROJECT = ROOT / "examples" / "keyword_spotting" / "edgewright.toml"
CALLS = 200
"""Runs per round: one takes a tenth of a millisecond."""


def main() -> int:
    """Prints the figures; the exit status says whether ours is no worse."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=30, help="Interleaved timing rounds.")
    arguments = parser.parse_args()
    bench = Path(os.environ.get("EDGEWRIGHT_BENCH", ROOT.parent / "shared" / "bench")) / "kws"
    clips = np.load(bench / "kws01_mfcc_int8.npz", allow_pickle=False)
    with tempfile.TemporaryDirectory(prefix="edgewright-") as folder:
        ours = compiled(bench, Path(folder))
    files = {"ours": ours, "published": (bench / "kws01_ref_model_int8.tflite").read_bytes()}
    verdicts = [*accuracies(files, bench, clips), *sizes(files), speeds(files, clips["x"][0], arguments.rounds)]
    return 0 if all(verdicts) else 1


def compiled(bench: Path, folder: Path) -> bytes:
    """Returns our file, made by the command line as a user would."""
    steps = ("--pass", "clean-up", "--pass", "static-int8(scheme=litert-s8s8-full)")
    target = ("--compile", "litert(integer_only=int8, strict=true)")
    source = bench / "kws01_ref_model_float32.tflite"
    command = ("apply", str(source), "-o", str(folder / "out"), "--project", str(PROJECT), *steps, *target)
    environment = {**os.environ, "EDGEWRIGHT_BENCH": str(bench.parent)}
    subprocess.run([sys.executable, "-m", "edgewright.cli", *command], env=environment, check=True)
    return (folder / "out" / "artifact" / "model.tflite").read_bytes()


def accuracies(files: dict[str, bytes], bench: Path, clips: Any) -> list[bool]:
    """Prints top-1 of both files in both interpreters, and of the float file; says whether ours holds."""
    truth = clips["y"]
    real = (clips["x"].astype(np.float32) - int(clips["zero_point"])) * np.float32(clips["scale"])
    reference = lite((bench / "kws01_ref_model_float32.tflite").read_bytes())
    right = {("float", "LiteRT"): _right(reference, real, truth)}
    for name, content in files.items():
        stored = _rounded(real, content)
        right[name, "LiteRT"] = _right(lite(content), stored, truth)
        right[name, "TFLite Micro"] = _right(micro(content), stored, truth)
    for (name, where), hits in right.items():
        print(f"top-1   {name:10} {where:13} {hits.mean():.4f}")
    verdicts = []
    for where in ("LiteRT", "TFLite Micro"):
        for other, against in (("published", where), ("float", "LiteRT")):
            low, high = _interval(right["ours", where], right[other, against])
            mean = 100 * (right["ours", where].mean() - right[other, against].mean())
            good = bool(mean >= -0.3 or high >= 0)
            verdicts.append(good)
            print(f"ours in {where:13} against {other:10} {mean:+.1f} points [{low:+.1f}, {high:+.1f}]  {_said(good)}")
    return verdicts


def sizes(files: dict[str, bytes]) -> list[bool]:
    """Prints sizes and arenas; says whether ours are no larger."""
    arenas = {name: TflmRunner(content, name).arena().total for name, content in files.items()}
    good = [len(files["ours"]) <= len(files["published"]), arenas["ours"] <= arenas["published"]]
    print(f"size    ours {len(files['ours']):,} bytes, published {len(files['published']):,}  {_said(good[0])}")
    print(f"arena   ours {arenas['ours']:,} bytes, published {arenas['published']:,} (64-bit host)  {_said(good[1])}")
    return good


def speeds(files: dict[str, bytes], sample: NDArray[Any], rounds: int) -> bool:
    """Prints the ratio of interleaved times; says whether ours is at most 3% slower."""
    runs = {name: lite(content) for name, content in files.items()}
    times: dict[str, list[float]] = {name: [] for name in runs}
    for number in range(rounds):
        for name in sorted(runs, reverse=bool(number % 2)):
            started = time.perf_counter()
            for _ in range(CALLS):
                runs[name](sample)
            times[name].append((time.perf_counter() - started) / CALLS * 1000)
    ratios = [theirs / own for theirs, own in zip(times["published"], times["ours"], strict=True)]
    ratio = statistics.median(ratios)
    low, high = np.quantile(_medians(ratios), (0.025, 0.975))
    own, theirs = (statistics.median(times[name]) for name in ("ours", "published"))
    good = bool(ratio >= 0.97)
    print(f"speed   ours {own:.3f} ms, published {theirs:.3f} ms: {ratio:.2f}x [{low:.2f}, {high:.2f}]  {_said(good)}")
    return good


def lite(content: bytes) -> Callable[[NDArray[Any]], int]:
    """Returns what LiteRT decides on one sample."""
    from ai_edge_litert.interpreter import Interpreter

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        interpreter = Interpreter(model_content=content, num_threads=1)
    interpreter.allocate_tensors()
    takes, gives = interpreter.get_input_details()[0], interpreter.get_output_details()[0]

    def decide(sample: NDArray[Any]) -> int:
        interpreter.set_tensor(takes["index"], sample.reshape(takes["shape"]))
        interpreter.invoke()
        return int(interpreter.get_tensor(gives["index"]).argmax())

    return decide


def micro(content: bytes) -> Callable[[NDArray[Any]], int]:
    """Returns what TensorFlow Lite Micro decides on one sample."""
    runner = TflmRunner(content, "model.tflite")
    taken = runner.inputs[0]

    def decide(sample: NDArray[Any]) -> int:
        found = runner.run({taken.name: sample.reshape([int(size) for size in taken.shape])})
        return int(next(iter(found.values())).argmax())

    return decide


def _rounded(real: NDArray[Any], content: bytes) -> NDArray[np.int8]:
    graph = parse(content)
    taken = graph.tensors[graph.inputs[0]]
    return np.asarray(np.clip(np.rint(real / taken.scale[0]) + taken.zero_point[0], -128, 127), np.int8)


def _right(decide: Callable[[NDArray[Any]], int], samples: NDArray[Any], truth: NDArray[Any]) -> NDArray[np.bool_]:
    return np.asarray(np.asarray([decide(sample) for sample in samples]) == truth)


def _interval(ours: NDArray[Any], theirs: NDArray[Any]) -> tuple[float, float]:
    difference = ours.astype(float) - theirs.astype(float)
    draws = np.random.default_rng(0).integers(0, len(difference), (4000, len(difference)))
    low, high = np.quantile(difference[draws].mean(1), (0.025, 0.975))
    return 100 * float(low), 100 * float(high)


def _medians(values: list[float]) -> NDArray[Any]:
    draws = np.random.default_rng(0).integers(0, len(values), (2000, len(values)))
    return np.asarray(np.median(np.asarray(values)[draws], axis=1))


def _said(good: bool) -> str:
    return "PASS" if good else "FAIL"


if __name__ == "__main__":
    sys.exit(main())
