"""What `sparse = true` is told to bring: how many layers of the model that ships keep to 2:4."""

from __future__ import annotations

from pathlib import Path

import onnx_ir as ir
import pytest

from edgewright.graph.sparsity import n_of_m, store, weights_of
from edgewright.runtimes import load_artifact
from edgewright.targets._tensorrt import prove
from edgewright.testing._target_models import conv_bn_relu, quantized_conv
from edgewright.testing._target_tools import compiled


@pytest.fixture(autouse=True)
def _nothing_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(prove, "installed", lambda: None)


@pytest.mark.parametrize("sparse", [False, True])
def test_layers_that_keep_the_pattern_are_counted_in_the_model_that_ships(tmp_path: Path, sparse: bool) -> None:
    model = ir.from_proto(quantized_conv(symmetric=True))
    layers = list(weights_of(model.graph))
    assert [weight.depth for weight in layers] == [4, 8]
    if sparse:
        for weight in layers:
            store(weight, weight.array * n_of_m(weight.array, weight.axis, 2, 4))
    told = load_artifact(compiled("tensorrt", ir.to_proto(model), tmp_path, gpu="rtx-3090", sparse=True)).unproven
    (line,) = (line for line in told if "sparse = true" in line)
    assert ("2 of 2 layers keep to 2:4" if sparse else "no layer keeps to 2:4") in line


def test_nothing_is_said_of_zeros_that_are_not_asked_for(tmp_path: Path) -> None:
    artifact = load_artifact(compiled("tensorrt", conv_bn_relu(), tmp_path, gpu="rtx-3090"))
    assert not any("sparse = true" in line for line in artifact.unproven)
