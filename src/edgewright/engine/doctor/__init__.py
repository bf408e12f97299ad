"""What is here, what is not, how to get it, and what is known to go wrong with it.

```
targets.py    targets, runtimes and environments of their own: from metadata, no framework is imported
asking.py     what only a program can tell: its version, ONNX Runtime's providers; bounded, side by side
machine.py    processor, memory, governor, temperature, cache
traps.py      versions that do not work together: data and pure functions
```
"""

from __future__ import annotations

from dataclasses import dataclass

from edgewright.engine.doctor.asking import ProgramState, Providers, programs, providers
from edgewright.engine.doctor.machine import CacheState, MachineState, cache_state, machine_state
from edgewright.engine.doctor.targets import (
    EnvironmentState,
    RuntimeState,
    TargetState,
    environments,
    runtimes,
    targets,
)
from edgewright.engine.doctor.traps import Trap, installed, required, traps, unmet


@dataclass(frozen=True, slots=True)
class Diagnosis:
    """Everything `edgewright doctor` shows.

    Attributes:
        edgewright: Version.
        python: Version.
        targets: Every target there is.
        runtimes: Every runtime there is.
        environments: Toolchains with an environment of their own.
        providers: ONNX Runtime's execution providers.
        programs: Programs that some work needs.
        machine: This one.
        cache: The folder of kept results.
        traps: What is known to go wrong here.
    """

    edgewright: str
    python: str
    targets: tuple[TargetState, ...]
    runtimes: tuple[RuntimeState, ...]
    environments: tuple[EnvironmentState, ...]
    providers: Providers
    programs: tuple[ProgramState, ...]
    machine: MachineState
    cache: CacheState
    traps: tuple[Trap, ...]

    @property
    def usable(self) -> bool:
        """Whether at least one target can be compiled for."""
        return any(target.installed and target.name != "null" for target in self.targets)

    @property
    def problems(self) -> tuple[str, ...]:
        """What `--strict` fails on: traps, damaged environments, unanswered questions; nothing that is just absent."""
        worn = [f"toolchain {e.name} is {e.state}: {e.install}" for e in self.environments if e.state in _WORN]
        silent = [self.providers.problem] if self.providers.problem else []
        return (*(f"{trap.what}: {trap.fix}" for trap in self.traps), *worn, *silent)


_WORN = ("stale", "broken")


def examine() -> Diagnosis:
    """Looks at everything; asks programs for at most a few seconds."""
    import platform

    import edgewright
    from edgewright.runtimes._machine import local_device

    device, here = local_device(), installed()
    return Diagnosis(
        edgewright=edgewright.__version__,
        python=platform.python_version(),
        targets=targets(device),
        runtimes=runtimes(),
        environments=environments(),
        providers=providers(),
        programs=programs(),
        machine=machine_state(device),
        cache=cache_state(),
        traps=(*traps(here), *unmet(required(), here)),
    )


__all__ = [
    "CacheState",
    "Diagnosis",
    "EnvironmentState",
    "MachineState",
    "ProgramState",
    "Providers",
    "RuntimeState",
    "TargetState",
    "Trap",
    "cache_state",
    "environments",
    "examine",
    "installed",
    "machine_state",
    "programs",
    "providers",
    "required",
    "runtimes",
    "targets",
    "traps",
    "unmet",
]
