"""Target tensorrt: what each GPU can do, what is written for it, and what TensorRT-RTX makes of it here."""

from __future__ import annotations

import importlib.util
import json
import subprocess
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
import pytest

from edgewright.core.codec import decode_stored, encode_json
from edgewright.core.target import Artifact, Plan
from edgewright.core.tensors import TensorSpec
from edgewright.engine import environments
from edgewright.errors import ConfigError, StepFailed
from edgewright.graph.load import load, save
from edgewright.graph.opset import raise_opset
from edgewright.graph.quantisers import all_quantisers
from edgewright.graph.shapes import infer_shapes
from edgewright.graph.simplify import simplify
from edgewright.passes.fp16 import Fp16
from edgewright.passes.static_int8 import StaticInt8
from edgewright.runtimes import load_artifact
from edgewright.runtimes._machine import local_device
from edgewright.targets._tensorrt import prove, refusal
from edgewright.targets._tensorrt.export import calibration_cache
from edgewright.targets._tensorrt.gpus import GPUS, find_gpu
from edgewright.targets._tensorrt.placement import kernels
from edgewright.targets._tensorrt.recipe import Recipe, profile_of, trtexec
from edgewright.targets._tensorrt.typed import typed, without_quantisers
from edgewright.testing._scheme_models import quantised
from edgewright.testing._target_models import Builder, conv_bn_relu, depthwise, quantized_conv
from edgewright.testing._target_tools import QuietContext, compiled, feed_for, make, reference
from edgewright.testing.passes import statistics_of

EXAMPLES = Path(__file__).parents[2] / "examples"
WEIGHTED = {"Conv", "Gemm", "MatMul"}


@pytest.fixture
def nothing_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    """This machine has no toolchain to prove with."""
    monkeypatch.setattr(prove, "installed", lambda: None)


@pytest.mark.parametrize(
    ("gpu", "native"),
    [
        ("jetson-nano", {"float16"}),
        ("jetson-tx2", {"float16"}),
        ("gtx-1080", {"int8"}),
        ("jetson-xavier-nx", {"float16", "int8"}),
        ("t4", {"float16", "int8"}),
        ("jetson-orin-nano", {"float16", "int8", "bfloat16"}),
        ("rtx-3090", {"float16", "int8", "bfloat16"}),
        ("rtx-4090", {"float16", "int8", "bfloat16", "float8"}),
        ("jetson-agx-thor", {"float16", "int8", "bfloat16", "float8"}),
    ],
)
def test_precisions_of_a_gpu_are_known_before_export(gpu: str, native: set[str]) -> None:
    asked = ("float16", "bfloat16", "float8", "int8")
    found = find_gpu(gpu)
    assert {name for name in asked if found.native(name)} == native
    for name in asked:
        assert (found.why_not(name) == "") == (name in native)
    step = make("tensorrt", gpu=gpu)
    assert bool(step.schemes(local_device())) == ("int8" in native)
    told = step.precisions(local_device())
    assert {name for name, why in told.items() if not why} == (native - {"float8"}) | {"float32"}


def test_int8_on_a_jetson_nano_is_explained_by_name(tmp_path: Path, nothing_installed: None) -> None:
    why = "jetson-nano (sm_53) has no fast int8: TensorRT would compute in float16"
    step = make("tensorrt", gpu="jetson-nano")
    assert step.precisions(local_device())["int8"] == why
    assert step.refuses(ir.from_proto(quantized_conv(symmetric=True))) == (why,)
    with pytest.raises(StepFailed, match="jetson-nano") as error:
        compiled("tensorrt", quantized_conv(symmetric=True), tmp_path, gpu="jetson-nano")
    assert "fp16" in error.value.hint


def test_gpus_are_found_by_name_and_capability() -> None:
    assert find_gpu("RTX 4090").capability == find_gpu("sm_89").capability == find_gpu("8.9").capability == 89
    assert find_gpu("sm_53").tensorrt == (8, 2)
    assert not find_gpu("").native("bfloat16")
    assert all(30 < gpu.capability < 130 and gpu.memory_gib for gpu in GPUS.values())
    with pytest.raises(ConfigError, match="rtx4090") as error:
        find_gpu("rtx4090")
    assert "rtx-4090" in error.value.hint


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"gpu": "jetson-orin-nano", "dla": 0}, "jetson-orin-nano has no DLA"),
        ({"gpu": "jetson-orin-nx", "dla": 2}, "jetson-orin-nx has 2 DLA cores"),
        ({"gpu": "t4", "sparse": True}, "t4 .* 2:4"),
        ({"gpu": "t4", "precision": "bfloat16"}, "t4 .* no fast bfloat16"),
        ({"precision": "bfloat16"}, "name it in `gpu`"),
        ({"gpu": "rtx-3090", "quantised": "float8"}, "rtx-3090 .* no fast float8"),
        ({"quantised": "float8"}, "name it in `gpu`"),
        ({"quantised": "int4"}, "int4"),
        ({"precision": "float7"}, "float7"),
        ({"batch": 0}, "batch"),
    ],
)
def test_what_a_gpu_lacks_is_refused_by_name(
    fields: dict[str, Any], message: str, tmp_path: Path, nothing_installed: None
) -> None:
    with pytest.raises(ConfigError, match=message) as error:
        compiled("tensorrt", conv_bn_relu(), tmp_path, **fields)
    assert error.value.hint


def test_profiles_are_fixed_unless_ranges_are_given() -> None:
    image = TensorSpec("x", "float32", ("batch", 3, "height", 8))
    token = TensorSpec("t", "int64", ("batch", 4))
    ranges = {"x": {"min": [1, 3, 8, 8], "opt": [1, 3, 16, 8], "max": [4, 3, 32, 8]}}
    assert profile_of([token], {}, 2) == {"t": ((2, 4),) * 3}
    assert profile_of([TensorSpec("f", "float32", (1, 4))], {}, 2) == {}
    assert profile_of([image, token], ranges, 1)["x"] == ((1, 3, 8, 8), (1, 3, 16, 8), (4, 3, 32, 8))
    wrong = [
        ({}, 'free axis "height"'),
        ({"z": ranges["x"]}, 'no input "z"'),
        ({"x": {"min": [1, 3, 8, 8]}}, "min, opt and max"),
        ({"x": {**ranges["x"], "max": [4, 5, 32, 8]}}, "does not fit"),
        ({"x": {**ranges["x"], "max": [4, 3, 32]}}, "does not fit"),
        ({"x": {**ranges["x"], "max": [4, 3, 9, 8]}}, "must grow"),
    ]
    for asked, message in wrong:
        with pytest.raises(ConfigError, match=message) as error:
            profile_of([image], asked, 1)
        assert error.value.hint


def test_the_line_for_trtexec_says_what_the_script_does() -> None:
    shapes = {"x": ((1, 3), (2, 3), (4, 3)), "m": ((1, 5),) * 3}
    new = trtexec(Recipe("strong", sparse=True, profile=shapes, workspace_mib=64), find_gpu("rtx-4090"))
    assert new == (
        "trtexec --onnx=model.onnx --saveEngine=model.engine --timingCacheFile=timing.cache --skipInference "
        "--stronglyTyped --sparsity=enable --minShapes=x:1x3,m:1x5 --optShapes=x:2x3,m:1x5 --maxShapes=x:4x3,m:1x5 "
        "--memPoolSize=workspace:64 --profilingVerbosity=detailed"
    )
    dla = trtexec(Recipe("flags", ("fp16", "int8"), dla_core=1, ranges={"x": 1.0}), find_gpu("jetson-orin-nx"))
    assert "--fp16 --int8 --useDLACore=1 --allowGPUFallback --calib=int8.cache" in dla
    assert "--stronglyTyped" not in dla
    old = trtexec(Recipe("flags", ("fp16",), workspace_mib=64), find_gpu("jetson-nano"))
    assert "--buildOnly --fp16 --workspace=64" in old


def test_calibration_caches_hold_scales_as_big_endian_floats() -> None:
    found = calibration_cache({"x": 127.0, "y": 2.54}, (8, 5))
    assert found.splitlines()[:2] == ["TRT-8500-EntropyCalibration2", "x: 3f800000"]
    assert calibration_cache({}, (10, 3)).startswith("TRT-100300-")


def test_half_precision_keeps_scales_that_it_cannot_hold() -> None:
    """A scale of 3e-5 is subnormal in float16 and would shift integers: it stays float32, between casts."""
    build = Builder(symmetric=True)
    x = build.quantizer("x", 0.03, 0)
    build.add("Conv", [x, build.quantized_weights("w", 8, 4, 3, 3)], "c")
    build.add("Conv", [build.quantizer("c", 3e-5, 0), build.quantized_weights("v", 4, 8, 1, 1)], "y")
    proto = build.model([("x", 1, (1, 4, 8, 8))], [("y", 1, (1, 4, 6, 6))], {})
    found = typed(infer_shapes(ir.from_proto(proto)), "float16")
    types = {f.tensor.removesuffix("/float16"): f.node.inputs[1].dtype for f in all_quantisers(found.graph)}
    assert types["x"] == types["w"] == ir.DataType.FLOAT16
    scales = {n.name: n.inputs[1].dtype for n in found.graph if n.op_type == "QuantizeLinear"}
    assert scales == {"x_q_node": ir.DataType.FLOAT16, "c_q_node": ir.DataType.FLOAT}
    assert [value.dtype for value in (*found.graph.inputs, *found.graph.outputs)] == [ir.DataType.FLOAT] * 2
    _close(proto, found, 0.05)
    narrow = typed(infer_shapes(ir.from_proto(proto)), "bfloat16")
    assert all(f.node.inputs[1].dtype == ir.DataType.FLOAT for f in all_quantisers(narrow.graph))
    assert any(value.dtype == ir.DataType.BFLOAT16 for node in narrow.graph for value in node.outputs)


def _close(proto: onnx.ModelProto, model: ir.Model, tolerance: float) -> None:
    feed = feed_for(proto)
    want, got = reference(proto, feed), reference(ir.to_proto(model), feed)
    for one, other in zip(want, got, strict=True):
        assert np.abs(other.astype(np.float32) - one).mean() <= tolerance * np.abs(one).mean()


def test_float8_covers_the_ranges_of_the_plan() -> None:
    """Same graph, same ranges: within the three bits of E4M3's mantissa of what int8 gives."""
    proto = quantized_conv(symmetric=True)
    found = typed(infer_shapes(ir.from_proto(proto)), "float32", float8=True)
    assert {f.source.dtype for f in all_quantisers(found.graph) if f.constant} == {ir.DataType.FLOAT8E4M3FN}
    before = {f.node.name: f.scale for f in all_quantisers(ir.from_proto(proto).graph)}
    for after in all_quantisers(found.graph):
        assert after.scale is not None
        np.testing.assert_allclose(after.scale * 448, before[after.node.name] * 127, rtol=1e-6)
    _close(proto, found, 0.15)


@pytest.mark.slow
def test_float8_is_computed_where_the_gpu_has_it(tmp_path: Path, tensorrt_rtx: environments.Environment) -> None:
    fields: dict[str, Any] = {"gpu": "rtx-4090", "quantised": "float8", "strict": True}
    artifact = load_artifact(compiled("tensorrt", quantized_conv(symmetric=True), tmp_path, **fields))
    of = {source: node.precision for node in artifact.placement for source in node.source}
    assert of["c1_node"] == of["c2_node"] == artifact.precision == "float8"
    assert any("float8" in line for line in artifact.unproven)


def test_what_tensorrt_does_not_take_is_named(nothing_installed: None) -> None:
    build = Builder()
    build.add("Conv", [build.quantizer("x", 0.02, 3), build.weights("w", 4, 4, 1, 1)], "c")
    build.add("Unique", ["c"], "y", sorted=1)
    proto = build.model([("x", 1, (1, 4, 2, 2))], [("y", 1, ("n",))], {})
    (reason,) = make("tensorrt").refuses(ir.from_proto(proto))
    assert reason == 'tensor "x": TensorRT quantises symmetrically, its zero point is 3'
    build = Builder()
    build.add("Unique", ["x"], "y", sorted=1)
    (reason,) = make("tensorrt").refuses(ir.from_proto(build.model([("x", 1, (4,))], [("y", 1, ("n",))], {})))
    assert reason == 'node "y_node": TensorRT has no importer for Unique'


def test_integer_biases_become_floats() -> None:
    build = Builder(symmetric=True)
    levels = build.constant("b_levels", np.arange(8, dtype=np.int32))
    bias = build.add("DequantizeLinear", [levels, build.constant("b_scale", np.float32(0.01))], "b")
    build.add("Conv", [build.quantizer("x", 0.03, 0), build.quantized_weights("w", 8, 4, 1, 1), bias], "y")
    proto = build.model([("x", 1, (1, 4, 2, 2))], [("y", 1, (1, 8, 2, 2))], {})
    found = typed(infer_shapes(ir.from_proto(proto)), "float32")
    assert not [f for f in all_quantisers(found.graph) if f.dtype == "int32"]
    _close(proto, found, 1e-6)


def test_ranges_of_a_plan_stand_beside_the_graph_for_dla() -> None:
    model, plan = quantised(make("tensorrt").schemes(local_device())[0])
    scales = {t.tensor: t.scale[0] for t in plan.tensors if t.axis is None and len(t.scale) == 1}
    found, ranges = without_quantisers(model)
    assert not [node for node in found.graph if "Linear" in node.op_type]
    assert ranges
    assert all(ranges[name] == pytest.approx(127 * scales[name]) for name in ranges if name in scales)
    onnx.checker.check_model(ir.to_proto(found), full_check=True)


def test_an_older_tensorrt_gets_flags_and_dla_gets_ranges(tmp_path: Path, nothing_installed: None) -> None:
    nano = compiled("tensorrt", conv_bn_relu(), tmp_path / "nano", anew=True, gpu="jetson-nano", precision="float16")
    told = json.loads((nano / "engine.json").read_text())
    assert (told["typing"], told["flags"]) == ("flags", ["fp16"])
    assert {v.dtype for v in load(nano / "model.onnx").graph.initializers.values()} == {ir.DataType.FLOAT}
    artifact = load_artifact(nano)
    assert any("jetson-nano" in line and "Runner" in line for line in artifact.unproven)
    assert artifact.runtime_range == ">=8.0,<11"
    fields: dict[str, Any] = {"gpu": "jetson-agx-orin", "dla": 1}
    half = tmp_path / "half"
    half.mkdir()
    Fp16().run({"model": tmp_path / "nano" / "model"}, half, QuietContext(tmp_path))
    halved = onnx.load(half / "model.onnx")
    already = compiled("tensorrt", halved, tmp_path / "already", anew=True, gpu="jetson-nano")
    assert json.loads((already / "engine.json").read_text())["flags"] == ["fp16"]
    assert load_artifact(already).precision == "float16"
    dla = compiled("tensorrt", quantized_conv(symmetric=True), tmp_path / "dla", anew=True, **fields)
    told = json.loads((dla / "engine.json").read_text())
    assert (told["flags"], told["dla_core"], told["gpu_fallback"]) == (["fp16", "int8"], 1, True)
    assert set(told["ranges"]) == {"x", "r1", "c2"}
    assert (dla / "int8.cache").is_file()
    assert load_artifact(dla).files == ("model.onnx", "engine.json", "int8.cache")


def test_without_the_toolchain_nothing_is_called_built(tmp_path: Path, nothing_installed: None) -> None:
    artifact = load_artifact(compiled("tensorrt", conv_bn_relu(), tmp_path, anew=True))
    assert not any("built" in line for line in artifact.proof)
    assert any("edgewright toolchain install tensorrt-rtx" in line for line in artifact.unproven)
    assert artifact.placement == ()
    with pytest.raises(StepFailed, match="tensorrt-rtx") as error:
        compiled("tensorrt", conv_bn_relu(), tmp_path / "strict", anew=True, strict=True)
    assert error.value.hint == "edgewright toolchain install tensorrt-rtx"


def test_a_text_that_is_not_an_engine_has_no_kernels() -> None:
    assert kernels(b"") == kernels(b"\x00\xff" * 100) == kernels(b"header {\n  main\n") == ()


@pytest.mark.slow
def test_the_shipped_script_builds_and_explains_itself(tmp_path: Path, tensorrt_rtx: environments.Environment) -> None:
    """The script of the artifact alone, in the toolchain's interpreter, isolated from Edgewright."""
    out = compiled("tensorrt", depthwise(), tmp_path, gpu="rtx-4090")
    command = [str(tensorrt_rtx.interpreter), "-I", str(out / "build_engine.py")]
    done = subprocess.run([*command, "--architecture", "sm_89"], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert (out / "model.sm_89.engine").stat().st_size > 10_000
    done = subprocess.run([*command, "--architecture", "sm_53"], capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "does not build for sm_53" in done.stdout


@pytest.mark.slow
def test_an_artifact_opens_in_the_toolchain_up_to_the_driver(
    tmp_path: Path, tensorrt_rtx: environments.Environment
) -> None:
    """An RTX GPU would run it there; without one the missing driver is what is told, not a missing package."""
    out = compiled("tensorrt", conv_bn_relu(), tmp_path)
    code = "import sys; from pathlib import Path; from edgewright.runtimes import open_runner\n"
    code += "with open_runner(Path(sys.argv[1])): print('opened')"
    script = tmp_path / "opens.py"
    script.write_text(f"import sys; sys.path.insert(0, {str(EXAMPLES.parent / 'src')!r})\n{code}\n")
    done = subprocess.run([tensorrt_rtx.interpreter, "-I", script, out], capture_output=True, text=True, check=False)
    assert "opened" in done.stdout or "no NVIDIA driver here" in done.stderr, done.stderr


@pytest.mark.slow
def test_operators_said_to_be_unknown_are_unknown_to_the_parser(
    tmp_path: Path, tensorrt_rtx: environments.Environment
) -> None:
    for name in sorted(refusal.UNKNOWN)[::6]:
        build = Builder()
        build.add(name, ["x"], "y")
        hub, folder = tmp_path / name, tmp_path / f"{name}-out"
        hub.mkdir()
        onnx.save(build.model([("x", 1, (1, 4))], [("y", 1, (1, 4))], {}), hub / "model.onnx")
        (hub / "engine.json").write_bytes(encode_json(Recipe("strong")))
        folder.mkdir()
        (reason,) = prove.refused(tensorrt_rtx.interpreter, hub)
        assert "y_node" in reason, name
        assert name in reason


@pytest.mark.slow
def test_the_real_parser_is_asked_where_it_is(tensorrt_rtx: environments.Environment) -> None:
    """An operator that it knows, in a form that it does not: the node is named."""
    build = Builder()
    build.add("Relu", ["x"], "r")
    build.add("DepthToSpace", ["r"], "y", blocksize=2)
    proto = build.model([("x", 1, (4, 4, 4))], [("y", 1, (1, 8, 8))], {})
    (reason,) = make("tensorrt").refuses(ir.from_proto(proto))
    assert 'node "y_node"' in reason
    assert "DepthToSpace" in reason


def _module(path: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location(f"network_{path.stem}_{path.parent.name}", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def _exported(network: Any, example: Any, folder: Path) -> onnx.ModelProto:
    import warnings

    import torch

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        program = torch.onnx.export(
            network.eval(), (example,), dynamo=True, opset_version=18, external_data=False, verbose=False
        )
        assert program is not None
        program.save(str(folder / "exported.onnx"))
    return onnx.load(folder / "exported.onnx")


def _fashion(bench: Path, folder: Path) -> onnx.ModelProto:
    import torch

    return _exported(_module(EXAMPLES / "fashion_mnist/network.py").resnet20(), torch.randn(1, 1, 28, 28), folder)


def _transformer(bench: Path, folder: Path) -> onnx.ModelProto:
    import torch

    return _exported(_module(EXAMPLES / "banking77/network.py").classifier(), torch.randint(1, 4000, (1, 48)), folder)


NETWORKS: dict[str, Callable[[Path, Path], onnx.ModelProto]] = {
    "keyword-spotting": lambda bench, folder: onnx.load(bench / "kws/kws01_ref_model_float32.onnx"),
    "fashion-mnist": _fashion,
    "yolox-nano": lambda bench, folder: onnx.load(bench / "yolox_nano/yolox_nano.onnx"),
    "mobilenet-v2": lambda bench, folder: _module(Path(__file__).with_name("_networks.py")).mobilenet_v2(),
    "resnet-50": lambda bench, folder: _module(Path(__file__).with_name("_networks.py")).resnet_50(),
    "transformer": _transformer,
}


@pytest.mark.slow
@pytest.mark.bench
@pytest.mark.parametrize("name", NETWORKS)
def test_networks_build_for_two_architectures(
    name: str, bench: Path, tmp_path: Path, tensorrt_rtx: environments.Environment
) -> None:
    """In float16 and INT8, for Ampere and Ada, and every product runs in the precision that was asked for."""
    clean, halved, whole = tmp_path / "clean", tmp_path / "halved", tmp_path / "quantised"
    for folder in (clean, halved, whole):
        folder.mkdir()
    context = QuietContext(tmp_path / "scratch")
    save(simplify(raise_opset(ir.from_proto(NETWORKS[name](bench, tmp_path)), 18)), clean)
    Fp16().run({"model": clean}, halved, context)
    feed = {key: each[:1] for key, each in feed_for(ir.to_proto(load(clean))).items()}
    statistics = statistics_of(clean, [feed], tmp_path / "statistics")
    StaticInt8("tensorrt-s8s8").run({"model": clean, "statistics": statistics}, whole, context)
    for folder, precision in ((halved, "float16"), (whole, "int8")):
        out = tmp_path / precision
        out.mkdir()
        make("tensorrt", strict=True).run({"model": folder}, out, context)
        artifact = load_artifact(out)
        assert artifact.precision == precision
        assert any(line.startswith("parsed and built") and line.endswith("sm_86 and sm_89") for line in artifact.proof)
        kept = decode_stored(Plan, (whole / "plan.json").read_bytes()).kept_float if precision == "int8" else {}
        assert _products(artifact, folder, set(kept)) == {precision}


def _products(artifact: Artifact, folder: Path, kept: set[str]) -> set[str]:
    """Precisions of everything with weights."""
    of = {source: node.precision for node in artifact.placement for source in node.source}
    heavy = {node.name for node in load(folder).graph if node.op_type in WEIGHTED and node.name not in kept}
    assert heavy <= set(of), "a product is in no kernel"
    return {of[name or ""] for name in heavy}
