"""Time per operator of a .tflite file: each operator in an interpreter of its own, fed with what the others computed.

LiteRT's Python interface has no profiler, and its delegate runs many operators as one. An operator alone is computed by
the same kernel of the same delegate; what is left out is what the delegate saves by joining operators, and what is
added is about a microsecond of calling it.
"""

from __future__ import annotations

import copy
import statistics
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from numpy.typing import NDArray

from edgewright.core.target import OperatorTime
from edgewright.runtimes._require import require


@dataclass(slots=True)
class _Part:
    """One operator in its own interpreter."""

    node: str
    op: str
    interpreter: Any
    takes: tuple[int, ...]
    gives: tuple[int, ...]
    microseconds: list[float] = field(default_factory=list)

    def run(self, values: dict[int, NDArray[Any]]) -> None:
        self.interpreter.reset_all_variables()
        details = self.interpreter.get_input_details()
        for number, detail in zip(self.takes, details, strict=True):
            self.interpreter.set_tensor(detail["index"], values[number])
        start = time.perf_counter()
        self.interpreter.invoke()
        self.microseconds.append((time.perf_counter() - start) * 1e6)
        for number, detail in zip(self.gives, self.interpreter.get_output_details(), strict=True):
            values[number] = self.interpreter.get_tensor(detail["index"])


class Apart:
    """All operators of the main graph of a file, one by one.

    Args:
        content: The file.
        settings: Of each interpreter.
        opened: Opens another interpreter than LiteRT's, with the methods used of it here.

    Raises:
        ToolchainMissing: LiteRT or flatbuffers is not installed.
    """

    def __init__(
        self, content: bytes, settings: Mapping[str, Any], opened: Callable[[bytes], Any] | None = None
    ) -> None:
        self._cutter = _Cutter(content)
        self._settings = settings
        self._opened = opened or self._litert
        self._parts = [self._open(number) for number in self._cutter.numbers()]

    def run(self, inputs: Sequence[NDArray[Any]]) -> None:
        """Runs every operator once.

        Args:
            inputs: In the order of the file, in the file's form.
        """
        values = dict(zip(self._cutter.inputs, inputs, strict=True))
        for part in self._parts:
            part.run(values)

    def times(self) -> tuple[OperatorTime, ...]:
        """Returns the median over the runs so far, in the file's order."""
        return tuple(
            OperatorTime(p.node, p.op, statistics.median(p.microseconds)) for p in self._parts if p.microseconds
        )

    def _open(self, number: int) -> _Part:
        content, takes, gives = self._cutter.cut(number)
        return _Part(self._cutter.node(number), self._cutter.op(number), self._opened(content), takes, gives)

    def _litert(self, content: bytes) -> Any:
        module = require("ai_edge_litert.interpreter", "litert")
        interpreter = module.Interpreter(model_content=content, **self._settings)
        interpreter.allocate_tensors()
        return interpreter


def node_name(operator: int, op: str, output: str) -> str:
    """Returns how an operator of a file is called: what it writes, or its number where it writes nothing."""
    return output or f"{op} {operator}"


class _Cutter:
    """Makes files of one operator; operators that unpack constants go with those that read them."""

    def __init__(self, content: bytes) -> None:
        self._schema = require("ai_edge_litert.schema_py_generated", "litert")
        self._flatbuffers = require("flatbuffers", "litert")
        self._model = self._schema.ModelT.InitFromPackedBuf(content, 0)
        self._graph = self._model.subgraphs[0]
        self.inputs = tuple(int(n) for n in self._graph.inputs)
        codes = self._schema.BuiltinOperator
        self._names = {value: name for name, value in vars(codes).items() if isinstance(value, int)}
        self._unpacks = {int(o.outputs[0]): i for i, o in enumerate(self._graph.operators) if self._unpacking(o)}

    def numbers(self) -> Iterator[int]:
        """Yields the operators that do work on every run."""
        idle = set(self._unpacks.values())
        yield from (i for i in range(len(self._graph.operators)) if i not in idle)

    def op(self, number: int) -> str:
        """Returns the name of an operator in the schema."""
        return self._kind(self._graph.operators[number])

    def node(self, number: int) -> str:
        """Returns the name of a node, see `node_name`."""
        outputs = self._graph.operators[number].outputs
        name = self._graph.tensors[int(outputs[0])].name.decode() if len(outputs) else ""
        return node_name(number, self.op(number), name)

    def cut(self, number: int) -> tuple[bytes, tuple[int, ...], tuple[int, ...]]:
        """Returns a file of one operator, the tensors it takes and those it gives."""
        chosen = self._graph.operators[number]
        read = [int(n) for n in chosen.inputs if n >= 0]
        before = [self._graph.operators[self._unpacks[n]] for n in dict.fromkeys(read) if n in self._unpacks]
        takes = tuple(n for n in dict.fromkeys(read) if n not in self._unpacks and self._computed(n))
        gives = tuple(int(n) for n in chosen.outputs)
        return self._packed([*before, chosen], takes, gives), takes, gives

    def _packed(self, operators: Sequence[Any], takes: Sequence[int], gives: Sequence[int]) -> bytes:
        used = {int(n) for op in operators for n in (*op.inputs, *op.outputs) if n >= 0}
        order = {n: i for i, n in enumerate(sorted(used))}
        model, graph = copy.copy(self._model), copy.copy(self._graph)
        model.signatureDefs, model.metadata = [], []
        kept = None if len(self._model.subgraphs) > 1 else [self._schema.BufferT()]
        graph.tensors = [self._tensor(n, kept) for n in sorted(used)]
        graph.operators = [self._operator(op, order) for op in operators]
        graph.inputs, graph.outputs = [order[n] for n in takes], [order[n] for n in gives]
        model.subgraphs = [graph, *self._model.subgraphs[1:]]
        model.buffers = self._model.buffers if kept is None else kept
        builder = self._flatbuffers.Builder(4096)
        builder.Finish(model.Pack(builder), file_identifier=b"TFL3")
        return bytes(builder.Output())

    def _tensor(self, number: int, kept: list[Any] | None) -> Any:
        found = copy.copy(self._graph.tensors[number])
        data = self._model.buffers[found.buffer].data
        if kept is not None:
            if data is None or len(data) == 0:
                found.buffer = 0
            else:
                kept.append(self._model.buffers[found.buffer])
                found.buffer = len(kept) - 1
        return found

    def _operator(self, operator: Any, order: Mapping[int, int]) -> Any:
        found = copy.copy(operator)
        found.inputs = [order[int(n)] if n >= 0 else -1 for n in operator.inputs]
        found.outputs = [order[int(n)] for n in operator.outputs]
        return found

    def _computed(self, number: int) -> bool:
        tensor = self._graph.tensors[number]
        data = self._model.buffers[tensor.buffer].data
        return (
            not tensor.isVariable
            and (data is None or len(data) == 0)
            and 0 not in (tensor.shape if tensor.shape is not None else ())
        )

    def _unpacking(self, operator: Any) -> bool:
        return self._kind(operator) in ("DEQUANTIZE", "DENSIFY") and not self._computed(int(operator.inputs[0]))

    def _kind(self, operator: Any) -> str:
        code = self._model.operatorCodes[operator.opcodeIndex]
        return str(self._names[max(int(code.builtinCode), int(code.deprecatedBuiltinCode))])
