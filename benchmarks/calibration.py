"""Histogram calibration beside ONNX Runtime's MinMax and Percentile calibrators: time, peak memory, batching.

    python benchmarks/calibration.py
    python benchmarks/calibration.py --rounds 1 --samples 32

A network of MobileNetV2's shape at 224x224 with random weights, the same seeded samples for all, two threads on two
cores. Every side runs in a process of its own, one after the other in turn (A B C A B C). Time is from the model's file
to the ranges, without imports. The peers run with their defaults and, as far as they can take data in parts, in chunks
of ten samples; of the two the faster one counts.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

CHUNK = 10
BLOCKS = ((1, 16, 1, 1), (6, 24, 2, 2), (6, 32, 3, 2), (6, 64, 4, 2), (6, 96, 3, 1), (6, 160, 3, 2), (6, 320, 1, 1))
"""Expansion, channels, repetitions and stride of MobileNetV2's inverted residuals."""
PEERS = {
    "ORT MinMax": ("MinMax", 0),
    "ORT Percentile": ("Percentile", 0),
    "ORT Percentile, chunks": ("Percentile", CHUNK),
}
OURS = "Edgewright"


class Network:
    """Nodes and weights under construction."""

    def __init__(self) -> None:
        self.rng = np.random.default_rng(0)
        self.nodes: list[onnx.NodeProto] = []
        limits = {"zero": np.float32(0), "six": np.float32(6)}
        self.weights = [numpy_helper.from_array(value, name) for name, value in limits.items()]

    def normal(self, name: str, *shape: int) -> str:
        values = self.rng.standard_normal(shape) * np.sqrt(2 / np.prod(shape[1:] or shape))
        self.weights.append(numpy_helper.from_array(values.astype(np.float32), name))
        return name

    def add(self, op: str, *inputs: str, **attributes: Any) -> str:
        name = f"{op.lower()}{len(self.nodes)}"
        self.nodes.append(helper.make_node(op, inputs, [name], name, **attributes))
        return name

    def conv(self, x: str, into: int, out: int, size: int = 1, stride: int = 1, group: int = 1) -> str:
        weights = self.normal(f"w{len(self.nodes)}", out, into // group, size, size)
        bias = self.normal(f"b{len(self.nodes)}", out)
        return self.add("Conv", x, weights, bias, strides=[stride] * 2, pads=[size // 2] * 4, group=group)

    def relu6(self, x: str) -> str:
        return self.add("Clip", x, "zero", "six")


def mobilenet(path: Path) -> None:
    """Writes the network; its batch axis is free."""
    net = Network()
    x, channels = net.relu6(net.conv("x", 3, 32, 3, 2)), 32
    for expansion, out, repetitions, first in BLOCKS:
        for index in range(repetitions):
            start, wide = x, channels * expansion
            if expansion > 1:
                x = net.relu6(net.conv(x, channels, wide))
            x = net.relu6(net.conv(x, wide, wide, 3, 1 if index else first, wide))
            x = net.conv(x, wide, out)
            x = net.add("Add", x, start) if index else x
            channels = out
    x = net.add("Flatten", net.add("GlobalAveragePool", net.relu6(net.conv(x, channels, 1280))))
    y = net.add("MatMul", x, net.normal("classes", 1280, 1000))
    values = [
        helper.make_tensor_value_info(n, TensorProto.FLOAT, ["batch", *s])
        for n, s in (("x", (3, 224, 224)), (y, (1000,)))
    ]
    graph = helper.make_graph(net.nodes, "mobilenet", values[:1], values[1:], net.weights)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.save(onnx.shape_inference.infer_shapes(model), path)


def sample(index: int) -> NDArray[np.float32]:
    """Returns one picture-like sample: smooth noise whose contrast differs from sample to sample."""
    rng = np.random.default_rng(index)
    coarse = rng.standard_normal((3, 28, 28), dtype=np.float32) * rng.uniform(0.5, 1.5)
    return np.asarray(
        coarse.repeat(8, axis=1).repeat(8, axis=2) + rng.standard_normal((3, 224, 224), dtype=np.float32) / 8
    )


def ours(model: Path, samples: int, batch: int) -> dict[str, list[float]]:
    """Returns tensor -> low, high, and 256 percentiles of the histogram."""
    from edgewright.graph.load import load
    from edgewright.graph.shapes import infer_shapes
    from edgewright.graph.statistics import gather
    from edgewright.passes._infer import open_infer

    def batches() -> Iterator[tuple[list[int], dict[str, NDArray[np.float32]]]]:
        for start in range(0, samples, batch):
            indices = list(range(start, min(start + batch, samples)))
            yield indices, {"x": np.stack([sample(i) for i in indices])}

    opened = partial(open_infer, threads=1, in_order=True)
    found = gather(opened, infer_shapes(load(model)), batches(), workers=2)
    return {
        name: [seen.low, seen.high, float(np.diff(seen.edges).max()), *seen.percentile(99.9), *seen.percentile(90.0)]
        for name, seen in found.tensors.items()
    }


def peer(model: Path, samples: int, method: str, chunk: int) -> dict[str, list[float]]:
    """Calibrates with `onnxruntime.quantization`; returns tensor -> low, high."""
    from onnxruntime.quantization import CalibrationDataReader, CalibrationMethod
    from onnxruntime.quantization.calibrate import create_calibrator

    class Reader(CalibrationDataReader):  # type: ignore[misc]
        def __init__(self, start: int, stop: int) -> None:
            self.indices = iter(range(start, stop))

        def get_next(self) -> dict[str, NDArray[np.float32]] | None:
            index = next(self.indices, None)
            return None if index is None else {"x": sample(index)[None]}

    augmented = model.with_name(f"{method}-augmented.onnx")
    made = create_calibrator(model, None, str(augmented), calibrate_method=getattr(CalibrationMethod, method))
    step = chunk or samples
    for start in range(0, samples, step):
        made.collect_data(Reader(start, min(start + step, samples)))
    return {name: [float(np.ravel(v)[0]) for v in each.range_value] for name, each in made.compute_data().items()}


def run_side(side: str, model: Path, samples: int, batch: int) -> None:
    """Runs one side in this process and prints what it took."""
    os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:2])
    work: Callable[[], dict[str, list[float]]]
    if side == OURS:
        from edgewright.passes import _infer  # noqa: F401  # before the clock starts

        work = lambda: ours(model, samples, batch)  # noqa: E731
    else:
        import onnxruntime.quantization

        work = lambda: peer(model, samples, *PEERS[side])  # noqa: E731
    import onnxruntime

    onnxruntime.set_default_logger_severity(3)
    start = time.perf_counter()
    found = work()
    seconds = time.perf_counter() - start
    print(json.dumps({"seconds": seconds, "megabytes": peak_megabytes(), "ranges": found}))


def peak_megabytes() -> float:
    """Returns the largest resident memory of this process so far; `ru_maxrss` would count that of its parent, too."""
    lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
    return float(next(line.split()[1] for line in lines if line.startswith("VmHWM"))) / 1024


def side(name: str, model: Path, samples: int, batch: int = 1) -> dict[str, Any]:
    """Runs a side in a process of its own."""
    command = [sys.executable, __file__, "--side", name, "--model", str(model)]
    command += ["--samples", str(samples), "--batch", str(batch)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"{name}: {done.stderr[-2000:]}")
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


def batching(model: Path, samples: int) -> float:
    """Returns by how many bins ranges differ at most between batches of 1, 7 and all samples."""
    first, *others = [side(OURS, model, samples, batch)["ranges"] for batch in (1, 7, samples)]
    return max(
        abs(a - b) / max(figures[2], 1e-30)
        for other in others
        for name, figures in first.items()
        for a, b in zip(figures, other[name], strict=True)
    )


def report(rows: list[tuple[str, str, str, bool]]) -> None:
    print(f"\n{'asked':58} {'found':>14}   ")
    for what, asked, found, met in rows:
        print(f"{what + ' ' + asked:58} {found:>14}   {'PASS' if met else 'short'}")


def compare(model: Path, samples: int, rounds: int, many: int) -> None:
    names = [OURS, *PEERS]
    seen: dict[str, list[dict[str, Any]]] = {name: [] for name in names}
    for _ in range(rounds):
        for name in names:
            seen[name].append(side(name, model, samples))
    print(f"{samples} samples, {rounds} rounds, medians")
    print(f"{'':26} {'seconds':>8} {'fastest':>8} {'peak MB':>8} {'ratio':>6}")
    for name in names:
        seconds = [r["seconds"] for r in seen[name]]
        ratio = statistics.median(b["seconds"] / a["seconds"] for a, b in zip(seen[OURS], seen[name], strict=True))
        memory = max(r["megabytes"] for r in seen[name])
        print(f"{name:26} {statistics.median(seconds):8.2f} {min(seconds):8.2f} {memory:8.0f} {ratio:6.2f}")

    def ratio_to(*peers: str) -> float:
        fastest = [min(seen[p][i]["seconds"] for p in peers) for i in range(rounds)]
        return statistics.median(f / mine["seconds"] for f, mine in zip(fastest, seen[OURS], strict=True))

    slower, faster = 1 / ratio_to("ORT MinMax"), ratio_to("ORT Percentile", "ORT Percentile, chunks")
    peak = max(r["megabytes"] for r in seen[OURS])
    few, lots = (side(OURS, model, count)["megabytes"] for count in (8, many))
    apart = batching(model, min(samples, 32))
    report(
        [
            ("time, of ORT MinMax's,", "at most 1.5", f"{slower:.2f}", slower <= 1.5),
            ("faster than ORT Percentile", "at least 4 times", f"{faster:.1f}", faster >= 4),
            ("peak memory", "under 400 MB", f"{peak:.0f} MB", peak < 400),
            (f"memory at {many} samples over that at 8", "at most +5%", f"{lots / few - 1:+.1%}", lots <= 1.05 * few),
            ("ranges in batches of 1, 7 and all differ", "at most 1 bin", f"{apart:.3f} bins", apart <= 1),
        ]
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--samples", type=int, default=128, help="calibration samples (128)")
    parser.add_argument("--rounds", type=int, default=3, help="rounds of all sides (3)")
    parser.add_argument("--many", type=int, default=1000, help="samples of the long run (1000)")
    parser.add_argument("--side", help=argparse.SUPPRESS)
    parser.add_argument("--model", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--batch", type=int, default=1, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.side:
        run_side(args.side, args.model, args.samples, args.batch)
        return
    with tempfile.TemporaryDirectory(prefix="edgewright-") as folder:
        model = Path(folder) / "mobilenet.onnx"
        mobilenet(model)
        compare(model, args.samples, args.rounds, args.many)


if __name__ == "__main__":
    main()
