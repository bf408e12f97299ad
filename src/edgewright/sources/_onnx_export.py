"""What sources share that export PyTorch programs to ONNX."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from edgewright.errors import ToolchainMissing

if TYPE_CHECKING:
    import onnx_ir
    import torch

    from edgewright.sources._verify import Evaluate


def need_onnxscript() -> None:
    """Checks that the exporter is complete.

    Raises:
        ToolchainMissing: onnxscript is not installed.
    """
    try:
        import onnxscript  # noqa: F401
    except ImportError as error:
        raise ToolchainMissing("exporting needs onnxscript", hint='pip install "edgewright[build]"') from error


def fold(model: onnx_ir.Model) -> onnx_ir.Model:
    """Folds the exporter's shape arithmetic; batch norm is no constant and stays."""
    from onnxscript import optimizer

    optimizer.fold_constants(model)
    optimizer.remove_unused_nodes(model)
    return model


@contextmanager
def quiet() -> Iterator[None]:
    """Keeps the exporter's remarks about its own internals from the user."""
    logger = logging.getLogger("torch.onnx")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(level)


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


def cause(error: BaseException) -> str:
    """Returns the error under the exporter's, in one line."""
    while error.__cause__ is not None:
        error = error.__cause__
    return f"{type(error).__name__}: {' '.join(str(error).split())[:600]}"
