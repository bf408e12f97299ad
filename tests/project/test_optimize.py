from __future__ import annotations

import json
import os
import resource
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from edgewright.bundle import verify
from edgewright.core.codec import decode_stored
from edgewright.core.recipe import REFUSED, Study
from edgewright.project.config import load_project
from edgewright.project.optimize import optimize
from edgewright.store.cache import Cache


def run(toml: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "edgewright.cli", "optimize", str(toml), *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def second_run(toml: Path) -> list[str]:
    """Runs an unchanged project again, which must start no worker in less than 2 s; returns the heavy imports."""
    started = resource.getrusage(resource.RUSAGE_CHILDREN).ru_utime
    again = subprocess.run([sys.executable, "-c", NO_WORK, str(toml)], capture_output=True, text=True, check=False)
    assert again.returncode == 0, again.stderr
    assert resource.getrusage(resource.RUSAGE_CHILDREN).ru_utime - started < 2, "seconds of the processor"
    return [name for name in again.stdout.split() if name in HEAVY]


NO_WORK = """
import sys
from edgewright.engine import execute
def no_worker(*given):
    raise AssertionError(f"a worker was started for {given[0]['step']}")
execute.run_in_worker = no_worker
from edgewright.cli.main import main
sys.argv = ["edgewright", "optimize", sys.argv[1]]
try:
    main()
except SystemExit as end:
    assert not end.code, end.code
print(*sys.modules)
"""
HEAVY = {
    "ai_edge_litert", "cv2", "cyclonedx", "jinja2", "nncf", "onnx", "onnx_ir", "onnxruntime", "onnxscript", "openvino",
    "plotly", "scipy", "sympy", "torch",
}  # fmt: skip


@pytest.mark.slow
def test_the_whole_line(tiny):
    outcome = optimize(load_project(tiny))
    study = decode_stored(Study, outcome.study_json.read_bytes())
    assert outcome.met
    winner = study.best("onnxruntime")
    tried = [c for c in study.candidates if c.verdict != REFUSED]
    assert len(tried) >= 3
    assert all(c.why for c in study.candidates)
    assert winner.measurement is not None
    assert winner.measurement.test is not None
    assert winner.measurement.test.difference[0].samples == 300
    assert study.reference.measurement is not None
    assert study.reference.measurement.tune.figures[0].value > 0.85
    assert any("int8" in c.recipe.title and c.precision == "int8" for c in tried)
    assert verify(outcome.bundles["onnxruntime"]).ok
    for name in ("report.html", "report.json", "junit.xml"):
        assert (outcome.folder / name).stat().st_size > 500

    assert second_run(tiny) == []


@pytest.mark.slow
def test_a_budget_nobody_meets_gives_the_nearest_and_exit_code_1(tiny):
    text = tiny.read_text().replace("quality_drop = 0.02", "quality_floor = 0.999\nsize_bytes = 10")
    tiny.write_text(text.replace("[search]\n", '[search]\nladder = ["static-int8", "weights", "mixed"]\n'))
    found = run(tiny, "--json")
    assert found.returncode == 1, found.stderr
    study = json.loads(found.stdout)
    assert study["met"] == {"onnxruntime": False}
    assert study["winners"]["onnxruntime"]


def _records(cache: Path) -> dict[str, bytes]:
    """Every finished step and its record, which holds how long it took: made again, it would differ."""
    return {path.name: path.read_bytes() for path in (cache / "actions").glob("*/*.json")}


def _kill_after(toml: Path, seconds: float) -> bool:
    """Starts a run and kills it with SIGKILL; returns whether it was still running."""
    command = [sys.executable, "-m", "edgewright.cli", "optimize", str(toml), "--quiet"]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        process.wait(seconds)
    except subprocess.TimeoutExpired:
        process.send_signal(signal.SIGKILL)
        process.wait()
        return True
    return False


def _killed_at(toml: Path, root: Path, monkeypatch, seconds: float) -> int:
    """Kills a run, lets the next one finish, and returns how many steps the killed one had finished."""
    cache = root / f"cache-{seconds:.3f}"
    monkeypatch.setenv("EDGEWRIGHT_CACHE", str(cache))
    output = toml.parent / "edgewright-out"
    if output.exists():
        output.rename(root / f"out-{seconds:.3f}")
    killed = _kill_after(toml, seconds)
    before = _records(cache)
    outcome = optimize(load_project(toml), cache=Cache(cache))
    after = _records(cache)
    assert outcome.met
    assert {name: after.get(name) for name in before} == before, f"killed={killed} at {seconds:.2f} s: made again"
    assert outcome.workers == len(after) - len(before), "only what was missing is made, each step once"
    assert verify(outcome.bundles["onnxruntime"]).ok
    assert not list(output.glob("**/*.tmp"))
    return len(before)


def _kill_at_moments(toml: Path, root: Path, monkeypatch, moments: int) -> None:
    started = time.monotonic()
    optimize(load_project(toml), cache=Cache(Path(os.environ["EDGEWRIGHT_CACHE"])))
    length = time.monotonic() - started
    finished = [_killed_at(toml, root, monkeypatch, length * (index + 0.5) / moments) for index in range(moments)]
    print("steps finished before each kill:", finished)
    assert len(set(finished)) > 1, "the kills hit different phases"


@pytest.mark.slow
def test_killed_at_three_moments_the_next_run_goes_on(tiny, tmp_path, monkeypatch):
    tiny.write_text(tiny.read_text().replace("[search]\n", '[search]\nladder = ["dynamic-int8"]\n'))
    _kill_at_moments(tiny, tmp_path, monkeypatch, 3)


@pytest.mark.prove
def test_killed_at_twenty_moments_the_next_run_goes_on(tiny, tmp_path, monkeypatch):
    _kill_at_moments(tiny, tmp_path, monkeypatch, 20)
