"""What PyTorch and ExecuTorch do again and again while they lower, done once, or not where it can find nothing.

None of it changes a program: `tests/targets/test_executorch_shortcuts.py` compares the bytes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any
from weakref import WeakKeyDictionary

from torch import fx

_SEARCHES = (
    ("convert_to_upsample_bilinear2d", "ConvertToUpsampleBilinear2d", "aten.upsample_bilinear2d"),
    ("convert_to_sdpa", "ConvertToSDPAPass", "aten._softmax"),
)
"""Modules and passes of XNNPACK that export networks of their own as patterns, and a word of an operator in them."""


@contextmanager
def shortcuts() -> Iterator[None]:
    """Takes them for as long as it is open."""
    with ExitStack() as stack:
        _shared_sources(stack)
        _operators_once(stack)
        _needed_retraces(stack)
        _needed_searches(stack)
        _parts_once(stack)
        yield


def _shared_sources(stack: ExitStack) -> None:
    """The history of a node is never changed: every pass copies all of it for every node, longer each time."""
    from torch.fx.traceback import NodeSource

    _swap(stack, NodeSource, "__deepcopy__", lambda source, memo: source)


def _operators_once(stack: ExitStack) -> None:
    """Every decomposition looks up all registered operators once per namespace; needed when there are new ones."""
    import torch
    from torch._export import utils

    plain = utils._materialize_cpp_cia_ops
    seen: list[list[str]] = []

    def once() -> None:
        found = torch._C._dispatch_get_registrations_for_dispatch_key("CompositeImplicitAutograd")
        if seen != [found]:
            plain()
            seen[:] = [found]

    _swap(stack, utils, "_materialize_cpp_cia_ops", once)


def _needed_retraces(stack: ExitStack) -> None:
    """Most passes change nothing, and interpret the whole graph again in the end all the same."""
    from executorch.exir.pass_base import ExportPass, _ExportPassBase
    from torch.fx.passes.infra.pass_base import PassResult

    plain = _ExportPassBase.call
    traced: WeakKeyDictionary[fx.Graph, object] = WeakKeyDictionary()

    def call(self: Any, module: fx.GraphModule) -> Any:
        if _only_retraces(type(self), ExportPass) and traced.get(module.graph) == _state(module.graph):
            return PassResult(module, True)
        result = plain(self, module)
        made = result.graph_module.graph
        traced[made] = _state(made)
        return result

    _swap(stack, _ExportPassBase, "call", call)


def _only_retraces(kind: type, base: type) -> bool:
    """Says whether a pass, but for what it does in `call` before, only interprets."""
    hooks = (name for name in dir(base) if name.startswith("call_") or name in ("placeholder", "output", "inputs"))
    return all(getattr(kind, name) is getattr(base, name) for name in hooks)


def _state(graph: fx.Graph) -> object:
    """Returns what tells whether a graph was changed: nodes, what they call and read, what they are said to give."""
    return [(id(n), n.name, n.target, str(n.args), str(n.kwargs), id(n.meta.get("val"))) for n in graph.nodes]


def _needed_searches(stack: ExitStack) -> None:
    from importlib import import_module

    for module, name, word in _SEARCHES:
        kind = getattr(import_module(f"executorch.backends.xnnpack._passes.{module}"), name)
        _swap(stack, kind, "call", _only_with(word, kind))


def _parts_once(stack: ExitStack) -> None:
    """Every pass over a graph with delegated parts unpacks each part into a module before it is interpreted."""
    from importlib import import_module

    from torch.utils import _pytree as pytree

    calls = import_module("torch._higher_order_ops.executorch_call_delegate")  # the package's name is the operator
    unpacked: WeakKeyDictionary[Any, fx.GraphModule] = WeakKeyDictionary()
    plain: dict[Any, type] = {
        fx.immutable_collections.immutable_dict: dict,
        fx.immutable_collections.immutable_list: list,
    }

    def call(part: Any, *given: Any) -> Any:
        if part not in unpacked:
            unpacked[part] = part.original_module.module()
        kinds = tuple(plain)
        return unpacked[part](
            *pytree.tree_map_only(kinds, lambda a: plain[type(a)](a), given, lambda a: isinstance(a, kinds))
        )

    _swap(stack, calls, "call_delegate_cpu", call)


def _only_with(word: str, kind: Any) -> Callable[[Any, fx.GraphModule], Any]:
    """Returns the method of a pass that searches only where an operator called `word` is, and else just retraces."""
    search, retrace = kind.call, super(kind, kind).call

    def call(self: Any, module: fx.GraphModule) -> Any:
        called = any(word in str(node.target) for node in module.graph.nodes if node.op == "call_function")
        return (search if called else retrace)(self, module)

    return call


def _swap(stack: ExitStack, owner: Any, name: str, value: Any) -> None:
    own = vars(owner).get(name)
    stack.callback(setattr, owner, name, own) if own is not None else stack.callback(delattr, owner, name)
    setattr(owner, name, value)
