"""The network made hard of the benchmark, on digits: naive per-tensor INT8 collapses, the ladder brings it back."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

BENCHMARK = Path(__file__).parents[2] / "benchmarks" / "hard_mobilenet.py"


@pytest.fixture(scope="module")
def benchmark() -> ModuleType:
    spec = importlib.util.spec_from_file_location("hard_mobilenet", BENCHMARK)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["hard_mobilenet"] = module
    spec.loader.exec_module(module)
    return module


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning", "ignore::UserWarning")
def test_weights_that_differ_a_hundredfold_keep_their_accuracy_on_one_scale(
    benchmark: ModuleType, tmp_path: Path
) -> None:
    import torch
    from sklearn.datasets import load_digits

    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # on layers this small, threads wait for each other longer than they compute
    found = load_digits()
    order = np.random.default_rng(0).permutation(len(found.target))
    images = np.ascontiguousarray(found.images[order, None] / 8 - 1, np.float32)
    labels = found.target[order].astype(np.int64)
    network = benchmark.train(images[:1000], labels[:1000], width=8, epochs=10, batch=50)
    torch.set_num_threads(threads)
    hard = benchmark.harden(network, 100.0)
    bench = benchmark.Bench(tmp_path, images[1000:], labels[1000:], benchmark.per_tensor("onnxruntime-u8s7"))
    bench.import_network(hard, images[:64])
    right = benchmark.ladder(bench, (benchmark.NAIVE, benchmark.OURS))
    accuracy = {name: float(each.mean()) for name, each in right.items()}
    assert accuracy["float"] > 0.93
    assert accuracy[benchmark.NAIVE] < accuracy["float"] - 0.2
    assert accuracy[benchmark.OURS] >= accuracy["float"] - 0.005
