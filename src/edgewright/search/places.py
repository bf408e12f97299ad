"""Where the artifacts of a target run: here, on a device that was named, or on neither."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from edgewright.core.measurement import Device
from edgewright.core.recipe import StepSpec, TargetSpec
from edgewright.engine import registry
from edgewright.errors import ConfigError


@dataclass(frozen=True, slots=True)
class Place:
    """Where one target is measured.

    Attributes:
        device: The machine that its figures belong to.
        address: How that is reached; empty for this machine.
        absent: Why its artifacts run neither here nor there, in one sentence; empty where they run. Then the artifact
            is proven as far as its target can, and quality is predicted by a stand-in.
        emulated: What runs here interprets what belongs on another kind of machine: times are not those of the target.
    """

    device: Device
    address: str = ""
    absent: str = ""
    emulated: bool = False

    @property
    def fields(self) -> dict[str, Any]:
        """Fields of a step that runs the artifact."""
        return {"device": self.address} if self.address else {}


def place_of(target: TargetSpec, local: Device) -> Place:
    """Finds out where `target` is measured; a named device is asked what it is.

    Raises:
        ConfigError: The named device cannot run what this target makes.
        EdgewrightError: The device cannot be reached.
    """
    step = registry.make("targets", target.step)
    if not target.device:
        return Place(local, absent=elsewhere(step, local), emulated=getattr(step, "emulated", False))
    from edgewright.measure.devices import connect

    with connect(target.device) as connection:
        device = connection.describe()
    absent = elsewhere(step, device)
    if absent:
        hint = "name another device, or leave `device` out to have the artifact proven without running it"
        raise ConfigError(f"target {target.label}, device {target.device}: {absent}", hint=hint)
    return Place(device, target.device)


def elsewhere(step: object, device: Device) -> str:
    """Returns why what the target makes does not run on `device`; empty for a target that runs wherever it compiles."""
    asked = getattr(step, "elsewhere", None)
    return str(asked(device)) if asked is not None else ""


def stand_in(reference: StepSpec) -> str:
    """Says who predicts quality where the target's own runtime does not run."""
    return f"the same graph in {reference.name}"
