"""What PyTorch exports of common networks comes back as PyTorch, and computes what ONNX Runtime does."""

from __future__ import annotations

import io
import warnings
from collections.abc import Iterator
from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
import onnxruntime
import pytest
import torch

from edgewright.graph.bridge import run, to_torch, write_back
from edgewright.graph.load import load

TOLERANCE = 1e-4


def exported(family: Any, *, dynamo: bool) -> onnx.ModelProto:
    """The network in ONNX with an open batch, batch norm statistics away from their defaults."""
    torch.manual_seed(0)
    network = family.make().eval()
    for module in network.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.running_mean.normal_(0, 0.1)
            module.running_var.uniform_(0.5, 1.5)
    names = [f"x{i}" for i in range(len(family.shapes))]
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")
        if dynamo:
            shapes = tuple({0: torch.export.Dim("batch")} for _ in names)
            program = torch.onnx.export(
                network, family.samples(), dynamo=True, dynamic_shapes=shapes, input_names=names, verbose=False
            )
            return program.model_proto
        out = io.BytesIO()
        axes = {name: {0: "batch"} for name in names}
        torch.onnx.export(
            network, family.samples(), out, dynamo=False, input_names=names, dynamic_axes=axes, opset_version=17
        )
    return onnx.load_from_string(out.getvalue())


def reference(proto: onnx.ModelProto, feeds: dict[str, Any]) -> list[Any]:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = onnxruntime.InferenceSession(proto.SerializeToString(), options, providers=["CPUExecutionProvider"])
    return list(session.run(None, feeds))


def distance(found: Any, expected: Any) -> float:
    assert found.shape == expected.shape
    assert found.dtype == expected.dtype
    return float(np.abs(found - expected).max() / np.abs(expected).max())


@pytest.fixture(autouse=True)
def _open_layers() -> Iterator[None]:
    """PyTorch's fused encoder layer cannot be traced; the layer as it is written can."""
    torch.backends.mha.set_fastpath_enabled(False)
    yield
    torch.backends.mha.set_fastpath_enabled(True)


def test_exports_compute_the_same(export: Any) -> None:
    family, dynamo = export
    proto = exported(family, dynamo=dynamo)
    module = to_torch(ir.from_proto(proto))
    for batch in (2, 3):
        torch.manual_seed(batch)
        samples = [torch.cat([x, x.flip(0)])[:batch].numpy() for x in family.samples()]
        feeds = {value.name: x for value, x in zip(proto.graph.input, samples, strict=True)}
        for found, expected in zip(run(module, feeds).values(), reference(proto, feeds), strict=True):
            assert distance(found, expected) <= TOLERANCE


@pytest.mark.bench
@pytest.mark.parametrize("name", ["kws/kws01_ref_model_float32.onnx", "yolox_nano/yolox_nano.onnx"])
def test_benchmark_models_compute_the_same(bench: Any, name: str) -> None:
    model = load(bench / name)
    proto = onnx.load(bench / name)
    (value,) = proto.graph.input
    shape = [d.dim_value or 2 for d in value.type.tensor_type.shape.dim]
    feeds = {value.name: np.random.default_rng(0).uniform(0, 255, shape).astype(np.float32)}
    module = to_torch(model)
    for found, expected in zip(run(module, feeds).values(), reference(proto, feeds), strict=True):
        assert distance(found, expected) <= TOLERANCE


@pytest.mark.slow
def test_a_trained_network_goes_back_to_onnx() -> None:
    """Weights that changed in PyTorch are what ONNX Runtime then computes with."""
    from torch import nn

    torch.manual_seed(0)
    network = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.Linear(4 * 36, 2)).eval()
    out = io.BytesIO()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(network, (torch.zeros(1, 3, 8, 8),), out, dynamo=False, input_names=["x"])
    model = ir.from_proto(onnx.load_from_string(out.getvalue()))
    module = to_torch(model)
    optimizer = torch.optim.SGD(module.parameters(), 0.1)
    x = torch.randn(8, 3, 8, 8)[:1]
    (logits,) = module(x)
    torch.nn.functional.cross_entropy(logits, torch.tensor([0])).backward()
    optimizer.step()
    assert write_back(module, model)
    (expected,) = reference(ir.to_proto(model), {"x": x.numpy()})
    assert distance(module(x)[0].detach().numpy(), expected) <= TOLERANCE
    assert distance(logits.detach().numpy(), expected) > 0.01
