"""Source `torch`."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from edgewright.core.tensors import TensorSpec
from edgewright.errors import ConfigError, SourceError, StepFailed
from edgewright.graph.load import load
from edgewright.sources.torch import TorchSource
from edgewright.training.factory import build_module, load_checkpoint

torch = pytest.importorskip("torch")

Run = Callable[..., tuple[Path, dict[str, Any]]]
IMAGE = TensorSpec("image", "float32", ("batch", 3, 16, 16))

NET = """
import torch
from torch import nn

class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.body = nn.Sequential(nn.Conv2d(3, 8, 3, 2, 1, bias=False), nn.BatchNorm2d(8), nn.ReLU6())
        self.head = nn.Linear(8, 5)
        self.body[1].running_mean += 0.1

    def forward(self, x):
        return self.head(self.body(x).mean((2, 3)))

class Two(nn.Module):
    def forward(self, tokens, mask):
        return {"sum": (tokens * mask).sum(1).float(), "count": mask.sum(1)}

class Fixed(nn.Module):
    def forward(self, x):
        return x + 1 if x.shape[0] == 2 else x - 1

def create(): return Net()
def two(): return Two()
def fixed(): return Fixed()
def raises(): raise ValueError("no weights today")
def wrong(): return 3
"""


@pytest.fixture
def code(tmp_path: Path, request: pytest.FixtureRequest) -> tuple[Path, str]:
    """The folder, and the name of the module in it: one per test, since Python keeps imported modules."""
    folder, name = tmp_path / "code", f"net_{abs(hash(request.node.name))}"
    folder.mkdir()
    (folder / f"{name}.py").write_text(NET)
    return folder, name


@pytest.mark.slow
def test_export_keeps_batch_norm_names_and_a_dynamic_batch(code: tuple[Path, str], run_source: Run) -> None:
    folder, name = code
    out, record = run_source(TorchSource(f"{name}:create", (IMAGE,), ("scores",), samples=2), code=folder)
    assert record["inputs"] == [{"name": "image", "dtype": "float32", "shape": ["batch", 3, 16, 16]}]
    assert record["outputs"] == [{"name": "scores", "dtype": "float32", "shape": ["batch", 5]}]
    assert record["snr_db"] is None or record["snr_db"] > 100
    ops = [node.op_type for node in load(out).graph]
    assert ops.count("BatchNormalization") == 1
    assert {path.name for path in out.iterdir()} == {"model.onnx", "import.json"}


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["safetensors", "state", "wrapped", "distributed"])
def test_checkpoint_weights_reach_the_graph(kind: str, code: tuple[Path, str], tmp_path: Path, run_source: Run) -> None:
    folder, name = code
    module = build_module(f"{name}:create", folder, seed=99)
    state = module.state_dict()
    path = tmp_path / ("w.safetensors" if kind == "safetensors" else "w.pt")
    if kind == "safetensors":
        pytest.importorskip("safetensors.torch").save_file(state, path)
    elif kind == "state":
        torch.save(state, path)
    elif kind == "wrapped":
        torch.save({"epoch": 3, "state_dict": state}, path)
    else:
        torch.save({f"module.{key}": value for key, value in state.items()}, path)
    out, _ = run_source(TorchSource(f"{name}:create", (IMAGE,), samples=1), code=folder, checkpoint=path)
    stored = load(out).graph.initializers["head.bias"].const_value
    assert stored is not None
    assert torch.equal(torch.from_numpy(stored.numpy().copy()), state["head.bias"])


@pytest.mark.slow
def test_several_inputs_and_a_mapping_of_outputs(code: tuple[Path, str], run_source: Run) -> None:
    folder, name = code
    specs = (TensorSpec("tokens", "int64", ("batch", "length")), TensorSpec("mask", "int64", ("batch", "length")))
    _, record = run_source(TorchSource(f"{name}:two", specs, ("sum", "count"), samples=2), code=folder)
    assert [spec["name"] for spec in record["inputs"]] == ["tokens", "mask"]
    assert record["inputs"][0]["shape"] == ["batch", "length"]
    assert [spec["dtype"] for spec in record["outputs"]] == ["float32", "int64"]


@pytest.mark.slow
def test_an_axis_that_forward_fixes_is_explained(code: tuple[Path, str], run_source: Run) -> None:
    folder, name = code
    with pytest.raises(StepFailed, match='fixes axis "batch" of input "x" to 2') as caught:
        run_source(TorchSource(f"{name}:fixed", (TensorSpec("x", "float32", ("batch", 4)),)), code=folder)
    assert "size instead of a name" in caught.value.hint


class Harmful:
    def __reduce__(self) -> tuple[Any, tuple[str]]:
        return (pytest.fail, ("the checkpoint was executed",))


def test_a_checkpoint_that_needs_pickle_is_refused_unread(code: tuple[Path, str], tmp_path: Path) -> None:
    folder, name = code
    module = build_module(f"{name}:create", folder, seed=0)
    for content in (Harmful(), module):
        torch.save(content, tmp_path / "w.pt")
        with pytest.raises(SourceError, match="would run code") as caught:
            load_checkpoint(module, tmp_path / "w.pt")
        assert "safetensors" in caught.value.hint


def test_damaged_and_foreign_checkpoints(code: tuple[Path, str], tmp_path: Path) -> None:
    folder, name = code
    module = build_module(f"{name}:create", folder, seed=0)
    torch.save(module.state_dict(), tmp_path / "w.pt")
    whole = (tmp_path / "w.pt").read_bytes()
    for broken in (b"", whole[: len(whole) // 2]):
        (tmp_path / "cut.pt").write_bytes(broken)
        with pytest.raises(SourceError, match=r"cut\.pt"):
            load_checkpoint(module, tmp_path / "cut.pt")
    (tmp_path / "cut.safetensors").write_bytes(b"\x10")
    with pytest.raises(SourceError, match=r"cut\.safetensors"):
        load_checkpoint(module, tmp_path / "cut.safetensors")
    torch.save({"other.weight": torch.zeros(1)}, tmp_path / "other.pt")
    with pytest.raises(SourceError, match=r"does not fit the module.*head\.weight"):
        load_checkpoint(module, tmp_path / "other.pt")
    with pytest.raises(SourceError, match="no such checkpoint"):
        load_checkpoint(module, tmp_path / "none.pt")


@pytest.mark.parametrize(
    ("factory", "kind", "message"),
    [
        ("{}", SourceError, "module:function"),
        ("absent_module:create", SourceError, 'no module "absent_module"'),
        ("{}:absent", SourceError, 'no function "absent"'),
        ("{}:wrong", SourceError, "returned a int"),
        ("{}:raises", StepFailed, "no weights today"),
    ],
)
def test_factories_that_cannot_work(factory: str, kind: type[Exception], message: str, code: tuple[Path, str]) -> None:
    folder, name = code
    with pytest.raises(kind, match=message):
        build_module(factory.format(name), folder, seed=0)


def test_fields_are_checked_before_anything_runs(run_source: Run) -> None:
    with pytest.raises(ConfigError, match="inputs declared"):
        run_source(TorchSource("net:create", ()))
