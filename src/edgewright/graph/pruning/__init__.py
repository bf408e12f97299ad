"""Structured pruning: which channels depend on one another, which to remove, and their removal from the graph.

```python
model = prepare(load(path))
groups = find_groups(model)
scores = magnitude(model, groups[0])
remove(model, {groups[0].name: sorted(np.argsort(scores)[8:])})
```
"""

from __future__ import annotations

from edgewright.graph.pruning.groups import Group, Member, explain_fixed, find_groups
from edgewright.graph.pruning.importance import batch_norm_scale, magnitude, slices, zeroed
from edgewright.graph.pruning.prepare import prepare
from edgewright.graph.pruning.remove import remove

__all__ = [
    "Group",
    "Member",
    "batch_norm_scale",
    "explain_fixed",
    "find_groups",
    "magnitude",
    "prepare",
    "remove",
    "slices",
    "zeroed",
]
