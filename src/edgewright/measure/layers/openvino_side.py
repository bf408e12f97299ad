"""An artifact of OpenVINO, its inner tensors exposed as further outputs."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgewright.core.target import Runner
from edgewright.core.tensors import TensorSpec
from edgewright.measure.layers.sides import Feed, Integers, LocalRunner, Tap, Weights
from edgewright.runtimes._ov_capture import Port, open_tapped

_ADDED = ("/dequantised", "/float", "_DequantizeLinear_Output")


@dataclass(slots=True)
class OpenVinoSide:
    """See `sides.Side`. Values come dequantised; a layer cannot be run alone."""

    title: str
    runtime: str
    inputs: tuple[TensorSpec, ...]
    taps: tuple[Tap, ...]
    outputs: tuple[Tap, ...]
    notes: tuple[str, ...]
    runner: Runner
    plain: Runner | None
    hidden: Mapping[str, str] = field(default_factory=dict)
    stored_inputs: Mapping[str, Integers] = field(default_factory=dict)

    def run(self, feed: Feed) -> Mapping[str, NDArray[Any]]:
        # The arrays belong to the request and are overwritten by its next run.
        found = {name: array.copy() for name, array in self.runner.run(feed).items()}
        if self.plain is not None:
            self._check(self.plain.run(feed), found)
            self.plain = None
        return found

    def _check(self, plain: Mapping[str, NDArray[Any]], found: Mapping[str, NDArray[Any]]) -> None:
        """On the first sample: reading inner tensors must not change the outputs."""
        if not all(np.allclose(found[name], values, rtol=1e-3, atol=1e-4) for name, values in plain.items()):
            self.notes = (*self.notes, "reading inner tensors changes the outputs: OpenVINO fuses less then")

    def weights(self, tap: Tap) -> Weights | None:
        return None

    @contextmanager
    def local(self, given: Sequence[Tap]) -> Iterator[LocalRunner | None]:
        yield None


@contextmanager
def open_openvino(path: Path, title: str) -> Iterator[OpenVinoSide]:
    """Opens an artifact of OpenVINO.

    Raises:
        ToolchainMissing: OpenVINO is not installed.
        Corrupt: It cannot open the artifact.
    """
    tapped = open_tapped(path)
    artifact = tapped.artifact
    computed = [p for p in artifact.placement if p.precision != "conversion"]
    precisions = {name: p.precision for p in computed for name in (p.node, *p.source)}
    taps = tuple(_tap(port, precisions) for port in tapped.ports)
    outputs = tuple(Tap(spec.name, "", "", str(n), (spec.name,)) for n, spec in enumerate(artifact.outputs))
    notes = tuple(filter(None, (tapped.note, "OpenVINO runs no layer alone, so errors are accumulated ones only")))
    runtime = f"{artifact.runtime} {artifact.runtime_version}"
    yield OpenVinoSide(title, runtime, artifact.inputs, taps, outputs, notes, tapped.runner, tapped.plain)


def _tap(port: Port, precisions: Mapping[str, str]) -> Tap:
    names = tuple(dict.fromkeys(_plain(name) for name in port.names))
    tensor = names[0] if names else port.node
    return Tap(tensor, port.node, port.op, port.output, names, _integers(port), _precision(port, names, precisions))


def _precision(port: Port, names: tuple[str, ...], precisions: Mapping[str, str]) -> str:
    """A kernel that ends in a quantiser names that one among its sources, not always the activation before it."""
    asked = (port.node, *(f"{name}{end}" for name in names for end in ("/QuantizeLinear", "_QuantizeLinear")))
    return next((precisions[name] for name in asked if name in precisions), "")


def _plain(name: str) -> str:
    for suffix in _ADDED:
        name = name.removesuffix(suffix)
    return name


def _integers(port: Port) -> Integers | None:
    """The values read are real already; the integers say what range they had."""
    if port.quantised is None:
        return None
    low, high, levels, least = port.quantised
    scale = (high - low) / (levels - 1) or 1.0
    dtype = "int8" if least < 0 else "uint8"
    if levels > 256:
        dtype = "int16" if least < 0 else "uint16"
    return Integers(dtype, (scale,), (round(least - low / scale),))
