"""More networks, by both of PyTorch's exporters: the same outputs as ONNX Runtime, and gradients everywhere."""

from __future__ import annotations

import io
import warnings
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
import onnxruntime
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from edgewright.graph.bridge import fuse, to_torch, write_back
from edgewright.graph.bridge.operators.shape import shape

TOLERANCE = 1e-4


class UNet(nn.Module):
    """Skip connections over transposed convolutions, group norm, SiLU, and instance norm at the top."""

    def __init__(self) -> None:
        super().__init__()
        self.down = nn.ModuleList([nn.Conv2d(2, 8, 3, 1, 1), nn.Conv2d(8, 16, 3, 2, 1)])
        self.norms = nn.ModuleList([nn.InstanceNorm2d(8, affine=True), nn.GroupNorm(4, 16)])
        self.up, self.mix = nn.ConvTranspose2d(16, 8, 2, 2), nn.Conv2d(16, 3, 3, 1, 1)

    def forward(self, x: Tensor) -> Tensor:
        first = F.silu(self.norms[0](self.down[0](x)))
        deep = F.silu(self.norms[1](self.down[1](first)))
        return self.mix(torch.cat([self.up(deep), first], 1)).sigmoid()


def generator() -> nn.Module:
    """From noise to pictures: transposed convolutions with output padding, batch norm, tanh."""
    return nn.Sequential(
        nn.Unflatten(1, (8, 2, 2)), nn.ConvTranspose2d(8, 8, 4, 2, 1), nn.BatchNorm2d(8), nn.LeakyReLU(0.2),
        nn.ConvTranspose2d(8, 4, 3, 2, 1, output_padding=1), nn.PReLU(4), nn.Conv2d(4, 3, 3, 1, 1), nn.Tanh(),
    )  # fmt: skip


class ConvNext(nn.Module):
    """Depthwise 7x7, layer norm over channels last, GELU, global response norm, layer scale."""

    def __init__(self, size: int = 8) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, size, 2, 2)
        self.depthwise = nn.Conv2d(size, size, 7, padding=3, groups=size)
        self.norm, self.up, self.down = nn.LayerNorm(size), nn.Linear(size, 4 * size), nn.Linear(4 * size, size)
        self.gain, self.shift = nn.Parameter(torch.randn(4 * size)), nn.Parameter(torch.randn(4 * size))
        self.scale = nn.Parameter(torch.full((size,), 0.5))

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        y = F.gelu(self.up(self.norm(self.depthwise(x).permute(0, 2, 3, 1))))
        response = y.norm(p=2, dim=(1, 2), keepdim=True)
        y = self.gain * (y * (response / (response.mean(-1, keepdim=True) + 1e-6))) + self.shift + y
        return (x + (self.scale * self.down(y)).permute(0, 3, 1, 2)).mean((2, 3))


class Windows(nn.Module):
    """Swin: shifted windows, relative positions, a mask between windows."""

    def __init__(self, size: int = 8, window: int = 2, heads: int = 2) -> None:
        super().__init__()
        self.window, self.heads = window, heads
        self.qkv, self.out = nn.Linear(size, 3 * size), nn.Linear(size, size)
        self.positions = nn.Parameter(torch.randn((2 * window - 1) ** 2, heads))
        grid = torch.stack(torch.meshgrid(torch.arange(window), torch.arange(window), indexing="ij")).flatten(1)
        apart = (grid[:, :, None] - grid[:, None]).permute(1, 2, 0) + window - 1
        self.register_buffer("index", apart[..., 0] * (2 * window - 1) + apart[..., 1])

    def forward(self, x: Tensor) -> Tensor:
        b, h, w, c = x.shape
        side = self.window
        y = torch.roll(x, (-1, -1), (1, 2)).view(b, h // side, side, w // side, side, c)
        y = y.permute(0, 1, 3, 2, 4, 5).reshape(-1, side * side, c)
        q, k, v = self.qkv(y).reshape(-1, side * side, 3, self.heads, c // self.heads).permute(2, 0, 3, 1, 4)
        bias = self.positions[self.index.view(-1)].view(side * side, side * side, -1).permute(2, 0, 1)
        shares = (q * (c // self.heads) ** -0.5 @ k.transpose(-2, -1) + bias[None]).softmax(-1)
        y = self.out((shares @ v).transpose(1, 2).reshape(-1, side * side, c))
        y = y.view(-1, h // side, w // side, side, side, c).permute(0, 1, 3, 2, 4, 5).reshape(-1, h, w, c)
        return x + torch.roll(y, (1, 1), (1, 2))


class Vit(nn.Module):
    """Patches, a class token, PyTorch's own multi-head attention, and einsum for the head."""

    def __init__(self, size: int = 16) -> None:
        super().__init__()
        self.patches = nn.Conv2d(3, size, 4, 4)
        self.token, self.places = nn.Parameter(torch.randn(1, 1, size)), nn.Parameter(torch.randn(1, 17, size))
        self.attention = nn.MultiheadAttention(size, 2, batch_first=True)
        self.norm, self.head = nn.LayerNorm(size), nn.Parameter(torch.randn(5, size))

    def forward(self, x: Tensor) -> Tensor:
        y = self.patches(x).flatten(2).transpose(1, 2)
        y = torch.cat([self.token.expand(x.shape[0], -1, -1), y], 1) + self.places
        mixed, _ = self.attention(self.norm(y), self.norm(y), self.norm(y), need_weights=False)
        return torch.einsum("bc,kc->bk", (y + mixed)[:, 0], self.head)


class Recurrent(nn.Module):
    """Two layers in both directions, a state that is given, and a plain RNN."""

    def __init__(self) -> None:
        super().__init__()
        self.lstm = nn.LSTM(4, 5, num_layers=2, bidirectional=True, batch_first=True)
        self.gru = nn.GRU(10, 6, batch_first=True)
        self.rnn = nn.RNN(6, 3, batch_first=True, nonlinearity="relu")

    def forward(self, x: Tensor) -> Tensor:
        y, (h, _) = self.lstm(x)
        y, _ = self.gru(y, h[-1:].repeat(1, 1, 2)[..., :6].contiguous())
        return self.rnn(y)[0]


class Tied(nn.Module):
    """A language model whose head is its embedding."""

    def __init__(self) -> None:
        super().__init__()
        self.table = nn.Embedding(20, 8)
        self.mix = nn.Linear(8, 8)

    def forward(self, tokens: Tensor) -> Tensor:
        heads = self.mix(self.table(tokens)).unflatten(-1, (2, 4)).transpose(1, 2)
        mixed = F.scaled_dot_product_attention(heads, heads, heads, is_causal=True)
        return mixed.transpose(1, 2).flatten(-2) @ self.table.weight.T


ZOO: dict[str, tuple[Callable[[], nn.Module], tuple[int, ...]]] = {
    "unet": (UNet, (2, 2, 8, 8)),
    "generator": (generator, (2, 32)),
    "convnext": (ConvNext, (2, 3, 16, 16)),
    "windows": (Windows, (2, 4, 4, 8)),
    "vit": (Vit, (2, 3, 16, 16)),
    "recurrent": (Recurrent, (2, 7, 4)),
    "tied": (Tied, (2, 6)),
}


@pytest.fixture(autouse=True)
def _open_layers() -> Iterator[None]:
    torch.backends.mha.set_fastpath_enabled(False)
    yield
    torch.backends.mha.set_fastpath_enabled(True)


def exported(name: str, *, dynamo: bool) -> tuple[onnx.ModelProto, Tensor]:
    torch.manual_seed(0)
    make, sizes = ZOO[name]
    x = torch.randint(0, 20, sizes) if name == "tied" else torch.randn(sizes)
    out = io.BytesIO()
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")
        if dynamo:
            axes = ({0: torch.export.Dim("batch")},)
            program = torch.onnx.export(make().eval(), (x,), dynamo=True, dynamic_shapes=axes, input_names=["x"],
                                        verbose=False)  # fmt: skip
            return program.model_proto, x
        torch.onnx.export(make().eval(), (x,), out, dynamo=False, input_names=["x"], opset_version=17,
                          dynamic_axes={"x": {0: "batch"}})  # fmt: skip
    return onnx.load_from_string(out.getvalue()), x


def reference(proto: onnx.ModelProto, x: Tensor) -> np.ndarray[Any, Any]:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = 4
    session = onnxruntime.InferenceSession(proto.SerializeToString(), options, providers=["CPUExecutionProvider"])
    found: np.ndarray[Any, Any] = session.run(None, {"x": x.numpy()})[0]
    return found


CASES = [
    pytest.param(name, dynamo, marks=pytest.mark.prove if dynamo else pytest.mark.slow,
                 id=f"{name}-{'dynamo' if dynamo else 'trace'}")
    for name in ZOO for dynamo in (False, True)
]  # fmt: skip


@pytest.mark.parametrize(("name", "dynamo"), CASES)
def test_there_and_back(name: str, dynamo: bool) -> None:
    """Converted, trained by one step on another batch size, written back: both agree with ONNX Runtime."""
    proto, x = exported(name, dynamo=dynamo)
    model = ir.from_proto(proto)
    module = to_torch(model)
    before = reference(proto, x)
    assert distance(module(x)[0].detach().numpy(), before) <= TOLERANCE
    fuse(module)
    assert distance(module(x)[0].detach().numpy(), before) <= TOLERANCE
    assert distance(module(x[:1])[0].detach().numpy(), reference(proto, x[:1])) <= TOLERANCE
    module(torch.cat([x, x, x]))[0].square().mean().backward()
    dead = [name for name, p in module.named_parameters() if p.grad is None]
    assert dead == [], "a gradient reaches every parameter"
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.sub_(0.05 * parameter.grad.sign())
    assert set(write_back(module, model)) <= set(module.meta["initialisers"])
    after = reference(ir.to_proto(model), x)
    assert distance(module(x)[0].detach().numpy(), after) <= TOLERANCE
    assert distance(after, before) > 10 * TOLERANCE
    if not any(node.target is shape for node in module.graph.nodes):
        assert module.to("meta")(x.to("meta"))[0].shape == before.shape, "nothing is left behind on the processor"


@pytest.mark.slow
def test_tied_weights_stay_one_initialiser() -> None:
    proto, _ = exported("tied", dynamo=False)
    module = to_torch(ir.from_proto(proto))
    assert [tuple(p.shape) for p in module.parameters()].count((20, 8)) == 1


def distance(found: np.ndarray[Any, Any], expected: np.ndarray[Any, Any]) -> float:
    assert found.shape == expected.shape
    return float(np.abs(found - expected).max() / np.abs(expected).max())
