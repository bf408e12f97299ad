"""Where an initialiser stands in the tree of a PyTorch module."""

from __future__ import annotations

import re

from torch import Tensor, nn

_PLAIN = re.compile(r"[^.]+(\.[^.]+)*")


def attach(root: nn.Module, name: str, tensor: Tensor, *, trainable: bool) -> str:
    """Registers `tensor` under `root` as parameter or buffer at the path `name`; dots make modules.

    A name that PyTorch cannot hold (an empty part, an attribute of its modules, a parameter that is also a module)
    gets underscores added where it clashes.

    Returns:
        The path, which is `name` itself except in those cases.
    """
    name = name if _PLAIN.fullmatch(name) else re.sub(r"\.(?=\.|$)|^\.", "_", name)
    *parents, leaf = name.split(".")
    module, path = root, []
    for parent in parents:
        part = _free(module, parent, or_folder=True)
        if part not in module._modules:
            module.add_module(part, _Folder())
        module = module.get_submodule(part)
        path.append(part)
    leaf = _free(module, leaf, or_folder=False)
    if trainable:
        module.register_parameter(leaf, nn.Parameter(tensor))
    else:
        module.register_buffer(leaf, tensor)
    return ".".join([*path, leaf])


def tensor_at(root: nn.Module, path: str) -> Tensor:
    """Returns the parameter or buffer at `path`."""
    parents, _, leaf = path.rpartition(".")
    found = getattr(root.get_submodule(parents), leaf)
    assert isinstance(found, Tensor)
    return found


def _free(module: nn.Module, name: str, *, or_folder: bool) -> str:
    while hasattr(module, name) and not (or_folder and isinstance(module._modules.get(name), _Folder)):
        name += "_"
    return name


class _Folder(nn.Module):
    """Holds what stands under one part of a dotted name."""
