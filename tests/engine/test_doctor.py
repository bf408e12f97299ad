"""What `edgewright doctor` finds out, and that it never waits long nor imports a framework."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest

from edgewright.core.measurement import Device
from edgewright.engine import doctor
from edgewright.engine.doctor.asking import Program, programs, providers
from edgewright.engine.doctor.machine import machine_state
from edgewright.engine.doctor.traps import KNOWN, traps, unmet
from edgewright.store.cache import Cache

MACHINE = Device("local", "x86_64", "test", 4, ("avx2", "avx512_vnni"), 8 << 30, "Linux")
MET = {
    "numpy-coremltools": {"coremltools": "9.0", "numpy": "2.3.4"},
    "two-onnxruntimes": {"onnxruntime": "1.31.1", "onnxruntime-gpu": "1.31.1"},
    "two-opencvs": {"opencv-python": "4.10.0.84", "opencv-python-headless": "4.10.0.84"},
    "opencv-gui": {"opencv-python": "4.10.0.84"},
    "executorch-torch": {"executorch": "1.5.1", "torch": "2.12.0+cpu"},
    "old-onnxruntime": {"onnxruntime": "1.19.2"},
}
NOT_MET = {
    "numpy-coremltools": {"coremltools": "9.0", "numpy": "2.4.0"},
    "two-onnxruntimes": {"onnxruntime-gpu": "1.31.1"},
    "two-opencvs": {"opencv-python-headless": "4.10.0.84"},
    "opencv-gui": {"opencv-contrib-python-headless": "4.10.0.84"},
    "executorch-torch": {"executorch": "1.5.1", "torch": "2.13.0+cpu"},
    "old-onnxruntime": {"onnxruntime": "1.20.0"},
}


@pytest.mark.parametrize("name", [known.trap.name for known in KNOWN])
def test_a_trap_is_told_where_it_is_and_only_there(name: str) -> None:
    assert [trap.name for trap in traps(MET[name])] == [name]
    assert traps(NOT_MET[name]) == ()


def test_requirements_that_are_not_met() -> None:
    lines = {"executorch": ("torchao<0.19,>=0.18.0", 'ghost; extra == "dev"', 'absent; python_version < "3"')}
    here = {"executorch": "1.5.1", "torchao": "0.20.0"}
    (found,) = unmet(lines, here)
    assert "torchao<0.19,>=0.18.0, found 0.20.0" in found.what
    assert unmet(lines, {**here, "torchao": "0.18.1"}) == ()


def script(path: Path, body: str) -> str:
    path.write_text(f"#!/bin/sh\n{body}\n")
    path.chmod(0o755)
    return str(path)


def test_programs_are_asked_for_a_bounded_time(tmp_path: Path) -> None:
    slow = Program("slow", (script(tmp_path / "slow", "exec sleep 20"),), ("-v",), "nothing", "nowhere")
    fast = Program("fast", (script(tmp_path / "fast", "echo fast version 3.14.1 >&2"),), ("-v",), "nothing", "nowhere")
    gone = Program("gone", ("no-such-program-here",), ("-v",), "nothing", "apt install it")
    before = time.monotonic()
    found = {state.name: state for state in programs((slow, fast, gone), seconds=0.5)}
    assert time.monotonic() - before < 5
    assert (found["slow"].path, found["slow"].version) == (slow.commands[0], "")
    assert found["fast"].version == "3.14.1"
    assert (found["gone"].path, found["gone"].install) == ("", "apt install it")


def test_an_onnx_runtime_that_fails_or_hangs_is_a_problem(tmp_path: Path) -> None:
    broken = providers(script(tmp_path / "broken", "echo 'ImportError: libfoo.so' >&2; exit 1"))
    assert broken.problem == "ONNX Runtime cannot be imported: ImportError: libfoo.so"
    hangs = providers(script(tmp_path / "hangs", "exec sleep 20"), seconds=0.3)
    assert "did not answer" in hangs.problem
    told = providers(script(tmp_path / "told", 'echo \'["1.2.3", ["AExecutionProvider", "CPUExecutionProvider"]]\''))
    assert told == doctor.Providers("1.2.3", ("AExecutionProvider", "CPUExecutionProvider"))


def test_what_the_machine_means_for_int8_and_for_measuring(tmp_path: Path) -> None:
    quiet = machine_state(MACHINE, tmp_path)
    assert quiet.integer_dot
    assert not any("8-bit" in remark for remark in quiet.remarks)
    (tmp_path / "devices/system/cpu/cpu0/cpufreq").mkdir(parents=True)
    (tmp_path / "devices/system/cpu/cpu0/cpufreq/scaling_governor").write_text("powersave\n")
    (tmp_path / "class/thermal/thermal_zone0").mkdir(parents=True)
    (tmp_path / "class/thermal/thermal_zone0/temp").write_text("91000\n")
    hot = machine_state(replace(MACHINE, isa=("avx2",)), tmp_path)
    told = " ".join(hot.remarks)
    assert not hot.integer_dot
    assert all(word in told for word in ("no VNNI", "powersave", "91.0 °C"))


def test_problems_are_what_strict_fails_on(tmp_path: Path) -> None:
    (trap,) = traps(MET["opencv-gui"])
    worn = doctor.EnvironmentState("tensorflow", "stale", "Keras", "edgewright toolchain install tensorflow", 9, True)
    absent = replace(worn, name="other", state="absent")
    base = doctor.Diagnosis(
        edgewright="1",
        python="3",
        targets=(doctor.TargetState("null", True), doctor.TargetState("litert", False, install="pip")),
        runtimes=(),
        environments=(worn, absent),
        providers=doctor.Providers(problem="no answer"),
        programs=(),
        machine=machine_state(MACHINE),
        cache=doctor.cache_state(Cache(tmp_path / "none")),
        traps=(trap,),
    )
    assert not base.usable, "a target that computes nothing is no use"
    assert [problem.split(":")[0] for problem in base.problems] == [
        trap.what,
        "toolchain tensorflow is stale",
        "no answer",
    ]
    assert replace(base, targets=(doctor.TargetState("litert", True),)).usable


def test_looking_imports_no_framework() -> None:
    code = (
        "import sys; from edgewright.engine import doctor; from edgewright.runtimes._machine import local_device\n"
        "names = [t.name for t in doctor.targets(local_device())]\n"
        "doctor.runtimes(), doctor.environments(), doctor.traps(doctor.installed()), doctor.cache_state()\n"
        "heavy = {'torch', 'onnxruntime', 'openvino', 'onnx_ir', 'coremltools', 'executorch', 'tensorflow'}\n"
        "print(sorted(heavy & set(sys.modules)), 'onnxruntime' in names)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["[]", "True"]


@pytest.mark.slow
def test_the_command_as_a_program_reads_it() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "edgewright.cli", "doctor", "--json"], capture_output=True, text=True, check=False
    )
    found = json.loads(done.stdout)
    assert done.returncode == (0 if found["usable"] else 3)
    assert {row["name"] for row in found["targets"]} >= {"onnxruntime", "openvino", "litert"}
    assert "CPUExecutionProvider" in found["providers"]["names"]
    assert found["machine"]["device"]["cores"] >= 1
