"""Toolchains that cannot share an environment with the rest: each has one of its own, made on request from a lock.

```
lock.py         toolchains/NAME.txt: what is pinned, for which Python and platform
environment.py  what is installed: found without starting it; state is one marker, written last
install.py      makes an environment, checks it, then writes the marker
```
What runs in the interpreter of an environment is in `engine/guest`.
"""

from edgewright.engine.environments.environment import Environment, State, Status, find, needed_by, require, status
from edgewright.engine.environments.lock import Lock, names, read

__all__ = ["Environment", "Lock", "State", "Status", "find", "names", "needed_by", "read", "require", "status"]
