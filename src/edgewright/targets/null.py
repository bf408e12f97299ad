"""A target that needs no toolchain and computes nothing: for tests of the engine, the search and the bundle."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from edgewright.core.measurement import Device
from edgewright.core.step import Context
from edgewright.core.target import Artifact, NodePlacement, Scheme

if TYPE_CHECKING:
    import onnx_ir

    from edgewright.targets._hub import Hub

MODEL_FILE = "model.null"


@dataclass(frozen=True, slots=True)
class NullTarget:
    """Writes the digest of the model; its runtime answers zeros of the right shapes and dtypes.

    Attributes:
        strict: Accepted like everywhere; every node is where it was planned, nowhere.
        absent: Why its artifacts do not run on any machine, as those of another system do not run here; empty: they
            run.
    """

    name: ClassVar[str] = "null"
    version: ClassVar[int] = 1
    requires: ClassVar[tuple[str, ...]] = ("onnx-ir",)
    runtime: ClassVar[str] = "null"
    extra: ClassVar[str] = "build"

    strict: bool = False
    absent: str = ""

    def elsewhere(self, device: Device) -> str:
        """Says that its artifacts do not run, if they were told not to."""
        return self.absent

    def refuses(self, graph: onnx_ir.Model) -> tuple[str, ...]:
        """Refuses operators of no known domain, as a real target would, so that refusals can be tested."""
        known = {"", "ai.onnx", "ai.onnx.ml", "com.microsoft", *(key[0] for key in graph.functions)}
        strangers = [node for node in graph.graph.all_nodes() if node.domain not in known or not _standard(node)]
        return tuple(f'node "{node.name}": unknown operator {node.domain}:{node.op_type}' for node in strangers)

    def schemes(self, device: Device) -> tuple[Scheme, ...]:
        return ()

    def precisions(self, device: Device) -> Mapping[str, str]:
        return {"float32": ""}

    def run(self, inputs: Mapping[str, Path], out: Path, context: Context) -> None:
        """Writes `model.null` and `artifact.json`."""
        from edgewright.graph.load import load_proto
        from edgewright.runtimes.null import MAGIC
        from edgewright.targets import _judge
        from edgewright.targets._hub import read_hub

        hub = read_hub(inputs["model"])
        content = load_proto(inputs["model"]).SerializeToString(deterministic=True)
        (out / MODEL_FILE).write_bytes(MAGIC + hashlib.sha256(content).hexdigest().encode())
        _judge.write_artifact(self._artifact(hub), out, strict=self.strict)

    def _artifact(self, hub: Hub) -> Artifact:
        from edgewright import __version__

        nodes = [node for node in hub.model.graph if node.op_type != "Constant"]
        return Artifact(
            target=self.name,
            runtime=self.runtime,
            runtime_version=__version__,
            runtime_range=">=0",
            files=(MODEL_FILE,),
            inputs=hub.inputs,
            outputs=hub.outputs,
            precision="float32",
            proof=("its digest was written",) if self.absent else (),
            unproven=("that zeros come out",) if self.absent else (),
            placement=tuple(
                NodePlacement(node.name or "", node.op_type, "nowhere", "none", (node.name or "",)) for node in nodes
            ),
        )


def _standard(node: onnx_ir.Node) -> bool:
    import onnx

    return bool(node.domain) or onnx.defs.has(node.op_type)


plugin = NullTarget
