"""Proves that a quantised graph obeys its scheme, before anything is compiled."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass
from types import MappingProxyType

import onnx_ir as ir

from edgewright.core.target import Scheme
from edgewright.errors import StepFailed
from edgewright.graph.schemes import _operator_rules as operators
from edgewright.graph.schemes import _tensor_rules as tensors
from edgewright.graph.schemes._scene import Scene, scene

RULES: Mapping[str, Callable[[Scene], Iterator[tensors.Broken]]] = MappingProxyType(
    {
        "pairs": tensors.pairs,
        "zero-point-types": tensors.zero_point_types,
        "types": tensors.types,
        "symmetry": tensors.symmetry,
        "scales": tensors.scales,
        "axes": tensors.axes,
        "weight-bits": tensors.weight_bits,
        "bias-scales": operators.bias_scales,
        "shared-scales": operators.shared_scales,
        "fused-activations": operators.fused_activations,
        "stays-float": operators.stays_float,
        "both-operands": operators.both_operands,
        "outputs": operators.outputs,
        "float-results": operators.float_results,
        "fixed-outputs": operators.fixed_outputs,
        "skip-adds": operators.skip_adds,
        "opset": operators.opset,
    }
)
"""Name of a rule -> what yields everything that breaks it."""
_SHOWN = 8


@dataclass(frozen=True, slots=True)
class Finding:
    """One place where a graph breaks one rule of its scheme.

    Attributes:
        rule: Name of the rule, a key of `RULES`.
        where: Name of the node or of the tensor.
        message: What is wrong there.
    """

    rule: str
    where: str
    message: str

    def __str__(self) -> str:
        return f'{self.where}: {self.message} (rule "{self.rule}")'


def lint(graph: ir.Graph, scheme: Scheme, kept_float: Collection[str] = ()) -> tuple[Finding, ...]:
    """Returns everything in `graph` that breaks a rule of `scheme`; nothing when it obeys.

    Args:
        graph: With quantisers, shapes inferred, nodes named.
        scheme: To hold it against.
        kept_float: Names of nodes that were kept in float on purpose, beside those that the scheme keeps.
    """
    seen = scene(graph, scheme, kept_float)
    return tuple(Finding(name, where, what) for name, rule in RULES.items() for where, what in rule(seen))


def require(graph: ir.Graph, scheme: Scheme, kept_float: Collection[str] = ()) -> None:
    """Lints.

    Raises:
        StepFailed: The graph breaks a rule.
    """
    found = lint(graph, scheme, kept_float)
    if found:
        more = f"; and {len(found) - _SHOWN} more" if len(found) > _SHOWN else ""
        raise StepFailed(
            f"the quantised model breaks the scheme {scheme.name}: " + "; ".join(map(str, found[:_SHOWN])) + more,
            hint=f'quantise the float model with `static-int8` and scheme = "{scheme.name}", or keep these operators '
            "in float with `keep_float`",
        )
