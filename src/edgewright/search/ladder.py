"""The ladder: which recipe to try next on one target, cheapest first, decided from what is known so far. Pure.

A ladder is a generator: it yields a `Rung` and is sent the `Candidate` that came of it.
"""

from __future__ import annotations

from collections.abc import Generator, Mapping
from dataclasses import dataclass, field

from edgewright.core.recipe import Candidate, Recipe, StepSpec
from edgewright.core.target import Scheme
from edgewright.search import compression
from edgewright.search.mixed import Measure, mixed_rungs
from edgewright.search.repair import RANGES, Best, Chain, better, inside, repair, rounded
from edgewright.search.rungs import CARRIES_QDQ, CLEAN_UP, Facts, Rung

_INT8_SHARE = 0.1
_DYNAMIC_SHARE = 0.2
_DYNAMIC_OPS = frozenset({"MatMul", "Gemm", "LSTM", "GRU", "RNN", "Attention"})
_PRODUCTS = frozenset({"MatMul", "Gemm"})
_NEAR_BEST = 0.9
_PAYS = 1.02
"""Least speed of INT8 over float that is worth recovering its accuracy for."""

RUNGS = (
    "as-is",
    "float",
    "bf16",
    "fp16",
    "dynamic-int8",
    "static-int8",
    "ranges",
    "weights",
    "equalise",
    "smooth",
    "bias-correction",
    "mixed",
    "adaround",
    "weights-only",
    *compression.NAMES,
)
"""Names of the rungs, as `[search] ladder` takes them."""


@dataclass(slots=True)
class _Tried:
    """What came of full-integer candidates."""

    results: list[Best] = field(default_factory=list)

    def fast(self) -> list[Chain]:
        """Returns a chain of every scheme whose speed is near the fastest one's; ranges do not change speed.

        Where the target does not run here nothing is slow.
        """
        if not any(timed(best.candidate) for best in self.results):
            return list({b.chain.scheme.name: b.chain for b in self.results if b.candidate.measurement}.values())
        speeds = {best.chain.scheme.name: speed(best.candidate) for best in self.results}
        top = max(speeds.values(), default=0.0)
        found = {b.chain.scheme.name: b.chain for b in self.results if speeds[b.chain.scheme.name] > _NEAR_BEST * top}
        return list(found.values())

    def of(self, chains: list[Chain]) -> list[Best]:
        """Returns what was tried with the schemes of `chains`."""
        names = {chain.scheme.name for chain in chains}
        return [found for found in self.results if found.chain.scheme.name in names]

    def inside(self, chains: list[Chain]) -> bool:
        """Says whether any of them met the budget."""
        return any(inside(found.candidate) for found in self.of(chains))

    def best(self, chains: list[Chain]) -> Best:
        """Returns the one that lost least among them."""
        mine = self.of(chains)
        top = mine[0]
        for found in mine[1:]:
            top = found if better(found.candidate, top.candidate) else top
        return top


def timed(candidate: Candidate) -> bool:
    """Says whether its target runs where the search measures: then speed decides, and not what was promised."""
    return candidate.measurement is not None and candidate.measurement.timing is not None


def speed(candidate: Candidate) -> float:
    """Returns how many times as fast as the original it is; 0 where it was not timed."""
    timing = candidate.measurement.timing if candidate.measurement else None
    return timing.speedup.value if timing else 0.0


def ladder(
    target: StepSpec,
    facts: Facts,
    schemes: tuple[Scheme, ...],
    precisions: Mapping[str, str],
    measure: Measure | None,
    *,
    safe_8_bits: bool = False,
) -> Generator[Rung, Candidate, None]:
    """Yields the rungs for one target.

    Args:
        target: Its name and fields.
        facts: About the model.
        schemes: How this runtime can be quantised on this device, the most promising first.
        precisions: Float precision -> "" or why it is not worth trying.
        measure: Measures how much each quantised group loses; None leaves mixed precision out.
        safe_8_bits: Whether products of 8-bit weights are added without saturating on this processor.
    """
    refusals = facts.refusals.get(target.name, ())
    if refusals:
        yield Rung("float", Recipe("float", ()), target, refused="; ".join(refusals))
        return
    if facts.quantized:
        yield Rung("as-is", Recipe("as it is (already QDQ)", ()), target)
    plain = yield Rung("float", Recipe("float", (CLEAN_UP,)), target)
    small: list[Candidate] = []
    int8 = yield from _noted(_integers(target, facts, schemes, precisions, measure, plain, safe_8_bits), small)
    limits_cost = facts.training is not None and facts.training.limits_cost
    met = any(map(inside, (plain, *small) if limits_cost else small))
    yield from compression.training_rungs(target, facts, compression.SoFar(plain, int8, met))


def _integers(
    target: StepSpec,
    facts: Facts,
    schemes: tuple[Scheme, ...],
    precisions: Mapping[str, str],
    measure: Measure | None,
    plain: Candidate,
    safe_8_bits: bool,
) -> Generator[Rung, Candidate, Best | None]:
    """Yields every rung of lower precision; returns the best of full INT8, where that is faster or smaller."""
    yield from _reduced_floats(target, precisions)
    yield _dynamic(target, facts, 8 if safe_8_bits else 7)
    int8 = yield from _static(target, facts, schemes, plain, measure, precisions.get("int8", ""))
    yield from _weights_only(target, facts)
    return int8


def _noted(
    rungs: Generator[Rung, Candidate, Best | None], candidates: list[Candidate]
) -> Generator[Rung, Candidate, Best | None]:
    """Passes rungs on and keeps what came of them."""
    rung = next(rungs)
    while True:
        candidates.append((yield rung))
        try:
            rung = rungs.send(candidates[-1])
        except StopIteration as stopped:
            found: Best | None = stopped.value
            return found


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
        return Rung("dynamic-int8", recipe, target, refused=CARRIES_QDQ)
    if share < _DYNAMIC_SHARE:
        reason = f"matrix products take {share:.0%} of the original's time, too little for dynamic INT8 to pay"
        return Rung("dynamic-int8", recipe, target, refused=reason)
    return Rung("dynamic-int8", recipe, target)


def _static(
    target: StepSpec,
    facts: Facts,
    schemes: tuple[Scheme, ...],
    plain: Candidate,
    measure: Measure | None,
    why_no_schemes: str,
) -> Generator[Rung, Candidate, Best | None]:
    """Yields full INT8 by every scheme; returns the best of the fast ones where integers pay."""
    refused = _why_no_static(target, facts, schemes, why_no_schemes)
    if refused:
        recipe = Chain(schemes[0]).recipe() if schemes else Recipe("int8", (CLEAN_UP, StepSpec("static-int8")))
        yield Rung("static-int8", recipe, target, refused=refused)
        return None
    tried = _Tried()
    for scheme in schemes:
        chain = Chain(scheme)
        candidate = yield Rung("static-int8", chain.recipe(), target)
        tried.results.append(Best(chain, candidate))
    fast = tried.fast()
    for chain in (change(chain) for chain in fast for change in RANGES):
        candidate = yield Rung("ranges", chain.recipe(), target)
        tried.results.append(Best(chain, candidate))
    if not fast:
        return _unmeasured(facts, schemes[0], tried)
    best = tried.best(fast)
    if not tried.inside(fast):
        best = yield from _recover(target, facts, best, plain, measure)
    return best if _gain(best.candidate, plain) >= _PAYS or facts.size_limited or not timed(plain) else None


def _unmeasured(facts: Facts, scheme: Scheme, tried: _Tried) -> Best | None:
    """Returns the most promising scheme where the ladder was told to leave full INT8 out and train for it."""
    skipped = all(not found.candidate.id for found in tried.results)
    wanted = facts.training is not None and facts.training.wanted
    return Best(Chain(scheme), tried.results[0].candidate) if wanted and skipped else None


def _gain(candidate: Candidate, plain: Candidate) -> float:
    return speed(candidate) / max(speed(plain), 1e-9)


def _recover(
    target: StepSpec, facts: Facts, best: Best, plain: Candidate, measure: Measure | None
) -> Generator[Rung, Candidate, Best]:
    """Brings accuracy back: cheap repairs, operators returned to float, and adaptive rounding, which takes longest.

    Returns:
        The best of full INT8.
    """
    gain = _gain(best.candidate, plain)
    pays = gain >= _PAYS or facts.size_limited or not timed(plain)
    if not pays:
        reason = f"INT8 runs at {gain:.2f}x the speed of float here: nothing to gain by recovering its accuracy"
        yield Rung("bias-correction", best.chain.recipe(note="recovered"), target, refused=reason)
    else:
        best = yield from repair(target, facts, best)
    whole = best
    if measure is not None and not inside(best.candidate):
        best = yield from mixed_rungs(target, best, plain, measure, facts.reference)
    if pays and not inside(best.candidate):
        yield Rung("adaround", rounded(best.chain).recipe(), target, facts.absent.get("adaround", ""))
    return whole


def _why_no_static(target: StepSpec, facts: Facts, schemes: tuple[Scheme, ...], said: str) -> str:
    if facts.quantized:
        return CARRIES_QDQ
    if not schemes:
        return said or f"{target.name} runs no integer kernels on this device"
    share = facts.share(schemes[0].quantized)
    if facts.time_share and share < _INT8_SHARE:
        return f"operators that {target.name} runs in INT8 take {share:.0%} of the original's time: nothing to gain"
    return ""


def _weights_only(target: StepSpec, facts: Facts) -> Generator[Rung, Candidate, None]:
    """Weights alone in 8 and 4 bits, where matrix products take time or where size counts."""
    if not any(map(facts.count, _PRODUCTS)):
        return
    pays = facts.share(_PRODUCTS) >= _DYNAMIC_SHARE or facts.size_limited
    refused = "" if pays else "matrix products take little of the original's time, and the budget does not limit size"
    if facts.quantized:
        refused = CARRIES_QDQ
    for bits, compute in ((8, "int8"), (4, "int8"), (4, "float32")):
        config = {"bits": bits, "compute": compute}
        recipe = Recipe(f"int{bits} weights, {compute} products", (CLEAN_UP, StepSpec("weights-only", config)))
        yield Rung("weights-only", recipe, target, refused=refused)
