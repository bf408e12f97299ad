"""Repair: what post-training quantisation can do for a model that lost too much, one technique after another. Pure.

A generator like the ladder: it yields rungs and is sent the candidates that came of them. Every technique is added to
what has helped so far and kept only if the judged quality on `tune` rises.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from edgewright.core.codec import encode
from edgewright.core.recipe import Candidate, Recipe, StepSpec
from edgewright.core.target import Scheme
from edgewright.search.rungs import CLEAN_UP, Facts, Rung


@dataclass(frozen=True, slots=True)
class Chain:
    """A recipe of static INT8 in its parts.

    Attributes:
        scheme: How the runtime wants it.
        config: Fields of `static-int8` other than the scheme.
        before: Passes on the float model, after `clean-up`.
        after: Passes on the quantised model.
        done: What was done, for the title.
    """

    scheme: Scheme
    config: Mapping[str, Any] = field(default_factory=dict)
    before: tuple[StepSpec, ...] = ()
    after: tuple[StepSpec, ...] = ()
    done: tuple[str, ...] = ("minmax",)

    def recipe(self, keep_float: tuple[str, ...] = (), note: str = "") -> Recipe:
        """Returns the recipe, with `keep_float` left in float and `note` at the end of its title."""
        config = {"scheme": encode(self.scheme), "ranges": "minmax", **self.config}
        if keep_float:
            config["keep_float"] = [*config.get("keep_float", ()), *keep_float]
        title = f"int8 {self.scheme.name.split('-', 1)[-1]} {', '.join(self.done)}{', ' if note else ''}{note}"
        return Recipe(title, (CLEAN_UP, *self.before, StepSpec("static-int8", config), *self.after))


def ranged(method: str, **fields: Any) -> Callable[[Chain], Chain]:
    """Ranges of activations found by `method` instead of their extremes."""

    def apply(chain: Chain) -> Chain:
        return replace(chain, config={**chain.config, "ranges": method, **fields}, done=(method, *chain.done[1:]))

    return apply


RANGES = (ranged("auto"), ranged("percentile", percent=99.99))
"""Other ranges to try for every scheme that is fast: they cost nothing at run time."""


def least_squares(chain: Chain) -> Chain:
    """Weights clipped where that makes their squared error smaller."""
    return replace(chain, config={**chain.config, "weights": "mse"}, done=(*chain.done, "mse weights"))


def equalised(chain: Chain) -> Chain:
    """Channels of neighbouring layers brought to equal ranges."""
    return replace(chain, before=(*chain.before, StepSpec("equalise")), done=(*chain.done, "equalised"))


def smoothed(chain: Chain) -> Chain:
    """Outlier channels of activations moved into the weights behind them."""
    return replace(chain, before=(*chain.before, StepSpec("smooth")), done=(*chain.done, "smoothed"))


def corrected(method: str) -> Callable[[Chain], Chain]:
    """Biases that take back what quantisation shifts, `fast` or `full`."""

    def apply(chain: Chain) -> Chain:
        after = tuple(spec for spec in chain.after if spec.name != "bias-correction")
        done = tuple(text for text in chain.done if not text.endswith("bias correction"))
        spec = StepSpec("bias-correction", {"method": method})
        return replace(chain, after=(*after, spec), done=(*done, f"{method} bias correction"))

    return apply


def rounded(chain: Chain) -> Chain:
    """Weights rounded up or down as the layer's output wants it."""
    return replace(chain, after=(StepSpec("adaround"), *chain.after), done=(*chain.done, "adaround"))


_ACTIVATIONS = ("Relu", "Clip", "PRelu", "LeakyRelu")


def techniques(facts: Facts) -> tuple[tuple[str, Callable[[Chain], Chain]], ...]:
    """Returns name and change of every technique that fits the model, the cheapest first."""
    found: list[tuple[str, Callable[[Chain], Chain]]] = [("weights", least_squares)]
    if facts.count("Conv") > 1 and any(map(facts.count, _ACTIVATIONS)):
        found.append(("equalise", equalised))
    if facts.count("LayerNormalization") and facts.count("MatMul"):
        found.append(("smooth", smoothed))
    found.append(("bias-correction", corrected("fast")))
    found.append(("bias-correction", corrected("full")))
    return tuple(found)


@dataclass(frozen=True, slots=True)
class Best:
    """The best so far: what was done, and what came of it."""

    chain: Chain
    candidate: Candidate


def repair(target: StepSpec, facts: Facts, start: Best) -> Generator[Rung, Candidate, Best]:
    """Yields rungs until one is inside the budget or nothing is left to try.

    Args:
        target: Its name and fields.
        facts: About the model.
        start: A full-integer candidate that is fast enough and has lost too much.

    Returns:
        The best of them.
    """
    best = start
    for name, change in techniques(facts):
        chain = change(best.chain)
        candidate = yield Rung(name, chain.recipe(), target)
        if better(candidate, best.candidate):
            best = Best(chain, candidate)
        if inside(best.candidate):
            break
    return best


def inside(candidate: Candidate) -> bool:
    """Says whether `candidate` was measured and breaks no limit."""
    return candidate.measurement is not None and not candidate.violations


def better(candidate: Candidate, other: Candidate) -> bool:
    """Says whether the judged quality of `candidate` on `tune` is above that of `other`."""
    if candidate.measurement is None:
        return False
    if other.measurement is None:
        return True
    ours, theirs = candidate.measurement.tune.figures[0], other.measurement.tune.figures[0]
    return ours.value > theirs.value if ours.higher_is_better else ours.value < theirs.value
