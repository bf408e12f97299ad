"""Bias correction: means come back, scales stay, and a stopped run goes on."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
import pytest
from numpy.typing import NDArray

from edgewright.core.codec import decode_stored
from edgewright.core.recipe import StepSpec
from edgewright.core.target import Plan
from edgewright.engine import registry
from edgewright.errors import ConfigError
from edgewright.graph.bias import responses
from edgewright.graph.channels import gather_channels, with_channels
from edgewright.graph.load import load, save
from edgewright.graph.pieces import Pieces
from edgewright.graph.placement import WEIGHTED
from edgewright.graph.quantisers import behind
from edgewright.graph.shapes import infer_shapes
from edgewright.passes._infer import open_infer
from edgewright.testing.passes import SCHEME, data_of, statistics_of

RNG = np.random.default_rng(7)
COARSE = {**SCHEME, "weight_bits": 4, "weight_per_channel": False, "name": "coarse"}


class Stop(Exception):
    """The machine is switched off."""


@dataclasses.dataclass
class Work:
    scratch: Path
    seed: int = 0
    layers: int = 10**6

    def progress(self, fraction: float, note: str = "") -> None:
        self.layers -= bool(note)
        if not self.layers:
            raise Stop


def network() -> ir.Model:
    """Two convolutions, one depthwise, one without a bias, and a Gemm; inputs with a mean far from zero."""
    text = """<ir_version: 8, opset_import: ["": 17]> g (float[1,3,8,8] x) => (float[1,4] y) {
        c0 = Conv<pads = [1, 1, 1, 1]>(x, w0, b0)
        r0 = Relu(c0)
        c1 = Conv<group = 6>(r0, w1)
        r1 = Relu(c1)
        m = GlobalAveragePool(r1)
        f = Flatten(m)
        y = Gemm<transB = 1>(f, w2, b2)
    }"""
    proto = onnx.parser.parse_model(text)
    shapes = {"w0": (6, 3, 3, 3), "b0": (6,), "w1": (6, 1, 3, 3), "w2": (4, 6), "b2": (4,)}
    arrays = {name: (RNG.standard_normal(shape) * 0.5).astype(np.float32) for name, shape in shapes.items()}
    proto.graph.initializer.extend(onnx.numpy_helper.from_array(value, name) for name, value in arrays.items())
    return infer_shapes(ir.from_proto(proto))


def feeds(count: int) -> list[dict[str, NDArray[np.float32]]]:
    rng = np.random.default_rng(8)
    return [{"x": (rng.random((1, 3, 8, 8)) * 2).astype(np.float32)} for _ in range(count)]


@dataclasses.dataclass
class Made:
    """A float model, its quantised form and its data, on disk."""

    folder: Path

    def __post_init__(self) -> None:
        self.float = self.folder / "float"
        save(network(), self.float)
        self.data = data_of(self.float, feeds(24), self.folder / "data")
        statistics = statistics_of(self.float, feeds(24), self.folder / "statistics")
        self.model = self.step("static-int8", {"scheme": COARSE}, model=self.float, statistics=statistics)

    def step(self, name: str, config: Any, stop: int = 10**6, scratch: str = "", **inputs: Path) -> Path:
        out = self.folder / f"out{len(list(self.folder.glob('out*')))}"
        work = self.folder / (scratch or f"scratch-{out.name}")
        for folder in (out, work):
            folder.mkdir(exist_ok=True)
        registry.make("passes", StepSpec(name, config)).run(inputs, out, Work(work, layers=stop))
        return out

    def correct(self, method: str, **more: Any) -> Path:
        config = {"method": method}
        return self.step("bias-correction", config, model=self.model, float=self.float, data=self.data, **more)

    def drift(self, folder: Path) -> dict[str, float]:
        """Largest difference of the mean of a channel from the float model, by tensor."""
        axes = {"c0": 1, "c1": 1, "y": 1}
        batches = [(1, feed) for feed in feeds(24)]
        quantised = infer_shapes(load(folder))
        names = {v.name for n in quantised.graph for v in n.outputs}
        raw = {f"{name}/float" if f"{name}/float" in names else name: axis for name, axis in axes.items()}
        got = gather_channels(open_infer(with_channels(quantised, raw), fuse=False), batches)
        want = gather_channels(open_infer(with_channels(infer_shapes(load(self.float)), axes)), batches)
        return {name: float(np.abs(got[key].mean - want[name].mean).max()) for name, key in zip(axes, raw, strict=True)}


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Made:
    return Made(tmp_path_factory.mktemp("bias"))


def test_full_correction_brings_every_mean_back(made: Made) -> None:
    out = made.correct("full")
    before, after = made.drift(made.model), made.drift(out)
    notes = json.loads((out / "bias-correction.json").read_bytes())
    assert len(notes["largest_shift"]) == 3
    assert max(notes["largest_shift"].values()) > 0.01
    assert not notes["left_alone"]
    assert min(before.values()) > 0.01
    assert max(after.values()) < 1e-3


def test_fast_correction_brings_most_of_it_back(made: Made) -> None:
    before, after = made.drift(made.model), made.drift(made.correct("fast"))
    assert sum(after.values()) < 0.5 * sum(before.values())


def test_biases_stay_integers_on_their_scale_and_the_plan_lists_new_ones(made: Made) -> None:
    out = made.correct("full")
    onnx.checker.check_model(str(out / "model.onnx"), full_check=True)
    layers = [n for n in load(out).graph if n.op_type in WEIGHTED]
    for node in layers:
        data, weights, bias = (behind(node.inputs[i]) for i in range(3))
        assert data is not None
        assert weights is not None
        assert bias is not None
        assert bias.dtype == "int32"
        np.testing.assert_array_equal(bias.scale, np.float32(data.scale) * weights.scale)
    plan = decode_stored(Plan, (out / "plan.json").read_bytes())
    given = decode_stored(Plan, (made.model / "plan.json").read_bytes())
    (added,) = plan.tensors[len(given.tensors) :]
    assert added.reason.startswith("made by bias correction")
    assert added.dtype == "int32"
    assert len(added.scale) == len(added.zero_point)


def test_a_stopped_run_goes_on_and_ends_the_same(made: Made) -> None:
    whole = made.correct("full")
    with pytest.raises(Stop):
        made.correct("full", stop=2, scratch="kept")
    lines = (made.folder / "kept" / "shifts.jsonl").read_text().splitlines()
    assert len(lines) == 2
    (made.folder / "kept" / "shifts.jsonl").write_text("\n".join([*lines, '["torn']))
    again = made.correct("full", scratch="kept")
    assert (again / "model.onnx").read_bytes() == (whole / "model.onnx").read_bytes()
    assert len((made.folder / "kept" / "shifts.jsonl").read_text().splitlines()) == 3


def test_it_refuses_what_it_cannot_correct(made: Made) -> None:
    with pytest.raises(ConfigError, match="static-int8"):
        made.step("bias-correction", {}, model=made.float, float=made.float, data=made.data)
    with pytest.raises(ConfigError, match="no float model"):
        made.step("bias-correction", {}, model=made.model, float=made.model, data=made.data)
    with pytest.raises(ConfigError, match="fast"):
        made.correct("best")


@pytest.mark.parametrize(
    "call", ["Conv<group = 2>(x, w)", "Conv<group = 4>(x, w)", "ConvTranspose<group = 2, strides = [1, 1]>(x, w)"]
)
def test_responses_to_constant_channels_are_those_of_the_operator(call: str) -> None:
    """Inner positions only: borders see padding."""
    shape = (4, 1, 3, 3) if "group = 4" in call else (4, 2, 3, 3) if "Transpose" not in call else (4, 3, 3, 3)
    weights = RNG.standard_normal(shape).astype(np.float32)
    proto = onnx.parser.parse_model(
        f'<ir_version: 8, opset_import: ["": 17]> g (float[1,4,9,9] x) => (float[1,n,h,w2] y) {{ y = {call} }}'
    )
    proto.graph.initializer.append(onnx.numpy_helper.from_array(weights, "w"))
    model = ir.from_proto(proto)
    means = RNG.standard_normal(4)
    x = np.broadcast_to(means.astype(np.float32)[None, :, None, None], (1, 4, 9, 9))
    y = open_infer(model)({"x": np.ascontiguousarray(x)})["y"]
    middle = y.shape[2] // 2
    np.testing.assert_allclose(
        responses(model.graph[0], weights.astype(np.float64), means), y[0, :, middle, middle], rtol=1e-4, atol=1e-5
    )


def test_pieces_give_what_the_whole_gives(made: Made, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("edgewright.graph.pieces.MEMORY_BYTES", 3000)
    model = infer_shapes(load(made.model))
    batches = [(1, feed) for feed in feeds(5)]
    pieces = Pieces(model, lambda piece: open_infer(piece, fuse=False), batches, tmp_path)
    whole = gather_channels(open_infer(with_channels(model, {"c0": 1, "c1": 1}), fuse=False), batches)
    for node in [n for n in model.graph if n.op_type == "Conv"]:
        pieces.advance(node)
        value = node.outputs[0]
        np.testing.assert_allclose(pieces.mean(value, 1), whole[value.name or ""].mean, rtol=1e-5, atol=1e-6)
    assert not list(tmp_path.iterdir())
