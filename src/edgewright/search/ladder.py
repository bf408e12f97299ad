"""The ladder: which recipe to try next on one target, cheapest first, decided from what is known so far. Pure.

A ladder is a generator: it yields a `Rung` and is sent the `Candidate` that came of it.
"""

from __future__ import annotations

from collections.abc import Generator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from edgewright.core.codec import encode
from edgewright.core.recipe import Candidate, Recipe, StepSpec
from edgewright.core.target import Scheme

CLEAN_UP = StepSpec("clean-up")
_INT8_SHARE = 0.1
_DYNAMIC_SHARE = 0.2
_DYNAMIC_OPS = frozenset({"MatMul", "Gemm", "LSTM", "GRU", "RNN", "Attention"})


RUNGS = ("as-is", "float", "bf16", "fp16", "dynamic-int8", "static-int8")
"""Names of the rungs, as `[search] ladder` takes them."""


@dataclass(frozen=True, slots=True)
class Facts:
    """What is known about the model before anything is tried.

    Attributes:
        quantized: It already carries QuantizeLinear and DequantizeLinear.
        refusals: Target -> why it will not take the model.
        time_share: Operator -> share of the original's measured run time.
    """

    quantized: bool
    refusals: Mapping[str, tuple[str, ...]]
    time_share: Mapping[str, float]

    def share(self, operators: frozenset[str] | tuple[str, ...]) -> float:
        """Returns the share of the run time that `operators` take together."""
        return sum(share for op, share in self.time_share.items() if op in operators)


@dataclass(frozen=True, slots=True)
class Rung:
    """One thing to try.

    Attributes:
        name: Of the rung, as `[search] ladder` names it.
        recipe: The passes.
        target: The target with its fields.
        refused: Why it is not worth trying; empty to try it.
    """

    name: str
    recipe: Recipe
    target: StepSpec
    refused: str = ""


@dataclass(slots=True)
class _Tried:
    """The schemes tried so far, with what came of them."""

    results: list[tuple[Scheme, Candidate]] = field(default_factory=list)

    def fast(self) -> list[Scheme]:
        """Returns the schemes whose ratio is near the best one's: another range method does not change speed."""
        speeds = {scheme.name: _speed(candidate) for scheme, candidate in self.results}
        best = max(speeds.values(), default=0.0)
        found = {scheme.name: scheme for scheme, _ in self.results if speeds[scheme.name] > _NEAR_BEST * best}
        return list(found.values())

    def inside(self) -> bool:
        """Returns whether any of them met the budget."""
        return any(c.measurement is not None and not c.violations for _, c in self.results)


_NEAR_BEST = 0.9
_EDGES = ("@first", "@last")


def _speed(candidate: Candidate) -> float:
    timing = candidate.measurement.timing if candidate.measurement else None
    return timing.speedup.value if timing else 0.0


def ladder(
    target: StepSpec,
    facts: Facts,
    schemes: tuple[Scheme, ...],
    precisions: Mapping[str, str],
    *,
    safe_8_bits: bool = False,
) -> Generator[Rung, Candidate, None]:
    """Yields the rungs for one target.

    Args:
        target: Its name and fields.
        facts: About the model.
        schemes: How this runtime can be quantised on this device, the most promising first.
        precisions: Float precision -> "" or why it is not worth trying.
        safe_8_bits: Whether products of 8-bit weights are added without saturating on this processor.
    """
    refusals = facts.refusals.get(target.name, ())
    if refusals:
        yield Rung("float", Recipe("float", ()), target, refused="; ".join(refusals))
        return
    if facts.quantized:
        yield Rung("as-is", Recipe("as it is (already QDQ)", ()), target)
    yield Rung("float", Recipe("float", (CLEAN_UP,)), target)
    yield from _reduced_floats(target, precisions)
    yield _dynamic(target, facts, 8 if safe_8_bits else 7)
    yield from _static(target, facts, schemes)


def _reduced_floats(target: StepSpec, precisions: Mapping[str, str]) -> Generator[Rung, Candidate, None]:
    passes = {"bfloat16": "bf16", "float16": "fp16"}
    for precision, name in passes.items():
        if precision in precisions:
            recipe = Recipe(name, (CLEAN_UP, StepSpec(name)))
            yield Rung(name, recipe, target, refused=precisions[precision])


def _dynamic(target: StepSpec, facts: Facts, weight_bits: int) -> Rung:
    recipe = Recipe("dynamic int8", (CLEAN_UP, StepSpec("dynamic-int8", {"weight_bits": weight_bits})))
    share = facts.share(_DYNAMIC_OPS)
    if facts.quantized:
        return Rung("dynamic-int8", recipe, target, refused=_CARRIES_QDQ)
    if share < _DYNAMIC_SHARE:
        reason = f"matrix products take {share:.0%} of the original's time, too little for dynamic INT8 to pay"
        return Rung("dynamic-int8", recipe, target, refused=reason)
    return Rung("dynamic-int8", recipe, target)


_CARRIES_QDQ = "the model already carries QuantizeLinear / DequantizeLinear and is read as it is"


def _static(target: StepSpec, facts: Facts, schemes: tuple[Scheme, ...]) -> Generator[Rung, Candidate, None]:
    refused = _why_no_static(target, facts, schemes)
    if refused:
        yield Rung("static-int8", static_recipe(schemes[0] if schemes else None, "minmax"), target, refused=refused)
        return
    tried = _Tried()
    for scheme in schemes:
        candidate = yield Rung("static-int8", static_recipe(scheme, "minmax"), target)
        tried.results.append((scheme, candidate))
    for scheme in tried.fast():
        candidate = yield Rung("static-int8", static_recipe(scheme, "percentile"), target)
        tried.results.append((scheme, candidate))
    if tried.inside():
        return
    for scheme in tried.fast():
        yield Rung("static-int8", static_recipe(scheme, "percentile", _EDGES), target)


def _why_no_static(target: StepSpec, facts: Facts, schemes: tuple[Scheme, ...]) -> str:
    if facts.quantized:
        return _CARRIES_QDQ
    if not schemes:
        return f"{target.name} runs no integer kernels on this device"
    share = facts.share(schemes[0].quantized)
    if facts.time_share and share < _INT8_SHARE:
        return f"operators that {target.name} runs in INT8 take {share:.0%} of the original's time: nothing to gain"
    return ""


def static_recipe(scheme: Scheme | None, ranges: str, keep_float: tuple[str, ...] = ()) -> Recipe:
    """Returns the recipe of static INT8 by `scheme` with ranges found by `ranges`."""
    title = f"int8 {scheme.name.split('-', 1)[-1] if scheme else ''} {ranges}".replace("  ", " ")
    config: dict[str, Any] = {"ranges": ranges}
    if scheme is not None:
        config["scheme"] = encode(scheme)
    if keep_float:
        config["keep_float"] = list(keep_float)
        title += ", first and last in float"
    return Recipe(title, (CLEAN_UP, StepSpec("static-int8", config)))


def with_target(rung: Rung, **fields: Any) -> Rung:
    """Returns `rung` with fields of its target replaced."""
    return replace(rung, target=StepSpec(rung.target.name, {**rung.target.config, **fields}))
