"""Planted faults do harm, are found by `why`, and are repaired by the command it suggests."""

from __future__ import annotations

import shlex
from pathlib import Path

import pytest
from typer.testing import CliRunner

from edgewright.core.parity import Diagnosis, Suspect
from edgewright.project.why import why
from edgewright.runtimes._machine import local_device
from edgewright.testing import faults

ENOUGH = 0.9


def explained(case: faults.Case, monkeypatch: pytest.MonkeyPatch) -> Diagnosis:
    monkeypatch.chdir(case.folder)
    home, deployed = case.projects
    return why("reference.onnx", "candidate", home, deployed if deployed != home else "", samples=48)


def right(case: faults.Case, suspect: Suspect) -> bool:
    return suspect.cause == case.truth.cause and (not case.truth.nodes or suspect.node in case.truth.nodes)


def repaired(case: faults.Case, command: str) -> float:
    """Runs a suggested command in this process and scores what it made."""
    from edgewright.cli import main

    if not main.app.registered_commands:
        main._register()
    model, project = case.folder / "candidate", case.folder / case.projects[1]
    for part in command.split(" && "):
        words = shlex.split(part)
        done = CliRunner().invoke(main.app, words[1:], catch_exceptions=False)
        assert done.exit_code == 0, done.output
        out = case.folder / words[words.index("-o") + 1]
        model, project = (model, out) if out.suffix == ".toml" else (out, project)
    return case.score(model, project)


def test_kinds_that_do_no_harm_on_a_processor_are_left_out() -> None:
    kinds = faults.kinds_for(local_device())
    assert set(faults.KINDS) - set(kinds) <= {"accumulator saturation"}
    assert len(kinds) >= 21


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["dead range", "joined ranges", "outlier weights", "import attribute"])
def test_the_cause_comes_first(kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    case = faults.plant(kind, 77, tmp_path / "case")
    assert case.good - case.bad >= faults.LEAST_DROP
    found = explained(case, monkeypatch)
    assert found.stage == case.truth.stage
    assert right(case, found.suspects[0]), [(s.cause, s.node) for s in found.suspects[:3]]


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["channel order", "bias overflow"])
def test_the_suggested_command_repairs_it(kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EDGEWRIGHT_CACHE", str(tmp_path / "cache"))
    case = faults.plant(kind, 78, tmp_path / "case")
    assert not case.repaired(case.bad)
    found = explained(case, monkeypatch)
    assert right(case, found.suspects[0])
    assert case.repaired(repaired(case, found.suspects[0].fix))


@pytest.mark.slow
def test_a_sound_candidate_is_not_accused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The candidate of a pipeline fault is sound: beside its own project nothing is wrong with it."""
    case = faults.plant("channel order", 79, tmp_path / "case")
    monkeypatch.chdir(case.folder)
    found = why("reference.onnx", "candidate", "edgewright.toml", samples=48)
    assert found.stage == ""
    assert all(left > 14 for left in found.stages.values())


@pytest.mark.slow
def test_equal_seeds_give_equal_faults(tmp_path: Path) -> None:
    one, two = (faults.plant("layout", 80, tmp_path / name) for name in ("one", "two"))
    assert (one.family, one.truth, one.good, one.bad) == (two.family, two.truth, two.good, two.bad)
    assert (one.folder / "reference.onnx").read_bytes() == (two.folder / "reference.onnx").read_bytes()


@pytest.mark.prove
def test_every_kind_is_found_and_repaired(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EDGEWRIGHT_CACHE", str(tmp_path / "cache"))
    ranks, sound = [], []
    kinds = faults.kinds_for(local_device())
    for case in faults.generate(7, len(kinds) + 3, tmp_path / "cases", kinds):
        found = explained(case, monkeypatch)
        ranks.append(next((i for i, s in enumerate(found.suspects, 1) if right(case, s)), 99))
        sound.append(case.repaired(repaired(case, found.suspects[0].fix)))
    assert sum(rank == 1 for rank in ranks) >= ENOUGH * len(ranks)
    assert max(ranks) <= 3
    assert sum(sound) >= ENOUGH * len(sound)


@pytest.mark.slow
@pytest.mark.bench
def test_the_published_detector_is_explained(bench: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its boxes are joined with scores under the scores' scale, 0 to 0.996; all before that is exact."""
    monkeypatch.setenv("EDGEWRIGHT_BENCH", str(bench))
    example = Path(__file__).parents[2] / "examples" / "yolox_nano"
    folder = bench / "yolox_nano"
    broken = str(folder / "yolox_nano_only_int8_quantize.tflite")
    found = why(str(folder / "yolox_nano.onnx"), broken, str(example / "edgewright.toml"), samples=2)
    first = found.suspects[0]
    assert (found.stage, first.cause) == ("precision", "joined ranges")
    assert first.node.startswith("Concat")
    assert found.stages["conversion"] > 60
    assert "0 to 0.9961" in first.evidence
