"""Power modes: which there are, measuring in each of them, and leaving the device in the one it was in.

```
def measure(name: str) -> Timing:
    with in_mode(name):
        return time_artifact(...)

modes = known()
found = sweep(modes, chosen("all", modes.names, modes.kind), measure)
```

`modes` says what a power mode is, `nvpmodel` and `governors` are two kinds of them, `keeping` puts the mode back, even
after a process was killed, `sweep` measures.
"""

from edgewright.device.power.keeping import keep, restore_left_over
from edgewright.device.power.kinds import find_modes
from edgewright.device.power.machine import Machine
from edgewright.device.power.modes import PowerModes, chosen
from edgewright.device.power.sweep import Known, in_mode, known, sweep

__all__ = [
    "Known",
    "Machine",
    "PowerModes",
    "chosen",
    "find_modes",
    "in_mode",
    "keep",
    "known",
    "restore_left_over",
    "sweep",
]
