"""Layers of a pruned model solved anew by least squares, so that they give what they gave before channels went.

He et al. 2017, "Channel pruning for accelerating very deep neural networks": layer after layer, each on what the
layers before it give in the pruned model, each towards the channels that are left of the original's layer. No
gradients, one pass over some samples.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, fx

from edgewright.graph.bridge.operators.convolution import conv
from edgewright.graph.bridge.operators.linear import gemm, matmul
from edgewright.graph.bridge.operators.windows import Window, outer_end, pad_spatial, window

ROWS = 16384
"""Positions per layer that the solution rests on."""
HELD_OUT = 4
"""Every fourth position decides whether the solution is kept."""


@dataclass(frozen=True, slots=True, eq=False)
class Layer:
    """One operator with stored weights of the converted student.

    Attributes:
        tensor: Name of what it gives.
        weight: Its weights as [groups, outputs per group, inputs per group and tap].
        kept: Which outputs of the teacher's layer are left.
        groups: Of a convolution; 1 otherwise.
    """

    tensor: str
    weight: Tensor
    kept: NDArray[np.int64]
    groups: int


Progress = Callable[[float, str], None]


@torch.no_grad()
def reconstruct(
    student: fx.GraphModule,
    teacher: fx.GraphModule,
    samples: Sequence[Tensor],
    *,
    ridge: float,
    seed: int,
    progress: Progress,
) -> dict[str, float]:
    """Solves the layers of `student` anew, in place.

    Args:
        student: A converted model whose weights are slices of the teacher's.
        teacher: The converted model that it was made of; tensors have the same names.
        samples: One tensor per input of the model.
        ridge: Pulls each layer towards the weights it has, relative to the mean square of its inputs.
        seed: Draws the positions that are looked at.
        progress: Told of the share done.

    Returns:
        Name of each changed layer's output -> squared error on other positions, relative to that before.
    """
    layers = {layer.tensor: layer for layer in _layers(student, teacher)}
    generator = torch.Generator().manual_seed(seed)
    places = _Places(len(samples[0]), generator)
    wanted = _Recorder(teacher, layers, places).answers(samples)
    return _Solver(student, layers, places, wanted, ridge, progress).solve(samples)


class _Places:
    """Random positions of outputs, the same for the student's and the teacher's tensor of one name."""

    def __init__(self, samples: int, generator: torch.Generator) -> None:
        self.samples, self.generator = samples, generator
        self._drawn: dict[str, tuple[Tensor, ...]] = {}

    def of(self, tensor: str, sizes: Sequence[int]) -> tuple[Tensor, ...]:
        """Returns the sample and the position along each further axis, ROWS of each at most."""
        if tensor not in self._drawn:
            whole = [self.samples, *sizes]
            count = min(ROWS, int(np.prod(whole)))
            flat = torch.randint(int(np.prod(whole)), (count,), generator=self.generator)
            self._drawn[tensor] = torch.unravel_index(flat, whole)
        return self._drawn[tensor]


class _Recorder(fx.Interpreter):
    """Notes what the teacher's layers give at the drawn positions; samples go through in small groups."""

    def __init__(self, module: fx.GraphModule, layers: Mapping[str, Layer], places: _Places) -> None:
        super().__init__(module)
        self.layers, self.places = layers, places
        self.found: dict[str, Tensor] = {}
        self.first = 0

    def answers(self, samples: Sequence[Tensor]) -> dict[str, Tensor]:
        for first in range(0, len(samples[0]), 8):
            self.first = first
            self.run(*(tensor[first : first + 8] for tensor in samples))
        return self.found

    def run_node(self, n: fx.Node) -> Any:
        made = super().run_node(n)
        layer = self.layers.get(n.meta.get("tensor", ""))
        if layer is not None:
            self._note(layer, made if n.target is conv else made.movedim(-1, 1))
        return made

    def _note(self, layer: Layer, made: Tensor) -> None:
        sample, *position = self.places.of(layer.tensor, made.shape[2:])
        here = (sample >= self.first) & (sample < self.first + len(made))
        rows = self.found.setdefault(layer.tensor, torch.empty(len(sample), len(layer.kept)))
        channels = torch.from_numpy(layer.kept)
        index: tuple[Any, ...] = (sample[here] - self.first, slice(None), *(p[here] for p in position))
        picked = made[index]
        rows[here] = picked[:, channels]


class _Solver(fx.Interpreter):
    """Runs the student node by node over all samples; a layer is solved before it runs."""

    def __init__(
        self,
        module: fx.GraphModule,
        layers: Mapping[str, Layer],
        places: _Places,
        wanted: Mapping[str, Tensor],
        ridge: float,
        progress: Progress,
    ) -> None:
        super().__init__(module)
        self.layers, self.places, self.wanted = layers, places, wanted
        self.ridge, self.progress = ridge, progress
        self.errors: dict[str, float] = {}

    def solve(self, samples: Sequence[Tensor]) -> dict[str, float]:
        self.run(*samples)
        return self.errors

    def run_node(self, n: fx.Node) -> Any:
        layer = self.layers.get(n.meta.get("tensor", ""))
        if layer is not None:
            args, kwargs = self.fetch_args_kwargs_from_env(n)
            self._solve(layer, n, args, kwargs)
            self.progress(len(self.errors) / len(self.layers), f"layer {len(self.errors)} of {len(self.layers)}")
        return super().run_node(n)

    def _solve(self, layer: Layer, node: fx.Node, args: Sequence[Any], kwargs: Mapping[str, Any]) -> None:
        x, weight = args[0], args[1]
        bias = args[2] if len(args) > 2 else None
        if node.target is conv:
            sizes = _output_sizes(x, weight, kwargs)
            rows = _patches(x, weight, kwargs, self.places.of(layer.tensor, sizes))
        else:
            sample, *position = self.places.of(layer.tensor, x.shape[1:-1])
            index = (sample, *position)
            rows = x[index]
        solution = _solved(rows, self.wanted[layer.tensor], layer, bias, self.ridge)
        self.errors[layer.tensor] = solution.error
        if solution.error < 1:
            _stored(node, weight, kwargs, solution.weight, layer)
            if bias is not None and solution.bias is not None:
                bias.copy_(solution.bias)


@dataclass(frozen=True, slots=True, eq=False)
class _Solution:
    """Of one layer: weights as `Layer.weight`, a bias, and the error left on positions held out."""

    weight: Tensor
    bias: Tensor | None
    error: float


def _solved(rows: Tensor, wanted: Tensor, layer: Layer, bias: Tensor | None, ridge: float) -> _Solution:
    """Solves for the change of weights and bias that brings the layer closest to what is wanted."""
    groups, outputs, inputs = layer.weight.shape
    x = rows.reshape(len(rows), groups, inputs).permute(1, 0, 2).double()
    if bias is not None:
        x = torch.cat([x, torch.ones(groups, len(rows), 1, dtype=x.dtype)], 2)
    y = wanted.reshape(len(rows), groups, outputs).permute(1, 0, 2).double()
    before = layer.weight.double()
    if bias is not None:
        before = torch.cat([before, bias.double().reshape(groups, outputs, 1)], 2)
    missing = y - x @ before.mT
    held = torch.arange(len(rows)) % HELD_OUT == 0
    known, gap = x[:, ~held], missing[:, ~held]
    square = known.mT @ known
    scale = square.diagonal(dim1=1, dim2=2).mean(1).clamp(min=1e-12)
    square = square + torch.eye(x.shape[2], dtype=x.dtype) * (ridge * scale)[:, None, None]
    change = torch.linalg.solve(square, known.mT @ gap).mT
    left = (missing[:, held] - x[:, held] @ change.mT).square().sum()
    had = missing[:, held].square().sum()
    error = float(left / had) if float(had) > 1e-12 * float(y.square().sum()) else 1.0
    found = (before + change).float()
    if bias is None:
        return _Solution(found, None, error)
    return _Solution(found[:, :, :-1], found[:, :, -1].reshape(bias.shape), error)


def _stored(node: fx.Node, weight: Tensor, kwargs: Mapping[str, Any], found: Tensor, layer: Layer) -> None:
    if node.target is conv:
        weight.copy_(found.reshape(weight.shape))
    elif node.target is gemm and kwargs.get("transB"):
        weight.copy_(found[0])
    else:
        weight.copy_(found[0].T)


def _patches(x: Tensor, weight: Tensor, kwargs: Mapping[str, Any], places: Sequence[Tensor]) -> Tensor:
    """Returns what a convolution sees at the drawn positions, [rows, channels * taps]."""
    shape = _window(x, weight, kwargs)
    padded = pad_spatial(x, shape.begin, outer_end(shape))
    sample, *position = places
    rank = len(position)
    index: list[Any] = [sample.reshape(-1, *[1] * rank), slice(None)]
    for axis, place in enumerate(position):
        taps = torch.arange(shape.kernel[axis]) * shape.dilations[axis]
        along = place[:, None] * shape.strides[axis] + taps
        index.append(along.reshape(len(place), *[-1 if other == axis else 1 for other in range(rank)]))
    seen = padded[tuple(index)]  # [rows, taps..., channels]: the slice goes last between index arrays
    return seen.movedim(-1, 1).flatten(1)


def _output_sizes(x: Tensor, weight: Tensor, kwargs: Mapping[str, Any]) -> list[int]:
    shape = _window(x, weight, kwargs)
    ends = outer_end(shape)
    return [
        (size + begin + end - dilation * (kernel - 1) - 1) // stride + 1
        for size, begin, end, dilation, kernel, stride in zip(
            x.shape[2:], shape.begin, ends, shape.dilations, shape.kernel, shape.strides, strict=True
        )
    ]


def _window(x: Tensor, weight: Tensor, kwargs: Mapping[str, Any]) -> Window:
    named = ("strides", "dilations", "pads", "auto_pad")
    given = {name: kwargs[name] for name in named if kwargs.get(name) is not None}
    return window(x, kwargs.get("kernel_shape") or weight.shape[2:], **given)


def _layers(student: fx.GraphModule, teacher: fx.GraphModule) -> Iterator[Layer]:
    """Yields the layers of the student that have a twin in the teacher whose outputs include theirs."""
    twins = {node.meta.get("tensor"): node for node in teacher.graph.nodes if _weighted(node)}
    for node in student.graph.nodes:
        twin = twins.get(node.meta.get("tensor")) if _weighted(node) else None
        if twin is None or twin.target is not node.target:
            continue
        ours, theirs = (_matrix(module, n) for module, n in ((student, node), (teacher, twin)))
        kept = _subset(ours.flatten(0, 1).numpy(), theirs.flatten(0, 1).numpy())
        if kept is not None:
            yield Layer(node.meta["tensor"], ours, kept, _groups(node))


_USUAL = {"transA": 0, "alpha": 1.0, "beta": 1.0}


def _weighted(node: fx.Node) -> bool:
    if node.op != "call_function" or node.target not in (conv, gemm, matmul):
        return False
    stored = [isinstance(a, fx.Node) and a.op == "get_attr" for a in node.args[1:]]
    plain = all(node.kwargs.get(name, usual) == usual for name, usual in _USUAL.items())
    moving = isinstance(node.args[0], fx.Node) and node.args[0].op != "get_attr"
    return all((stored, all(stored), plain, moving))


def _matrix(module: fx.GraphModule, node: fx.Node) -> Tensor:
    """Returns a layer's weights as [groups, outputs per group, inputs per group and tap]."""
    weight: Tensor = _attribute(module, node.args[1]).detach()
    if node.target is conv:
        groups = _groups(node)
        return weight.reshape(groups, len(weight) // groups, -1).clone()
    if weight.dim() != 2:
        return weight.new_zeros(1, 0, 1)
    return (weight if node.kwargs.get("transB") else weight.T)[None].clone()


def _groups(node: fx.Node) -> int:
    groups = node.kwargs.get("group", 1)
    assert isinstance(groups, int)
    return groups


def _attribute(module: fx.GraphModule, node: Any) -> Tensor:
    found: Any = module
    for part in str(node.target).split("."):
        found = getattr(found, part)
    assert isinstance(found, Tensor)
    return found


def _subset(ours: NDArray[Any], theirs: NDArray[Any]) -> NDArray[np.int64] | None:
    """Returns, for each of our rows, the row of theirs that it was cut from, in order; None where one has none."""
    found: list[int] = []
    for row in ours:
        start = found[-1] + 1 if found else 0
        match = next((i for i in range(start, len(theirs)) if _within(row, theirs[i])), None)
        if match is None:
            return None
        found.append(match)
    return np.array(found, np.int64) if found else None


def _within(row: NDArray[Any], whole: NDArray[Any]) -> bool:
    """Tells whether the numbers of `row` occur in `whole` in this order."""
    if len(row) == len(whole):
        return bool(np.array_equal(row, whole))
    position = 0
    for value in row:
        later = np.flatnonzero(whole[position:] == value)
        if not len(later):
            return False
        position += int(later[0]) + 1
    return True
