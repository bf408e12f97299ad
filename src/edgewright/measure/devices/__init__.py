"""Devices that measure: how they are reached, what they are sent, what they answer.

```
with connect("ssh://pi@raspberry.local") as device:
    print(device.describe())
    timing = device.time(artifact, reference, samples, Question(threads=4))
    with device.open_runner(artifact, RunOptions(threads=4)) as runner:
        outputs = runner.run(inputs)
```
"""

from edgewright.measure.devices.connection import Connection, connect
from edgewright.measure.devices.lab import Lab, load_lab
from edgewright.measure.devices.opening import open_on

__all__ = ["Connection", "Lab", "connect", "load_lab", "open_on"]
