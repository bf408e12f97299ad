"""The user's `module:function` that builds a PyTorch module, and its checkpoint."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgewright.errors import SourceError, StepFailed, ToolchainMissing

if TYPE_CHECKING:
    import torch

_WRAPPERS = ("state_dict", "model_state_dict", "model", "net")
_PLAIN_HINT = "save only the weights: `torch.save(model.state_dict(), ...)` or `safetensors.torch.save_file(...)`"


def build_module(factory: str, code: Path | None, seed: int) -> torch.nn.Module:
    """Calls the factory and returns its module in evaluation mode.

    Args:
        factory: `module:function`, called without arguments.
        code: Folder that the module is looked up in first; None for installed modules only.
        seed: Set before the call, so that fresh weights are the same every time.

    Raises:
        ToolchainMissing: PyTorch is not installed.
        SourceError: There is no such function, or it gives no `torch.nn.Module`.
        StepFailed: Importing or calling it raised.
    """
    try:
        import torch
    except ImportError as error:
        raise ToolchainMissing("a PyTorch model needs torch", hint='pip install "edgewright[torch]"') from error
    with _first_on_path(code):
        function = _find(factory, code)
        torch.manual_seed(seed)
        try:
            module = function()
        except Exception as error:
            raise StepFailed(
                f"{factory}() raised {type(error).__name__}: {error}",
                hint="the factory is called without arguments and must work on the CPU",
            ) from error
    if not isinstance(module, torch.nn.Module):
        raise SourceError(
            f"{factory}() returned a {type(module).__name__}, a torch.nn.Module is expected",
            hint="return the model itself from the factory",
        )
    return module.cpu().eval()


def load_checkpoint(module: torch.nn.Module, checkpoint: Path) -> None:
    """Loads weights into `module`; nothing in the file is executed.

    Args:
        module: Changed in place.
        checkpoint: `.safetensors`, or a state dict written by `torch.save`.

    Raises:
        SourceError: No such file, it needs pickle to be read, or its names and shapes do not fit the module.
    """
    if not checkpoint.is_file():
        raise SourceError(f"{checkpoint}: no such checkpoint", hint="check the path")
    state = _read_safetensors(checkpoint) if checkpoint.suffix == ".safetensors" else _read_state_dict(checkpoint)
    try:
        module.load_state_dict(_unwrap(state, checkpoint), strict=True)
    except RuntimeError as error:
        text = " ".join(str(error).split())[:600]
        raise SourceError(
            f"{checkpoint}: does not fit the module: {text}", hint="use the checkpoint and the factory of one model"
        ) from error


def _find(factory: str, code: Path | None) -> Callable[[], Any]:
    name, separator, attribute = factory.partition(":")
    if not separator or not name or not attribute:
        raise SourceError(f'factory "{factory}" is not of the form module:function', hint='e.g. "models.net:create"')
    try:
        module = importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name is None or not (name == error.name or name.startswith(f"{error.name}.")):
            raise StepFailed(
                f"importing {name}: {error}", hint=f"install {error.name}, which {name} imports"
            ) from error
        raise SourceError(f'no module "{name}" in {code or "the environment"}', hint="check the name") from error
    except Exception as error:
        raise StepFailed(
            f"importing {name} raised {type(error).__name__}: {error}", hint="correct the module"
        ) from error
    function = getattr(module, attribute, None)
    if not callable(function):
        raise SourceError(f'module "{name}" has no function "{attribute}"', hint="check the name after the colon")
    return function  # type: ignore[no-any-return]


@contextmanager
def _first_on_path(code: Path | None) -> Iterator[None]:
    if code is None:
        yield
        return
    entry = str(code.resolve())
    sys.path.insert(0, entry)
    importlib.invalidate_caches()
    try:
        yield
    finally:
        sys.path.remove(entry)


def _read_safetensors(path: Path) -> Mapping[str, Any]:
    try:
        from safetensors import SafetensorError
        from safetensors.torch import load_file
    except ImportError as error:
        raise ToolchainMissing(f"{path} needs safetensors", hint='pip install "edgewright[torch]"') from error
    try:
        return dict(load_file(path, device="cpu"))
    except (SafetensorError, OSError) as error:
        raise SourceError(f"{path}: not a complete safetensors file: {error}", hint="write or copy it again") from error


def _read_state_dict(path: Path) -> Mapping[str, Any]:
    import pickle  # only for the name of its error; nothing is unpickled here

    import torch

    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise SourceError(
            f"{path}: holds more than weights, and reading that would run code from the file", hint=_PLAIN_HINT
        ) from error
    except (RuntimeError, EOFError, OSError, ValueError) as error:
        raise SourceError(f"{path}: not a complete checkpoint: {error}", hint=_PLAIN_HINT) from error
    if not isinstance(state, Mapping):
        raise SourceError(f"{path}: holds a {type(state).__name__}, a state dict is expected", hint=_PLAIN_HINT)
    return state


def _unwrap(state: Mapping[str, Any], path: Path) -> Mapping[str, Any]:
    for key in _WRAPPERS:
        if isinstance(state.get(key), Mapping):
            return _unwrap(state[key], path)
    if not all(isinstance(key, str) for key in state):
        raise SourceError(f"{path}: not a state dict, its keys are no names", hint=_PLAIN_HINT)
    if state and all(key.startswith("module.") for key in state):  # written by DistributedDataParallel
        return {key[len("module.") :]: value for key, value in state.items()}
    return state
