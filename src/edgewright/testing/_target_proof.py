"""What a target owes whose artifacts cannot be opened on this machine."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from edgewright.core.target import NodePlacement
from edgewright.errors import ToolchainMissing
from edgewright.runtimes import load_artifact, open_runner
from edgewright.runtimes._machine import local_device
from edgewright.testing._target_models import Case, quantized_conv
from edgewright.testing._target_tools import compiled, expecting, make


def runs_here(target: str) -> bool:
    """Returns whether artifacts of `target` can be opened and run on this machine."""
    elsewhere = getattr(make(target), "elsewhere", None)
    return elsewhere is None or not elsewhere(local_device())


def check_proof(target: str, case: Case, folder: Path) -> None:
    """What cannot be run here is proven as far as that goes, and says what is left and how that is proven elsewhere."""
    artifact = load_artifact(compiled(target, case.build(), folder))
    assert artifact.proof, "nothing is proven"
    assert artifact.unproven, "what was not run is not called unproven"
    assert all(sentence.strip() for sentence in (*artifact.proof, *artifact.unproven))
    if artifact.placement:
        require_described(artifact.placement)


def check_refused_to_open(target: str, folder: Path) -> None:
    """A machine that cannot run the artifact says so when it is opened, and what to do."""
    symmetric = all(scheme.activation_symmetric for scheme in make(target).schemes(local_device()))
    path = compiled(target, quantized_conv(symmetric=symmetric), folder)
    with expecting(ToolchainMissing), open_runner(path):
        pass


def require_described(placement: Sequence[NodePlacement]) -> None:
    """Requires of every node a place, a precision and an operator, and a note where it is not as planned."""
    assert all(node.where and node.precision and node.op for node in placement)
    assert any(node.source for node in placement), "no node is traced back to the model"
    assert all(node.planned or node.note for node in placement)
