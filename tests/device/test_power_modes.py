"""Power modes of a Jetson, at the seam of its programs, and governors of a processor."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from edgewright.core.codec import decode_stored, encode_json
from edgewright.core.measurement import Conditions, Ratio, Summary, Timing
from edgewright.core.power import PowerSweep
from edgewright.core.telemetry import Telemetry
from edgewright.device.power import Machine, chosen, find_modes, in_mode, keep, known, restore_left_over, sweep
from edgewright.device.power.nvpmodel import parse_modes, parse_query
from edgewright.errors import ConnectionLost, StepFailed, UsageError

CONF = """\
###########################
# This template is for the modes of the board
###########################
< PARAM TYPE=FILE NAME=CPU_A78_0 >
MAX_FREQ_NODE /sys/devices/system/cpu/cpu0/cpufreq/scaling_max_freq

< POWER_MODEL ID=0 NAME=15W >
CPU_ONLINE CORE_0 1

< POWER_MODEL ID=1 NAME=7W >
CPU_ONLINE CORE_0 1

< POWER_MODEL NAME=MAXN_SUPER ID=2 >
CPU_ONLINE CORE_0 1

< POWER_MODEL ID=3 NAME=40W >
CPU_ONLINE CORE_0 1

# mandatory section to configure the default power mode
< PM_CONFIG DEFAULT=0 >
"""
NVPMODEL = """\
#!/bin/sh
state="{folder}/mode"
case "$1" in
  -q) number=$(cat "$state")
      echo "NV Fan Mode:quiet"
      echo "NV Power Mode: $(echo '15W 7W MAXN_SUPER 40W' | cut -d' ' -f$((number + 1)))"
      echo "$number" ;;
  -m) echo "$2" >> "{folder}/asked"
      if [ "$2" = 3 ]; then
        echo "NVPM WARN: Reboot required for changing to this power mode: 3"
        echo "NVPM WARN: DO YOU WANT TO REBOOT NOW? enter YES/yes to confirm:"
        read answer; case "$answer" in YES|yes) touch "{folder}/rebooted";; esac
        exit 0
      fi
      if [ -e "{folder}/refuses" ]; then echo "NVPM ERROR: failed to set power mode!"; exit 255; fi
      echo "$2" > "$state" ;;
esac
"""
JETSON_CLOCKS = """\
#!/bin/sh
case "$1" in
  --store) cp "{folder}/clocks" "$2" ;;
  --restore) cp "$2" "{folder}/clocks" ;;
  *) echo fixed > "{folder}/clocks" ;;
esac
"""


@pytest.fixture
def jetson(tmp_path: Path) -> Machine:
    """A Jetson whose `nvpmodel` keeps its mode in a file, as the real one does."""
    programs = tmp_path / "bin"
    programs.mkdir()
    for name, text in (("nvpmodel", NVPMODEL), ("jetson_clocks", JETSON_CLOCKS)):
        (programs / name).write_text(text.replace("{folder}", str(programs)))
        (programs / name).chmod(0o755)
    (programs / "mode").write_text("0\n")
    (programs / "clocks").write_text("as they were\n")
    (tmp_path / "etc").mkdir()
    (tmp_path / "etc/nvpmodel.conf").write_text(CONF)
    (programs / "sudo").write_text('#!/bin/sh\nshift; exec "$@"\n')
    (programs / "sudo").chmod(0o755)
    return Machine(tmp_path, f"{programs}:/usr/bin:/bin")


@pytest.fixture(autouse=True)
def _sudo(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}:{os.environ['PATH']}")
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))


def mode(machine: Machine) -> str:
    return (machine.root / "bin/mode").read_text().strip()


def timing(p50: float, energy: float | None, telemetry: Telemetry | None = None) -> Timing:
    summary = Summary(p50, p50, p50, p50, p50, 10)
    return Timing(
        latency_ms=summary,
        reference_ms=summary,
        speedup=Ratio(1.0, 1.0, 1.0),
        throughput=1000.0 / p50,
        load_ms=1.0,
        size_bytes=1,
        peak_memory_bytes=1,
        energy_mj=energy,
        energy_note="",
        conditions=Conditions(1, 1, None, None, 0.0, 10, 20, "", telemetry),
    )


FIGURES = {"0": (10.0, 100.0), "1": (25.0, 125.0), "2": (5.0, 75.0)}
"""Mode -> milliseconds and millijoules per run."""


def test_configuration_and_query() -> None:
    assert parse_modes(CONF) == {"15W": 0, "7W": 1, "MAXN_SUPER": 2, "40W": 3}
    assert parse_query("NV Fan Mode:quiet\nNV Power Mode: MODE_15W\n2\n") == 2
    assert parse_query("NVPM ERROR: optMask is 1, no request for power mode") is None


def measured(jetson: Machine, *names: str, energy: bool = True, telemetry: Telemetry | None = None) -> PowerSweep:
    """Sweeps as a device does, with figures that follow from the mode that it is really in."""

    def measure(name: str) -> Timing:
        with in_mode(name, jetson, settle=0.0):
            latency, joules = FIGURES[mode(jetson)]
            return timing(latency, joules if energy else None, telemetry)

    return sweep(known(find_modes(jetson)), names, measure)


def test_modes_by_name(jetson: Machine) -> None:
    found = known(find_modes(jetson))
    assert (found.kind, found.current) == ("nvpmodel", "15W")
    assert chosen("all", found.names, found.kind) == ("15W", "7W", "MAXN_SUPER", "40W")
    assert chosen("mode_7w, maxnsuper", found.names, found.kind) == ("7W", "MAXN_SUPER")
    assert chosen(["7W", "MODE_7W"], found.names, found.kind) == ("7W",)
    with pytest.raises(UsageError) as raised:
        chosen("MAXN_SUPR", found.names, found.kind)
    assert raised.value.hint == 'did you mean "MAXN_SUPER"?'


def test_sweep_tells_the_fastest_and_the_most_frugal_and_puts_the_first_one_back(jetson: Machine) -> None:
    found = measured(jetson, "7W", "MAXN_SUPER", "15W", telemetry=Telemetry(1.0, 10, power_w=9.0))
    assert mode(jetson) == "0"
    assert (jetson.root / "bin/asked").read_text().split() == ["1", "0", "2", "0"], "each mode leaves as it found"
    assert [point.mode for point in found.points] == ["7W", "MAXN_SUPER", "15W"]
    assert [point.throughput for point in found.points] == [40.0, 200.0, 100.0]
    assert [point.per_watt for point in found.points] == [8.0, pytest.approx(13.333, abs=1e-3), 10.0]
    assert [point.watts for point in found.points] == [5.0, pytest.approx(15.0), 10.0]
    assert (found.fastest, found.best, found.before, found.kind) == ("MAXN_SUPER", "MAXN_SUPER", "15W", "nvpmodel")
    assert found.points[0].timing is not None
    assert found.points[0].timing.conditions.telemetry == Telemetry(1.0, 10, power_w=9.0, power_mode="7W")
    assert decode_stored(PowerSweep, encode_json(found)) == found


def test_without_a_power_sensor_the_fastest_is_told_and_no_best(jetson: Machine) -> None:
    found = measured(jetson, "7W", "15W", energy=False)
    assert (found.fastest, found.best) == ("15W", "")


def test_a_mode_that_needs_a_restart_is_reported_and_nothing_is_restarted(jetson: Machine) -> None:
    refused, taken = measured(jetson, "40W", "7W").points
    assert refused.timing is None
    assert "restart" in refused.reason
    assert taken.throughput == 40.0
    assert not (jetson.root / "bin/rebooted").exists()
    assert mode(jetson) == "0"


def test_an_error_while_measuring_puts_the_mode_back(jetson: Machine) -> None:
    def fails(name: str) -> Timing:
        with in_mode(name, jetson, settle=0.0):
            assert mode(jetson) == "1"
            raise ConnectionLost("cut", hint="")

    with pytest.raises(ConnectionLost):
        sweep(known(find_modes(jetson)), ("7W",), fails)
    assert mode(jetson) == "0"


def test_no_mode_changes_nothing(jetson: Machine) -> None:
    with in_mode("", jetson):
        assert mode(jetson) == "0"
    assert not (jetson.root / "bin/asked").exists()


def test_fixed_clocks_are_stored_first_and_restored_last(jetson: Machine) -> None:
    clocks = jetson.root / "bin/clocks"
    modes = find_modes(jetson, fixed_clocks=True)
    with keep(modes, machine=jetson):
        modes.choose("7W")
        assert clocks.read_text() == "fixed\n"
    assert clocks.read_text() == "as they were\n"


def test_two_sweeps_at_once_are_refused(jetson: Machine) -> None:
    modes = find_modes(jetson)
    with keep(modes, machine=jetson):
        modes.choose("7W")
        assert restore_left_over(machine=jetson) == "", "a sweep at work is left alone"
        assert mode(jetson) == "1"
        with pytest.raises(StepFailed, match="another process"), keep(modes, machine=jetson):
            pass
    assert restore_left_over(machine=jetson) == ""


PROGRAM = """
import signal, sys, time
from pathlib import Path
from edgewright.device.power import Machine, find_modes, keep
signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell starts what is in the background with it ignored
machine = Machine(Path(sys.argv[1]), sys.argv[2])
with keep(find_modes(machine), machine=machine) as modes:
    modes.choose("7W")
    print("changed", flush=True)
    time.sleep(60)
"""


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP, signal.SIGINT, signal.SIGKILL])
def test_a_sweep_that_is_ended(jetson: Machine, number: signal.Signals) -> None:
    command = [sys.executable, "-c", PROGRAM, str(jetson.root), str(jetson.path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "changed\n"
        assert mode(jetson) == "1"
        process.send_signal(number)
        process.wait(timeout=20)
    if number == signal.SIGKILL:
        assert mode(jetson) == "1"
        assert restore_left_over(machine=jetson) == "15W"
    assert mode(jetson) == "0"
    assert restore_left_over(machine=jetson) == "", "done once"


def test_the_next_sweep_follows_the_note_of_one_that_was_killed(jetson: Machine) -> None:
    state = jetson.root / "state/edgewright"
    state.mkdir(parents=True)
    (state / "power-mode.json").write_text('{"kind": "nvpmodel", "snapshot": {"mode": "15W"}}')
    (jetson.root / "bin/mode").write_text("1\n")
    modes = find_modes(jetson)
    with keep(modes, machine=jetson):
        modes.choose("MAXN_SUPER")
    assert mode(jetson) == "0", "not 7W, in which the killed one left it"


def test_a_mode_that_cannot_be_put_back_is_said_and_stays_on_record(jetson: Machine) -> None:
    modes = find_modes(jetson)

    def sabotaged() -> None:
        with keep(modes, machine=jetson):
            modes.choose("7W")
            (jetson.root / "bin/refuses").touch()

    with pytest.raises(StepFailed, match="not the one it was") as raised:
        sabotaged()
    assert "power-mode.json" in raised.value.hint
    (jetson.root / "bin/refuses").unlink()
    assert restore_left_over(machine=jetson) == "15W"
    assert mode(jetson) == "0"


def governed(root: Path) -> Machine:
    for index, now in enumerate(("schedutil", "powersave")):
        folder = root / f"sys/devices/system/cpu/cpufreq/policy{index}"
        folder.mkdir(parents=True)
        (folder / "scaling_available_governors").write_text("performance powersave schedutil userspace\n")
        (folder / "scaling_governor").write_text(now)
    return Machine(root, "")


def test_governors(tmp_path: Path) -> None:
    machine = governed(tmp_path)
    modes = find_modes(machine)
    assert modes.kind == "governor"
    assert modes.names() == ("performance", "powersave", "schedutil")
    assert modes.current() == "schedutil, powersave"
    with in_mode("performance", machine, settle=0.0):
        assert modes.current() == "performance"
    assert modes.snapshot() == {"policy0": "schedutil", "policy1": "powersave"}


def test_a_machine_without_modes(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no power modes"):
        find_modes(Machine(tmp_path, ""))
