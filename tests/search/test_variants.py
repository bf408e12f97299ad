"""Which machines run which candidate, decided from what was measured."""

from __future__ import annotations

from dataclasses import replace

import pytest

from edgewright.core.digest import digest_bytes
from edgewright.core.measurement import Conditions, Device, Measurement, Quality, Ratio, Summary, Timing
from edgewright.core.recipe import BROKE, MET, Candidate, Recipe
from edgewright.core.target import Artifact
from edgewright.core.variant import Choice
from edgewright.search.variants import PRECISE, saturates, variants

DEVICE = Device("d", "x86_64", "", 2, ("avx2", "avx512_vnni"), 0, "")
SCHEMES = ("u8s8", "u8s7", "s8s8")


def candidate(name: str, speed: float, verdict: str = MET, precision: str = "int8") -> Candidate:
    summary = Summary(1, 1, 1, 1, 1, 10)
    conditions = Conditions(1, 1, None, None, 0.0, 3, 3)
    timing = Timing(summary, summary, Ratio(speed, speed, speed), 1.0, 1.0, 1, 1, None, "", conditions)
    digest = digest_bytes(name.encode())
    measured = Measurement(digest, DEVICE, Quality((), (), {}, 0.0), None, timing)
    return Candidate(
        name, "onnxruntime", Recipe(name, ()), 1, 1, artifact=digest, precision=precision, measurement=measured,
        verdict=verdict,
    )  # fmt: skip


def decided(winner: Candidate, *tried: Candidate) -> tuple[Choice, ...]:
    return variants(
        winner,
        (winner, *tried),
        safe=lambda c: not c.id.startswith("u8s8"),
        signed=lambda c: c.id.startswith("s8s8"),
    )


def kinds(choices: tuple[Choice, ...]) -> list[tuple[str, str, bool]]:
    return [(c.name, c.candidate, c.session.get(PRECISE) == "1") for c in choices]


@pytest.mark.parametrize("name", ["u8s7", "s8s8", "float"])
def test_a_winner_that_cannot_saturate_is_one_file(name: str) -> None:
    assert decided(candidate(name, 2.0), candidate("u8s8", 1.9)) == ()


def test_without_another_the_winner_is_one_file_with_exact_kernels() -> None:
    winner = candidate("u8s8", 2.0)
    assert kinds(decided(winner)) == [("default", "u8s8", True)]
    broke = candidate("u8s7", 2.0, BROKE)
    floating = candidate("float", 3.0, precision="float32")
    batched = replace(candidate("u8s7 b8", 9.0), batch=8)
    assert kinds(decided(winner, broke, floating, batched)) == [("default", "u8s8", True)]


def test_machines_with_vnni_run_the_winner_and_others_the_fastest_exact_one() -> None:
    found = decided(candidate("u8s8", 2.0), candidate("u8s7 mse", 1.8), candidate("u8s7", 1.7))
    assert kinds(found) == [("x86-vnni", "u8s8", True), ("default", "u8s7 mse", False)]
    assert found[0].when.fits(DEVICE)
    assert not found[0].when.fits(replace(DEVICE, isa=("avx2",)))
    assert found[-1].when.fits(replace(DEVICE, machine="riscv64"))


def test_arm_takes_signed_integers_where_there_are_any() -> None:
    found = decided(candidate("u8s8", 2.0), candidate("s8s8", 1.2), candidate("u8s7", 1.7))
    assert kinds(found) == [("x86-vnni", "u8s8", True), ("arm", "s8s8", False), ("default", "u8s7", False)]
    alone = decided(candidate("u8s8", 2.0), candidate("s8s8", 1.2))
    assert kinds(alone) == [("arm", "s8s8", False), ("default", "u8s8", True)]


def test_what_an_artifact_says() -> None:
    plain = Artifact("t", "onnxruntime", "1", ">=1", ("model.onnx",), (), (), "int8")
    assert not saturates(plain)
    assert saturates(replace(plain, session={PRECISE: "1"}))
    assert saturates(replace(plain, session={PRECISE: "0"})), "asked for by the user, against what is safe"
