"""Providers in their real builds of ONNX Runtime: OpenVINO on the processor, and QNN's simulator.

Each is installed from its lock where the user has none. The whole way is taken: the target runs in a worker in that
environment, and its artifact is opened and timed from this one.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from edgewright.core.measurement import Device
from edgewright.core.recipe import StepSpec
from edgewright.core.target import Artifact, RunOptions
from edgewright.device.timing.hosts import HostProcess
from edgewright.engine import environments
from edgewright.engine.environments import install
from edgewright.engine.execute import Executor, Input
from edgewright.errors import StepFailed
from edgewright.graph.load import save
from edgewright.graph.opset import raise_opset
from edgewright.graph.simplify import simplify
from edgewright.passes.static_int8 import StaticInt8
from edgewright.runtimes import load_artifact, open_runner
from edgewright.store.cache import Cache
from edgewright.store.files import digest_path
from edgewright.testing._quantised_models import run_as_written
from edgewright.testing._scheme_models import network
from edgewright.testing._target_models import quantized_conv
from edgewright.testing._target_tools import QuietContext, compiled, feed_for
from edgewright.testing.passes import statistics_of

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("onnxruntime-providers")]
DEVICE = Device("local", "x86_64", "test", 2, ("avx2",), 1 << 30, "Linux 6")
Compile = Callable[..., Path]


@pytest.fixture(scope="module", params=["openvino", "qnn"])
def provider(request: pytest.FixtureRequest) -> str:
    """Which environment a test is about."""
    return str(request.param)


@pytest.fixture(scope="module")
def cache(provider: str, tmp_path_factory: pytest.TempPathFactory) -> Path | None:
    """Where its environment is; None for the user's own cache."""
    name = f"onnxruntime-{provider}"
    if environments.find(name) is not None:
        return None
    made = tmp_path_factory.mktemp(name)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("EDGEWRIGHT_CACHE", str(made))
        install.install(name, lambda fraction, note: None)
    return made


@pytest.fixture
def compile_with(cache: Path | None, provider: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Compile:
    """Compiles a model through the executor, as a search does."""
    if cache is not None:
        monkeypatch.setenv("EDGEWRIGHT_CACHE", str(cache))
    executor = Executor(Cache(tmp_path / "cache"), tmp_path, DEVICE)

    def made(model: onnx.ModelProto | Path, **fields: Any) -> Path:
        hub = model if isinstance(model, Path) else tmp_path / "hub"
        if not isinstance(model, Path):
            hub.mkdir(exist_ok=True)
            onnx.save(model, hub / "model.onnx")
        spec = StepSpec("onnxruntime", {"provider": provider, **fields})
        return executor.run("targets", spec, {"model": Input(hub, digest_path(hub))}).path

    return made


ON_OPENVINO = pytest.mark.parametrize("provider", ["openvino"], indirect=True, scope="module")
ON_QNN = pytest.mark.parametrize("provider", ["qnn"], indirect=True, scope="module")


def run(artifact: Path, feed: Mapping[str, NDArray[Any]]) -> NDArray[Any]:
    with open_runner(artifact) as runner:
        return runner.run(feed)["y"]


def taken(artifact: Artifact, provider: str) -> set[str]:
    return {name for node in artifact.placement if node.where == provider for name in node.source}


@ON_OPENVINO
def test_openvino_takes_every_node_and_answers_as_the_cpu_provider(compile_with: Compile, tmp_path: Path) -> None:
    proto = quantized_conv()
    made = compile_with(proto, strict=True)
    artifact = load_artifact(made)
    assert taken(artifact, "OpenVINOExecutionProvider") >= {"c1_node", "c2_node"}
    assert {node.where for node in artifact.placement} == {"OpenVINOExecutionProvider"}
    assert artifact.precision == "int8"
    assert artifact.runtime_version == environments.read("onnxruntime-openvino").pins["onnxruntime-openvino"]
    assert "OpenVINOExecutionProvider" in artifact.proof[0]
    feed = feed_for(proto)
    expected = run(compiled("onnxruntime", proto, tmp_path / "cpu"), feed)
    scale = np.abs(expected).max()
    np.testing.assert_allclose(run(made, feed), expected, atol=0.05 * scale)
    with open_runner(made, RunOptions(profile=True)) as runner:
        runner.run(feed)
        assert {time.node for time in runner.operator_times()} <= {node.node for node in artifact.placement}


@ON_OPENVINO
def test_openvino_is_timed_in_its_own_process_without_a_way_between(compile_with: Compile, tmp_path: Path) -> None:
    proto = quantized_conv()
    np.savez(tmp_path / "feed.npz", x=feed_for(proto)["x"])
    with HostProcess(compile_with(proto)) as host:
        assert host.open([tmp_path / "feed.npz"], RunOptions()) > 0
        assert len(host.time(3, 1).ms) == 3


@ON_OPENVINO
def test_what_openvino_leaves_to_the_cpu_is_unplanned_and_named(compile_with: Compile) -> None:
    made = compile_with(_with_a_hole())
    artifact = load_artifact(made)
    left = [node for node in artifact.placement if "hole" in node.source]
    assert left
    assert left[0].where == "CPU"
    assert not left[0].planned
    assert "hole ran on CPU: OpenVINOExecutionProvider did not take it" in left[0].note
    assert "last" in taken(artifact, "OpenVINOExecutionProvider")
    with pytest.raises(StepFailed, match="hole ran on CPU"):
        compile_with(_with_a_hole(), strict=True)


def _with_a_hole() -> onnx.ModelProto:
    """Two convolutions around an operator that OpenVINO has no conversion for."""
    rng = np.random.default_rng(0)
    weights = rng.standard_normal((4, 4, 3, 3)).astype(np.float32)
    nodes = [
        helper.make_node("Conv", ["x", "w"], ["a"], "first", pads=[1] * 4),
        helper.make_node("Inverse", ["a"], ["b"], "hole", domain="com.microsoft"),
        helper.make_node("Conv", ["b", "w"], ["y"], "last", pads=[1] * 4),
    ]
    value = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [1, 4, 8, 8]) for name in "xy"]
    graph = helper.make_graph(nodes, "holed", value[:1], value[1:], [numpy_helper.from_array(weights, "w")])
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid("com.microsoft", 1)]
    return helper.make_model(graph, opset_imports=opsets, ir_version=8)


@ON_QNN
def test_qnn_simulator_runs_a_network_quantised_by_its_scheme(compile_with: Compile, tmp_path: Path) -> None:
    proto = quantized_conv()
    made = compile_with(proto)
    artifact = load_artifact(made)
    assert taken(artifact, "QNNExecutionProvider") >= {"c1_node", "c2_node"}
    assert any("simulator" in said for said in artifact.unproven)
    feed = feed_for(proto)
    expected = run(compiled("onnxruntime", proto, tmp_path / "cpu"), feed)
    np.testing.assert_allclose(run(made, feed), expected, atol=0.05 * np.abs(expected).max())


@ON_QNN
@pytest.mark.parametrize("scheme", ["qnn-u8s8", "qnn-u16s8"])
def test_qnn_scheme_leaves_nothing_to_the_cpu(compile_with: Compile, tmp_path: Path, scheme: str) -> None:
    feed, hub = _quantised(tmp_path, scheme)
    made = compile_with(hub, strict=True)
    artifact = load_artifact(made)
    assert {node.where for node in artifact.placement} == {"QNNExecutionProvider"}
    assert artifact.precision == "int8"
    proto = onnx.load(hub / "model.onnx")
    expected = run_as_written(proto, feed)["y"]
    assert _snr(expected, run(made, feed)) > 25


def _quantised(folder: Path, scheme: str) -> tuple[dict[str, NDArray[Any]], Path]:
    clean, out = folder / "clean", folder / "quantised"
    for each in (clean, out):
        each.mkdir()
    save(simplify(raise_opset(network(), 17)), clean)
    feed = {name: each[:1] for name, each in feed_for(onnx.load(clean / "model.onnx")).items()}
    statistics = statistics_of(clean, [feed], folder / "statistics")
    StaticInt8(scheme).run({"model": clean, "statistics": statistics}, out, QuietContext(folder / "scratch"))
    return feed, out


def _snr(expected: NDArray[Any], found: NDArray[Any]) -> float:
    return float(10 * np.log10(np.square(expected).sum() / max(np.square(expected - found).sum(), 1e-30)))


@ON_QNN
def test_a_provider_that_takes_no_node_is_an_error(compile_with: Compile) -> None:
    """QNN takes fixed shapes only, and ONNX Runtime lists it as present all the same."""
    proto = quantized_conv()
    for value in (*proto.graph.input, *proto.graph.output):
        value.type.tensor_type.shape.dim[0].ClearField("dim_value")
        value.type.tensor_type.shape.dim[0].dim_param = "batch"
    with pytest.raises(StepFailed, match="QNNExecutionProvider took no node") as error:
        compile_with(proto)
    assert "fixed" in error.value.hint
