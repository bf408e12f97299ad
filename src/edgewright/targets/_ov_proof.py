"""Runs a model in OpenVINO and reads off its runtime graph what each node really is."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from edgewright.core.target import NodePlacement, RunOptions
from edgewright.errors import EdgewrightError, StepFailed
from edgewright.runtimes.openvino import StableNames, compile_options, executed
from edgewright.targets._feed import Feed
from edgewright.targets._hub import Hub
from edgewright.targets._intent import QUANTIZERS
from edgewright.targets._trace import spread

RUNS = 4
_NAMES = {"f32": "float32", "f16": "float16", "bf16": "bfloat16", "f64": "float64"}
_NARROW = frozenset({"i8", "u8", "i4", "u4"})
_CONVERSIONS = frozenset({"FakeQuantize", "Convert"})
_MOVES = frozenset(
    {
        "Reorder",
        "Transpose",
        "Reshape",
        "Concatenation",
        "Split",
        "Pooling",
        "Gather",
        "StridedSlice",
        "Pad",
        "Broadcast",
    }
)
_NOT_NODES = frozenset({"Const", "Input", "Output"})


def prove(
    openvino: Any, file: Path, hub: Hub, entries: Mapping[str, str], tries: Iterator[Feed]
) -> list[NodePlacement]:
    """Returns every node of the compiled graph that is not a constant, an input or an output.

    Args:
        openvino: The module.
        file: The IR that ships.
        hub: The same model, to name sources.
        entries: Properties of the artifact.
        tries: Inputs to run it with; the next one is used when OpenVINO refuses one.

    Raises:
        StepFailed: It cannot be compiled or run.
    """
    try:
        core = openvino.Core()
        options = compile_options(entries, RunOptions(threads=1, profile=True))
        model = core.read_model(file)
        compiled = core.compile_model(model, "CPU", options)
    except RuntimeError as error:
        raise StepFailed(
            f"OpenVINO {openvino.__version__} cannot compile the model: {error}",
            hint="`edgewright inspect` lists the operators it does not take; clean up or re-export the model",
        ) from error
    request = compiled.create_infer_request()
    _run(request, hub, tries)
    stable = StableNames(model)
    times = {name: micros for name, _, micros in executed(request, stable)}
    return _placement(compiled.get_runtime_model().get_ordered_ops(), times, _Names(hub, stable))


def _run(request: Any, hub: Hub, tries: Iterator[Feed]) -> None:
    last: Exception | None = None
    while (feed := next(tries, None)) is not None:
        try:
            for _ in range(RUNS):
                request.infer([feed[spec.name] for spec in hub.inputs])
            return
        except EdgewrightError:
            raise
        except RuntimeError as error:
            last = error
    raise StepFailed(
        f"OpenVINO cannot run the model: {last}",
        hint="give the project data whose shapes and dtypes fit the model, or fix its dynamic axes",
    ) from last


class _Names:
    """Resolves OpenVINO's names: it keeps the names of ONNX nodes, or of what they write, and adds to them."""

    def __init__(self, hub: Hub, stable: StableNames) -> None:
        self.stable = stable
        self.model = hub.model
        self.quantizers = {node.name or "" for node in hub.model.graph if node.op_type in QUANTIZERS}
        self._order = {node.name or "": index for index, node in enumerate(hub.model.graph)}
        self._producer = {value.name or "": node.name or "" for node in hub.model.graph for value in node.outputs}

    def sources(self, listed: str) -> tuple[str, ...]:
        """Returns the ONNX nodes behind a comma-separated list of layer names, in graph order."""
        return self.ordered({name for layer in listed.split(",") for name in self._one(layer)})

    def ordered(self, nodes: set[str]) -> tuple[str, ...]:
        """Returns `nodes` in graph order."""
        return tuple(sorted(nodes, key=self._order.__getitem__))

    def _one(self, layer: str) -> Iterator[str]:
        for name in (layer, layer.removesuffix("_original"), layer.rpartition("/")[0]):
            if name in self._order:
                yield name
                return
            if name in self._producer:
                yield self._producer[name]
                return
        copied = layer.rpartition("_")[0]
        if copied in self.quantizers:
            yield copied


def _placement(ops: list[Any], times: Mapping[str, float], names: _Names) -> list[NodePlacement]:
    constant: set[str] = set()
    found = []
    for op in ops:
        if _is_constant(op, constant):
            constant.add(op.get_friendly_name())
        elif _text(op.get_rt_info(), "layerType") not in _NOT_NODES:
            found.append(_node(op, names, times))
    return _traced(names, found)


def _is_constant(op: Any, constant: set[str]) -> bool:
    """Returns whether `op` depends on constants only: its work is done while compiling."""
    sources = [port.get_source_output().get_node().get_friendly_name() for port in op.inputs()]
    return _text(op.get_rt_info(), "layerType") == "Const" or (bool(sources) and constant.issuperset(sources))


def _traced(names: _Names, found: list[NodePlacement]) -> list[NodePlacement]:
    """Adds the nodes that OpenVINO no longer lists, such as a convolution whose batch norm it folded."""
    owner = spread(names.model, {source: node.node for node in reversed(found) for source in node.source})
    lost: dict[str, list[str]] = {}
    for source, node in owner.items():
        lost.setdefault(node, []).append(source)
    return [replace(node, source=names.ordered({*node.source, *lost.get(node.node, ())})) for node in found]


def _node(op: Any, names: _Names, times: Mapping[str, float]) -> NodePlacement:
    info, name = op.get_rt_info(), names.stable(op.get_friendly_name())
    kind, kernel = _text(info, "layerType"), _text(info, "primitiveType")
    source = names.sources(f"{_text(info, 'originalLayersNames')},{op.get_friendly_name()}")
    converts = bool(source) and names.quantizers.issuperset(source)
    return NodePlacement(
        node=name,
        op=f"{kind} {kernel}",
        where="CPU",
        precision="conversion" if converts else precision_of(kind, kernel, _text(info, "runtimePrecision")),
        source=source,
        share=round(times.get(name, 0.0) / (sum(times.values()) or 1.0), 4),
        note="" if name in times else "needs no work at run time",
    )


def _text(info: Any, key: str) -> str:
    value = info[key] if key in info else ""  # noqa: SIM401 - OpenVINO's map has no get()
    return value if isinstance(value, str) else str(getattr(value, "value", value))


def precision_of(kind: str, kernel: str, runtime: str) -> str:
    """Maps OpenVINO's layer type, kernel name and runtime precision onto ours.

    A kernel's suffix tells the type of its first input, the runtime precision the widest type of all: integer
    weights that are widened for a float kernel differ in the two, and so do integer masks of float values.
    """
    if kind in _CONVERSIONS:
        return "conversion"
    suffix = kernel.rpartition("_")[2].lower()
    if runtime in _NARROW and suffix in _NAMES:
        return _NAMES[suffix]
    if runtime in _NAMES:
        return _NAMES[runtime]
    return "int8" if runtime in _NARROW and kind not in _MOVES else "integer"
