"""A PyTorch module as what an import is compared with."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch

    from edgewright.sources._verify import Evaluate


def eager(module: torch.nn.Module, inputs: list[str], outputs: list[str]) -> Evaluate:
    """Returns what runs a module on arrays by name."""
    import torch
    from torch.utils._pytree import tree_leaves

    leaves: Callable[[Any], list[Any]] = tree_leaves

    def evaluate(feed: Mapping[str, Any]) -> Mapping[str, Any]:
        with torch.inference_mode():
            results = leaves(module(*(torch.from_numpy(feed[name]) for name in inputs)))
        return dict(zip(outputs, (result.numpy() for result in results), strict=True))

    return evaluate
