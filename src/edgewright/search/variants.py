"""One artifact for every machine, or one per kind of machine. A pure decision on what was measured.

Products with signed 8-bit weights are added in 16 bits on x86 without VNNI and can saturate there. A winner that cannot
is right everywhere, and so is one whose session option asks for exact kernels; but those cost time on such processors,
where 7-bit weights are as fast as saturating ones. So where the study has both, machines with VNNI run the winner and
all others the exact one that is fast without it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from edgewright.core.recipe import MET, Candidate
from edgewright.core.target import Artifact
from edgewright.core.variant import VNNI, Choice, Condition

PRECISE = "session.x64quantprecision"
X86_VNNI = Condition(("x86_64",), VNNI)
ARM = Condition(("aarch64",))

Safe = Callable[[Candidate], bool]


def variants(
    winner: Candidate, tried: Sequence[Candidate], *, safe: Safe, signed: Safe = lambda _: False
) -> tuple[Choice, ...]:
    """Decides which machines run which candidate.

    Args:
        winner: Of one target.
        tried: Every candidate of the same target.
        safe: Says whether a candidate's artifact computes the same integers fast on every processor: no sum of two
            products can saturate (not `saturates`).
        signed: Says whether both activations and weights of a candidate are signed: what ARM runs fastest, and x86
            slowest.

    Returns:
        Nothing when the winner alone is right and as fast as can be everywhere. Otherwise one choice per kind of
        machine, in the order they are to be tried; the last is for any machine. `Study.variants` takes it as it is.
    """
    if safe(winner):
        return ()
    alike = [c for c in tried if _comparable(c, winner)]
    fast = _fastest([c for c in alike if safe(c) and not signed(c)])
    arm = _fastest([c for c in alike if signed(c)])
    exact = {PRECISE: "1"}
    choices: list[Choice] = []
    if fast is not None:
        choices.append(Choice("x86-vnni", winner.id, X86_VNNI, exact, "VNNI adds in 32 bits: 8-bit weights are exact"))
    if arm is not None:
        choices.append(Choice("arm", arm.id, ARM, why="ARM multiplies signed integers fastest, and exactly"))
    if fast is not None:
        why = "its products cannot saturate: exact and fast without VNNI"
        return (*choices, Choice("default", fast.id, why=why))
    return (*choices, Choice("default", winner.id, session=exact, why="8-bit weights, by exact kernels without VNNI"))


def saturates(artifact: Artifact) -> bool:
    """Says whether products of an artifact could saturate where its session option did not ask for exact kernels.

    The target `onnxruntime` sets the option wherever something could, also for dynamic INT8 and models quantised
    elsewhere.
    """
    return PRECISE in artifact.session


def _comparable(candidate: Candidate, winner: Candidate) -> bool:
    """Says whether `candidate` was proven to be as good a choice: within the budget, in integers, run alike."""
    alike = (candidate.target, candidate.threads, candidate.batch) == (winner.target, winner.threads, winner.batch)
    whole = candidate.precision == winner.precision and candidate.artifact is not None
    return alike and whole and candidate.verdict == MET and candidate.measurement is not None


def _fastest(candidates: Sequence[Candidate]) -> Candidate | None:
    return max(candidates, key=_speed, default=None)


def _speed(candidate: Candidate) -> float:
    timing = candidate.measurement.timing if candidate.measurement else None
    return timing.speedup.value if timing else 0.0
