"""Our compiler to LiteRT beside litert-torch, and our INT8 beside ai-edge-quantizer.

    python benchmarks/litert.py
    python benchmarks/litert.py --rounds 3 --skip parity

Networks of MobileNetV2's and ResNet-50's shape, 224x224, seeded weights, one thread. Compiling is timed as whole
processes in turn (A B A B): from the interpreter's start to the written file, wall time and peak memory; ours starts
from the ONNX file, litert-torch from the PyTorch network. Speed is that of the files in one process, in turn, opened
anew every few rounds; the interval is the distribution-free one of the median ratio. Quantised files are calibrated on
the same images. Parity compares the float file of every benchmark model whose weights are here with ONNX Runtime, as
signal to error. The peers run in an environment of their own, made on first use (`benchmarks/peers/environments.py`).
"""

from __future__ import annotations

import argparse
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

PEERS = Path(__file__).parent / "peers"
sys.path.insert(0, str(PEERS))

from environments import python_of  # noqa: E402
from rich.console import Console  # noqa: E402
from rich.table import Table  # noqa: E402

from edgewright.device.timing.rounds import median_interval  # noqa: E402

NETWORKS = ("mobilenet", "resnet")
MOST_SECONDS, MOST_MEGABYTES, LEAST_DECIBELS, LEAST_SPEED = 3.0, 400.0, 100.0, 0.97
CALIBRATION = 16
REOPEN = 5
"""Rounds after which files are opened anew: where memory lands changes speed."""
PARITY_SAMPLES = 8
Row = tuple[str, str, str, str, bool | None]


@dataclass(frozen=True, slots=True)
class Cost:
    """What one process took."""

    seconds: float
    megabytes: float


def process(python: Path, *arguments: str) -> Cost:
    """Runs a script in a process of its own and waits for it.

    Raises:
        RuntimeError: It failed.
    """
    with tempfile.TemporaryFile() as said:
        actions = [(os.POSIX_SPAWN_DUP2, said.fileno(), stream) for stream in (1, 2)]
        environment = {**os.environ, "TOKENIZERS_PARALLELISM": "false"}
        start = time.perf_counter()
        pid = os.posix_spawn(python, [str(python), *arguments], environment, file_actions=actions)
        _, status, usage = os.wait4(pid, 0)
        seconds = time.perf_counter() - start
        if status:
            said.seek(0)
            raise RuntimeError(f"{arguments}: " + said.read().decode(errors="replace")[-600:])
    return Cost(seconds, usage.ru_maxrss / 1024)


def ours(*arguments: str) -> Cost:
    """Runs `litert_ours.py` with our interpreter."""
    return process(Path(sys.executable), str(PEERS / "litert_ours.py"), *arguments)


def peer(*arguments: str) -> Cost:
    """Runs `litert_script.py` with the peers' interpreter."""
    return process(python_of("litert"), str(PEERS / "litert_script.py"), *arguments)


def compiling(network: str, work: Path, rounds: int) -> list[Row]:
    """Times both compilers in turn and leaves their files."""
    ours("export", network, str(work / f"{network}.onnx"))
    sides: dict[str, Callable[[], Cost]] = {
        "Edgewright": lambda: ours("convert", str(work / f"{network}.onnx"), str(work / f"{network}-ours.tflite")),
        "litert-torch": lambda: peer("convert", network, str(work / f"{network}-peer.tflite")),
    }
    costs: dict[str, list[Cost]] = {name: [] for name in sides}
    for _ in range(rounds):
        for name, run in sides.items():
            costs[name].append(run())
    rows = []
    for name, found in costs.items():
        seconds = statistics.median(cost.seconds for cost in found)
        megabytes = max(cost.megabytes for cost in found)
        judged = name == "Edgewright" and network == "mobilenet"
        fits = seconds <= MOST_SECONDS and megabytes <= MOST_MEGABYTES
        limit = f"<= {MOST_SECONDS:g} s, {MOST_MEGABYTES:g} MB" if judged else ""
        rows.append(
            (f"compile {network}", name, f"{seconds:.2f} s, {megabytes:.0f} MB", limit, fits if judged else None)
        )
    ratios = [b.seconds / a.seconds for a, b in zip(*costs.values(), strict=True)]
    rows.append((f"compile {network}", "faster than litert-torch", f"{statistics.median(ratios):.1f}x", "", None))
    return rows


def quantising(network: str, work: Path) -> list[Row]:
    """Makes INT8 files of both from the same images; each starts from its own float model."""
    samples = work / "images.npz"
    images = np.random.default_rng(1).standard_normal((CALIBRATION, 3, 224, 224)).astype(np.float32)
    np.savez(samples, images=images)
    mine = ours("quantise", str(work / f"{network}.onnx"), str(samples), str(work / f"{network}-ours-int8.tflite"))
    float_file, int8_file = work / f"{network}-peer.tflite", work / f"{network}-peer-int8.tflite"
    theirs = peer("quantise", str(float_file), str(samples), str(int8_file))
    costs = zip(("Edgewright", "ai-edge-quantizer"), (mine, theirs), strict=True)
    return [(f"quantise {network}", n, f"{c.seconds:.1f} s, {c.megabytes:.0f} MB", "", None) for n, c in costs]


class File:
    """A .tflite file in LiteRT, with one thread, fed with the same image in its own layout."""

    def __init__(self, path: Path, image: NDArray[np.float32]) -> None:
        from ai_edge_litert.interpreter import Interpreter

        self.interpreter = Interpreter(model_path=str(path), num_threads=1)
        self.interpreter.allocate_tensors()
        detail = self.interpreter.get_input_details()[0]
        fed = image if tuple(detail["shape"]) == image.shape else image.transpose(0, 2, 3, 1)
        if detail["dtype"] != np.float32:
            scale, zero = detail["quantization"]
            fed = np.clip(np.rint(fed / scale) + zero, -128, 127).astype(detail["dtype"])
        self.interpreter.set_tensor(detail["index"], np.ascontiguousarray(fed))
        self.output = self.interpreter.get_output_details()[0]["index"]

    def milliseconds(self) -> float:
        """Times one run."""
        start = time.perf_counter()
        self.interpreter.invoke()
        return (time.perf_counter() - start) * 1e3

    def answer(self) -> NDArray[Any]:
        """Returns the output of the last run."""
        return np.asarray(self.interpreter.get_tensor(self.output))


def speed(network: str, work: Path, kind: str, rounds: int) -> Row:
    """Times our file and the peer's in turn; the ratio is the peer's time over ours, so more than 1 is better."""
    image = np.random.default_rng(2).standard_normal((1, 3, 224, 224)).astype(np.float32)
    paths = [work / f"{network}-{side}{kind}.tflite" for side in ("ours", "peer")]
    ratios: list[float] = []
    for number in range(rounds):
        if number % REOPEN == 0:
            files = [File(path, image) for path in paths]
            for file in files:
                _block(file)
        times = [_block(file) for file in (files if number % 2 else files[::-1])]
        mine, theirs = times if number % 2 else times[::-1]
        ratios.append(theirs / mine)
    low, high = median_interval(ratios)
    value = statistics.median(ratios)
    title = f"speed {network} {'INT8' if kind else 'float'}"
    name = "to ai-edge-quantizer's" if kind else "to litert-torch's"
    shown = f"{value:.3f} ({low:.3f} to {high:.3f})"
    return (title, name, shown, f">= {LEAST_SPEED:g}", value >= LEAST_SPEED or high >= 1.0 > low)


def _block(file: File, runs: int = 6) -> float:
    file.milliseconds()
    return statistics.median(file.milliseconds() for _ in range(runs))


def decibels(signal: float, error: float) -> float:
    """Returns the ratio of two sums of squares in decibels."""
    return 10 * np.log10(signal / error) if error else float("inf")


def squares(wanted: NDArray[Any], found: NDArray[Any]) -> tuple[float, float]:
    """Returns the sums of squares of the signal and of the error."""
    error = wanted.astype(np.float64) - found
    return float(np.square(wanted, dtype=np.float64).sum()), float(np.square(error).sum())


def parity(model: str, work: Path) -> Row:
    """Compares the float artifact of a benchmark model with ONNX Runtime on calibration samples."""
    from bench import prepare

    from edgewright.core.recipe import StepSpec
    from edgewright.runtimes import open_runner

    title = f"parity {model}"
    sys.modules.pop("network", None)  # each example calls its own so
    try:
        folder = work / model
        folder.mkdir()
        bench = prepare(model, folder)
        paths = [bench.step("targets", StepSpec(t), model=bench.model) for t in ("onnxruntime", "litert")]
    except Exception as error:  # the examples may be untrained, or the compiler lack an operator: the table says so
        return (title, "litert", f"{type(error).__name__}: {' '.join(str(error).split())[:90]}", "", False)
    sums: dict[str, list[tuple[float, float]]] = {}
    with open_runner(paths[0]) as wanted, open_runner(paths[1]) as found:
        for feed, _ in zip(bench.feeds(), range(PARITY_SAMPLES), strict=False):
            one, other = wanted.run(feed), found.run(feed)
            for name in one:
                sums.setdefault(name, []).append(squares(one[name], other[name]))
    all_of = min(decibels(*np.sum(found, axis=0)) for found in sums.values())
    worst = min(decibels(*each) for found in sums.values() for each in found)
    shown = f"{all_of:.1f} dB over {PARITY_SAMPLES} samples, the worst {worst:.1f}"
    return (title, "to ONNX Runtime", shown, f">= {LEAST_DECIBELS:g} dB", all_of >= LEAST_DECIBELS)


def show(rows: Sequence[Row]) -> int:
    """Prints the table; returns how many limits are broken."""
    table = Table(title="Edgewright's LiteRT compiler beside litert-torch and ai-edge-quantizer")
    for column in ("what", "who", "figure", "limit", "verdict"):
        table.add_column(column)
    for what, who, figure, limit, passed in rows:
        table.add_row(what, who, figure, limit, "" if passed is None else "PASS" if passed else "FAIL")
    Console(width=130).print(table)
    return sum(row[-1] is False for row in rows)


def _add(rows: list[Row], found: Sequence[Row]) -> None:
    rows += found
    for row in found:
        print("  " + ": ".join(row[:3]), flush=True)


def main() -> int:
    """Runs all parts that are not skipped."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--networks", nargs="+", default=list(NETWORKS), choices=NETWORKS)
    parser.add_argument("--models", nargs="+", default=["kws", "yolox", "fashion", "mobilenet", "banking77"])
    parser.add_argument("--rounds", type=int, default=5, help="processes per compiler")
    parser.add_argument("--speed-rounds", type=int, default=20)
    parser.add_argument("--skip", nargs="*", default=[], choices=["compile", "int8", "parity"])
    given = parser.parse_args()
    rows: list[Row] = []
    with tempfile.TemporaryDirectory(prefix="edgewright-litert-") as name:
        work = Path(name)
        for network in given.networks if "compile" not in given.skip else []:
            _add(rows, compiling(network, work, given.rounds))
            _add(rows, [speed(network, work, "", given.speed_rounds)])
            if "int8" not in given.skip:
                _add(rows, quantising(network, work))
                _add(rows, [speed(network, work, "-int8", given.speed_rounds)])
        for model in given.models if "parity" not in given.skip else []:
            _add(rows, [parity(model, work)])
    return 1 if show(rows) else 0


if __name__ == "__main__":
    sys.exit(main())
