"""What works in a model and costs all the same, per target, before anything is trained, exported or compiled.

```
sight.py        the cleaned-up graph for one target, and what INT8 will compute in integers
activations.py, structure.py, weights.py, delegates.py    one function per rule: where does it apply
rules.py        the rules: why each matters and what to do instead
layers.py       which layer of the network a node is, and on which line it was called
```
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from edgewright.graph.risks.layers import Layer, Layers
from edgewright.graph.risks.rules import RULES, Rule
from edgewright.graph.risks.sight import Hit, Sight, free_axes, look


@dataclass(frozen=True, slots=True)
class Risk:
    """What one rule found in a model.

    Attributes:
        rule: Its name.
        nodes: Names of the nodes; empty where it is the model as a whole.
        why: What it costs.
        instead: What to do.
    """

    rule: str
    nodes: tuple[str, ...]
    why: str
    instead: str


def risks(sight: Sight) -> Iterator[Risk]:
    """Yields what every rule finds, those of equal reason together, in the order of the rules."""
    for rule in RULES:
        if rule.applies(sight):
            grouped: dict[str, list[str]] = {}
            for hit in rule.find(sight):
                grouped.setdefault(hit.detail, []).extend(hit.nodes)
            for detail, nodes in grouped.items():
                why = f"{rule.why} ({detail})" if detail else rule.why
                yield Risk(rule.name, tuple(dict.fromkeys(nodes)), why, rule.instead)


__all__ = ["RULES", "Hit", "Layer", "Layers", "Risk", "Rule", "Sight", "free_axes", "look", "risks"]
