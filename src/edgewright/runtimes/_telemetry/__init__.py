"""What the device does while something is measured on it.

`system` reads files and commands of a machine, here or through a shell; `thermal`, `clocks`, `throttle` and `power`
find its sensors; `sampler` reads them in a thread. A device is watched from a process of its own, never from the one
that is timed: a thread there would take the interpreter's lock from the runs.
"""

from edgewright.runtimes._telemetry.sampler import Sampler
from edgewright.runtimes._telemetry.system import LocalSystem, ShellSystem, System

__all__ = ["LocalSystem", "Sampler", "ShellSystem", "System"]
