"""The benchmark models go to PyTorch, are trained by one step, and come back: ONNX Runtime agrees before and after."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import onnx_ir as ir
import onnxruntime
import pytest
import torch

from edgewright.core.tensors import TensorSpec
from edgewright.graph.bridge import to_torch, write_back
from edgewright.graph.load import load
from edgewright.training.export import export
from edgewright.training.networks import open_network

TOLERANCE = 1e-4
EXAMPLES = Path(__file__).parents[3] / "examples"
FILES = {"kws": "kws/kws01_ref_model_float32.onnx", "yolox-nano": "yolox_nano/yolox_nano.onnx"}
NETWORKS = {
    "resnet20": ("fashion_mnist", "resnet20", TensorSpec("image", "float32", ("n", 1, 28, 28))),
    "mobilenetv2": ("fashion_mnist", "mobilenetv2", TensorSpec("image", "float32", ("n", 1, 28, 28))),
    "banking77": ("banking77", "classifier", TensorSpec("tokens", "int64", ("n", 48))),
}


def example(folder: str) -> ModuleType:
    name = f"example_{folder}"
    spec = importlib.util.spec_from_file_location(name, EXAMPLES / folder / "network.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module


def network(name: str) -> ir.Model:
    """The trained network where its example was run, else one with statistics away from their defaults."""
    folder, factory, spec = NETWORKS[name]
    torch.manual_seed(0)
    made = getattr(example(folder), factory)().eval()
    for module in made.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            assert module.running_mean is not None
            assert module.running_var is not None
            module.running_mean.normal_(0, 0.1)
            module.running_var.uniform_(0.5, 1.5)
    return export(made, (spec,), ("logits",), title=name)


def batch(model: ir.Model) -> dict[str, Any]:
    (value,) = (v for v in model.graph.inputs if v.name not in model.graph.initializers)
    assert value.shape is not None
    shape = [d if isinstance(d, int) else 2 for d in value.shape]
    rng = np.random.default_rng(0)
    if value.dtype == ir.DataType.INT64:
        return {str(value.name): rng.integers(1, 4000, shape)}
    return {str(value.name): rng.uniform(-1, 1, shape).astype(np.float32)}


def reference(model: ir.Model, feeds: dict[str, Any]) -> list[Any]:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    proto = ir.to_proto(model).SerializeToString()
    session = onnxruntime.InferenceSession(proto, options, providers=["CPUExecutionProvider"])
    return list(session.run(None, feeds))


def distance(found: tuple[torch.Tensor, ...], expected: list[Any]) -> float:
    pairs = zip(found, expected, strict=True)
    return max(float(np.abs(y.detach().numpy() - e).max() / np.abs(e).max()) for y, e in pairs)


@pytest.mark.bench
@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning", "ignore::UserWarning")
@pytest.mark.parametrize("name", [*FILES, *(pytest.param(name, marks=pytest.mark.prove) for name in NETWORKS)])
def test_a_benchmark_model_goes_there_and_back(bench: Path, name: str) -> None:
    model = load(bench / FILES[name]) if name in FILES else network(name)
    feeds = batch(model)
    inputs = tuple(torch.from_numpy(array) for array in feeds.values())
    before = reference(model, feeds)
    assert distance(to_torch(model)(*inputs), before) <= TOLERANCE
    trained = open_network(model, fused=True)
    assert distance(trained.eval()(*inputs), before) <= TOLERANCE
    trained.train()
    sum(y.float().square().mean() for y in trained(*inputs)).backward()
    without = [name for name, p in trained.named_parameters() if p.grad is None or not torch.isfinite(p.grad).all()]
    assert without == [], "a gradient reaches every parameter"
    with torch.no_grad():
        for parameter in trained.parameters():
            parameter.sub_(1e-3 * parameter.grad.sign())
    write_back(trained, model)
    after = reference(model, feeds)
    assert distance(trained.eval()(*inputs), after) <= TOLERANCE
    assert distance(tuple(map(torch.from_numpy, before)), after) > TOLERANCE
