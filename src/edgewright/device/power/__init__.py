"""Power modes: which there are, measuring in each of them, and leaving the device in the one it was in.

```
with keep(find_modes()) as modes:
    found = sweep(modes, chosen("all", modes), lambda: measure())
```

`modes` says what a power mode is, `nvpmodel` and `governors` are two kinds of them, `keeping` puts the mode back, even
after a process was killed, `sweep` measures.
"""

from edgewright.device.power.keeping import keep, restore_left_over
from edgewright.device.power.kinds import find_modes
from edgewright.device.power.machine import Machine
from edgewright.device.power.modes import PowerModes, chosen
from edgewright.device.power.sweep import sweep

__all__ = ["Machine", "PowerModes", "chosen", "find_modes", "keep", "restore_left_over", "sweep"]
