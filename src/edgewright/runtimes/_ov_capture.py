"""Inner tensors of an OpenVINO model, as further outputs of the compiled one.

A quantised tensor is read behind its dequantisation: what follows keeps reading the integers. In a quantised model a
float tensor on its way into a quantiser is not read, since that would keep the runtime from fusing the two.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from edgewright.core.target import Artifact, Runner, RunOptions
from edgewright.core.tensors import TensorSpec
from edgewright.errors import Corrupt
from edgewright.runtimes._open import load_artifact
from edgewright.runtimes._require import require_openvino
from edgewright.runtimes.openvino import OvRunner, compile_options

QUANTISER = "FakeQuantize"
_UNPACKS = frozenset({"Convert", "Subtract", "Multiply"})
_STEPS = 6
"""Longest chain: Convert, Convert, Subtract, Multiply behind a quantiser."""
_SKIPPED = frozenset({"Constant", "Parameter", "Result", QUANTISER, "Convert", "ShapeOf", "Assign", "ReadValue"})


@dataclass(frozen=True, slots=True)
class Port:
    """One tensor.

    Attributes:
        names: Of the tensor.
        node: The node that computes it.
        op: Its operator.
        quantised: (low, high, levels, smallest integer) of the quantiser it is read behind; None for float.
        output: Name of the output that gives its values.
    """

    names: tuple[str, ...]
    node: str
    op: str
    quantised: tuple[float, float, int, int] | None = None
    output: str = ""


@dataclass(frozen=True, slots=True, eq=False)
class Tapped:
    """An opened artifact with its inner tensors as further outputs; all outputs are called by their position.

    Attributes:
        artifact: As it is.
        ports: Its inner tensors.
        runner: Gives them too.
        plain: Gives the artifact's outputs alone: the inner tensors must not change them.
        note: Which kernels no longer run in integers; empty as a rule.
    """

    artifact: Artifact
    ports: tuple[Port, ...]
    runner: Runner
    plain: Runner
    note: str


def open_tapped(path: Path) -> Tapped:
    """Opens an OpenVINO artifact with its inner tensors.

    Raises:
        ToolchainMissing: OpenVINO is not installed.
        Corrupt: It cannot open the artifact.
    """
    artifact = load_artifact(path)
    openvino = require_openvino()
    core = openvino.Core()
    options = compile_options(artifact.session, RunOptions(threads=1))
    try:
        plain = core.compile_model(core.read_model(path / artifact.files[0]), "CPU", options)
        model = core.read_model(path / artifact.files[0])
        found = list(_ports(model))
        model.add_outputs([port for _, port in found])
        compiled = core.compile_model(model, "CPU", options)
    except RuntimeError as error:
        raise Corrupt(
            f"{path}: OpenVINO {openvino.__version__} cannot open it: {error}", hint="compile it again"
        ) from error
    places = {_key(result.input_value(0)): str(n) for n, result in enumerate(model.get_results())}
    ports = tuple(replace(port, output=places[_key(at)]) for port, at in found)
    every = tuple(TensorSpec(str(n), "float32", ()) for n in range(len(places)))
    own = replace(artifact, outputs=every[: len(artifact.outputs)])
    return Tapped(
        artifact,
        ports,
        OvRunner(replace(artifact, outputs=every), compiled, openvino.Tensor, None),
        OvRunner(own, plain, openvino.Tensor, None),
        _changed(plain, compiled),
    )


def _key(port: Any) -> tuple[str, int]:
    return port.get_node().get_friendly_name(), port.get_index()


def _changed(plain: Any, tapped: Any) -> str:
    lost = _integer_kernels(plain) - _integer_kernels(tapped)
    return f"reading inner tensors takes these out of integers: {dict(lost)}" if lost else ""


def _integer_kernels(compiled: Any) -> Counter[str]:
    found: Counter[str] = Counter()
    for op in compiled.get_runtime_model().get_ordered_ops():
        info = op.get_rt_info()
        kernel = str(info["primitiveType"]) if "primitiveType" in info else ""
        if kernel.lower().endswith(("_i8", "_u8")):
            found[str(info["layerType"]) if "layerType" in info else ""] += 1
    found.pop("Reorder", None)
    return found


def _ports(model: Any) -> Iterator[tuple[Port, Any]]:
    ops = model.get_ordered_ops()
    quantised = any(op.get_type_name() == QUANTISER for op in ops)
    constant: set[str] = set()
    for op in ops:
        kind, name = op.get_type_name(), op.get_friendly_name()
        sources = [port.get_source_output().get_node() for port in op.inputs()]
        if kind == "Constant" or (sources and all(source.get_friendly_name() in constant for source in sources)):
            constant.add(name)
        elif kind == QUANTISER:
            yield _behind(op, sources)
        elif kind not in _SKIPPED and not _unpacks(op):
            yield from _float_ports(op, quantised)


def _float_ports(op: Any, quantised: bool) -> Iterator[tuple[Port, Any]]:
    for port in op.outputs():
        if str(port.get_element_type().get_type_name()) in ("f32", "f16") and not (quantised and _is_fused(port)):
            names = tuple(sorted(port.get_names()))
            yield Port((*names, op.get_friendly_name()), op.get_friendly_name(), op.get_type_name()), port


def _unpacks(op: Any) -> bool:
    """Whether `op` is part of the dequantisation behind a quantiser."""
    for _ in range(_STEPS):
        if op.get_type_name() == QUANTISER:
            return True
        if op.get_type_name() not in _UNPACKS:
            return False
        op = op.input(0).get_source_output().get_node()
    return False


def _behind(op: Any, sources: Sequence[Any]) -> tuple[Port, Any]:
    """Returns the last port of the chain of a quantiser: Convert, Subtract, Multiply."""
    low, high, least = (float(source.get_data().reshape(-1)[0]) for source in sources[1:4])
    port, end = op.output(0), op
    for _ in range(_STEPS):
        readers = _readers(port)
        following = readers[0].get_node() if len(readers) == 1 else None
        if following is None or following.get_type_name() not in _UNPACKS:
            break
        port, end = following.output(0), following
    real = op.input(0).get_source_output()
    maker = real.get_node()
    names = (*sorted(real.get_names()), *sorted(port.get_names()), end.get_friendly_name())
    whole = least == int(least) and end is not op
    levels = int(op.get_attributes()["levels"])
    return Port(
        names, maker.get_friendly_name(), maker.get_type_name(), (low, high, levels, int(least) if whole else 0)
    ), port


def _readers(port: Any) -> list[Any]:
    """Readers of the values; those of the shape alone are worked out while compiling."""
    return [reader for reader in port.get_target_inputs() if reader.get_node().get_type_name() != "ShapeOf"]


def _is_fused(port: Any) -> bool:
    """Whether a single line of nodes leads from `port` into a quantiser."""
    for _ in range(_STEPS):
        readers = _readers(port)
        if any(reader.get_node().get_type_name() == QUANTISER for reader in readers):
            return True
        if len(readers) != 1 or len(readers[0].get_node().outputs()) != 1:
            return False
        port = readers[0].get_node().output(0)
    return False
