"""Where a node of the cleaned-up graph comes from: the layer of the network and the line of the user's code."""

from __future__ import annotations

import ast
import re
from collections.abc import Mapping
from dataclasses import dataclass

import onnx_ir as ir

SCOPES = "pkg.torch.onnx.name_scopes"
TRACE = "pkg.torch.onnx.stack_trace"
"""What PyTorch's exporter says of a node."""
_FRAME = re.compile(r'File "([^"]+)", line (\d+), in (\S+)')
_LIBRARY = re.compile(r"[/\\](site-packages|dist-packages)[/\\]|[/\\]torch[/\\]nn[/\\]")
_SEPARATOR = re.compile(r"[/\\]")
_FAR = 64


@dataclass(frozen=True, slots=True)
class Layer:
    """A node, as its author knows it.

    Attributes:
        node: Its name in the cleaned-up graph.
        op: Its operator.
        path: The layer, e.g. `backbone.layer1.0.conv1`; empty where the file does not say.
        line: `file.py:line` of the code that called it; empty where the file does not say.
    """

    node: str
    op: str
    path: str = ""
    line: str = ""

    def __str__(self) -> str:
        return self.path or self.node


@dataclass(frozen=True, slots=True)
class _Origin:
    op: str
    path: str
    line: str
    before: str


class Layers:
    """Finds layers; made from the graph before clean-up, whose notes clean-up drops."""

    def __init__(self, graph: ir.Graph) -> None:
        """Reads the notes of every node of `graph`."""
        self._made: dict[str, _Origin] = {}
        self._named: dict[str, _Origin] = {}
        for node in graph:
            origin = _Origin(node.op_type, _path(node), _line(node.metadata_props), _main_input(node))
            self._named[node.name or ""] = origin
            self._made.update({value.name or "": origin for value in node.outputs})

    def of(self, node: ir.Node) -> Layer:
        """Returns the layer of a node of the cleaned-up graph.

        A node of the same name is the same node. Otherwise it is what made the same tensor, or what stands before that
        and does the same: a convolution that took in the batch norm behind it makes the tensor of the batch norm.
        """
        name = node.name or ""
        found = self._named.get(name)
        if found is None or found.op != node.op_type:
            found = self._behind(node)
        if found is None:
            return Layer(name, node.op_type, _path(node))
        return Layer(name, node.op_type, found.path, found.line)

    def _behind(self, node: ir.Node) -> _Origin | None:
        first = next((self._made[v.name or ""] for v in node.outputs if v.name in self._made), None)
        found = first
        for _ in range(_FAR):
            if found is None or found.op == node.op_type:
                break
            found = self._made.get(found.before)
        return found or first


def _path(node: ir.Node) -> str:
    scopes = node.metadata_props.get(SCOPES)
    if scopes:
        try:
            names = [str(each) for each in ast.literal_eval(scopes)]
        except (ValueError, SyntaxError):
            names = []
        # The last entry names the operation; the one before it is the innermost module.
        return next((each for each in reversed(names[:-1]) if each), "")
    name = node.name or ""
    return ".".join(name.strip("/").split("/")[:-1]) if name.startswith("/") else ""


def _line(notes: Mapping[str, str]) -> str:
    frames = [frame for frame in _FRAME.findall(notes.get(TRACE, "")) if not _LIBRARY.search(frame[0])]
    if not frames:
        return ""
    file, number, _ = frames[-1]
    return f"{_SEPARATOR.split(file)[-1]}:{number}"


def _main_input(node: ir.Node) -> str:
    return next((value.name or "" for value in node.inputs if value is not None and value.const_value is None), "")
