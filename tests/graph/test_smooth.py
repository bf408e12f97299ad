"""SmoothQuant: the same float function, less error in 8 bits, and what it must leave alone."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
import pytest
from numpy.typing import NDArray

from edgewright.core.recipe import StepSpec
from edgewright.engine import registry
from edgewright.errors import ConfigError
from edgewright.graph.load import load, save
from edgewright.graph.shapes import infer_shapes
from edgewright.graph.smooth import find_groups
from edgewright.passes._infer import open_infer
from edgewright.testing.passes import SCHEME, data_of, statistics_of

NORM = {
    "fused": "n = LayerNormalization(x, gamma, beta)",
    "decomposed": """
        mean = ReduceMean<axes = [-1]>(x)
        d = Sub(x, mean)
        v = Mul(d, d)
        variance = ReduceMean<axes = [-1]>(v)
        e = Add(variance, epsilon)
        root = Sqrt(e)
        z = Div(d, root)
        scaled = Mul(z, gamma)
        n = Add(scaled, beta)""",
}
TAIL = """
        q = MatMul(n, wq)
        k = MatMul(n, wk)
        t = Transpose<perm = [0, 2, 1]>(k)
        a = MatMul(q, t)
        s = Softmax(a)
        m = MatMul(s, x)
        h = MatMul(m, w0)
        b = Add(h, b0)
        r = Relu(b)
        y = MatMul(r, w1)"""


class Work:
    scratch = Path()
    seed = 0

    def progress(self, fraction: float, note: str = "") -> None:
        assert 0 <= fraction <= 1


def block(norm: str, extra: str = "") -> ir.Model:
    """Layer norm with outlier channels > queries and keys > softmax > linear > ReLU > linear."""
    head = '<ir_version: 8, opset_import: ["": 17]> g (float[1,6,16] x) => (float[1,6,4] y)'
    proto = onnx.parser.parse_model(f"{head} {{{NORM[norm]}{TAIL}{extra} }}")
    rng = np.random.default_rng(0)
    gamma = np.ones(16)
    gamma[[3, 11]] = 60
    shapes = {"wq": (16, 8), "wk": (16, 8), "w0": (16, 24), "b0": (24,), "w1": (24, 4)}
    arrays: dict[str, Any] = {name: rng.standard_normal(shape) * 0.2 for name, shape in shapes.items()}
    arrays |= {"gamma": gamma, "beta": rng.standard_normal(16) * 0.1, "epsilon": np.float32(1e-5)}
    for name in ("wq", "wk"):
        arrays[name][[3, 11]] *= 0.02
    for name, value in arrays.items():
        proto.graph.initializer.append(onnx.numpy_helper.from_array(np.asarray(value, np.float32), name))
    return infer_shapes(ir.from_proto(proto))


def feeds(count: int, seed: int = 1) -> list[dict[str, NDArray[np.float32]]]:
    rng = np.random.default_rng(seed)
    return [{"x": rng.standard_normal((1, 6, 16)).astype(np.float32)} for _ in range(count)]


def smoothed(model: ir.Model, folder: Path, **config: Any) -> Path:
    save(model, folder / "float")
    data = data_of(folder / "float", feeds(8), folder / "data")
    out = folder / "smooth"
    out.mkdir()
    registry.make("passes", StepSpec("smooth", config)).run({"model": folder / "float", "data": data}, out, Work())
    return out


def outputs(model: ir.Model, seed: int) -> NDArray[Any]:
    infer = open_infer(model, fuse=False)
    return np.concatenate([infer(feed)["y"] for feed in feeds(20, seed)])


def int8_error(folder: Path, work: Path) -> float:
    out = work / f"int8-{folder.name}"
    out.mkdir()
    statistics = statistics_of(folder, feeds(8), work / f"statistics-{folder.name}")
    scheme = {**SCHEME, "weight_bits": 8, "quantized": ["MatMul"], "outputs": []}
    step = registry.make("passes", StepSpec("static-int8", {"scheme": scheme}))
    step.run({"model": folder, "statistics": statistics}, out, Work())
    return float(np.mean((outputs(load(out), 1) - outputs(load(folder), 1)) ** 2))


@pytest.mark.sample(5)
@pytest.mark.parametrize("norm", ["fused", "decomposed"])
@pytest.mark.parametrize("alpha", [0.5, "auto"])
def test_the_float_function_stays_and_8_bits_lose_less(norm: str, alpha: Any, tmp_path: Path) -> None:
    model = block(norm)
    out = smoothed(model, tmp_path, alpha=alpha)
    before, after = outputs(model, 2), outputs(load(out), 2)
    assert np.abs(before - after).max() <= 2e-5 * np.abs(before).max()
    assert int8_error(out, tmp_path) < 0.5 * int8_error(tmp_path / "float", tmp_path)
    notes = json.loads((out / "smooth.json").read_bytes())
    assert set(notes["smoothed"]) == {"n", "r"}
    assert notes["left_alone"] == {"m": "it comes from MatMul, which does not scale"}


def test_a_residual_that_reads_the_norm_is_left_alone() -> None:
    groups, left = find_groups(block("fused", "\n        z0 = Add(n, x)").graph)
    assert [group.tensor for group in groups] == ["r"]
    assert left["n"] == "Add reads it too"


def test_auto_smooths_nothing_where_it_would_not_help(tmp_path: Path) -> None:
    model = block("fused")
    for name in ("wq", "wk", "w1"):
        value = model.graph.initializers[name]
        value.const_value = ir.tensor(
            np.tile(np.eye(2, dtype=np.float32), (12, 12))[: value.shape[0], : value.shape[1]]
        )  # type: ignore[index]
    model.graph.initializers["gamma"].const_value = ir.tensor(np.full(16, 0.5, np.float32))
    model.graph.initializers["beta"].const_value = ir.tensor(np.zeros(16, np.float32))
    notes = json.loads((smoothed(model, tmp_path) / "smooth.json").read_bytes())["smoothed"]
    for note in notes.values():
        assert (note["alpha"] is None) == (min(note["relative_errors"].values()) >= 1)


def test_alpha_must_be_a_share(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="0 to 1"):
        smoothed(block("fused"), tmp_path, alpha=1.5)
