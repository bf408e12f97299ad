"""A board that is made up at the seam of the operating system, reached as any device is: power modes and telemetry."""

from __future__ import annotations

import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgewright.core.measured import Measured
from edgewright.device.timing.timed import Question
from edgewright.errors import UsageError
from edgewright.measure.devices import connect
from edgewright.project.measure import Job, measure
from edgewright.report.devices import devices_html, devices_table

pytestmark = pytest.mark.slow

SYS = {
    "class/thermal/thermal_zone0/type": "gpu-thermal",
    "class/thermal/thermal_zone0/temp": "52000",
    "class/hwmon/hwmon0/name": "ina3221",
    "class/hwmon/hwmon0/in1_label": "VDD_IN",
    "class/hwmon/hwmon0/in1_input": "5000",
    "class/hwmon/hwmon0/curr1_input": "1000",
    "class/hwmon/hwmon1/oc1_event_cnt": "0",
    "devices/system/cpu/cpufreq/policy0/scaling_cur_freq": "1000000",
    "devices/system/cpu/cpufreq/policy0/cpuinfo_max_freq": "1000000",
}
CONF = "< POWER_MODEL ID=0 NAME=15W >\n< POWER_MODEL ID=1 NAME=7W >\n< POWER_MODEL ID=2 NAME=40W >\n"
NVPMODEL = """\
#!/bin/sh
cd "{root}"
case "$1" in
  -q) echo "NV Power Mode: some"; cat mode ;;
  -m) if [ "$2" = 2 ]; then echo "Reboot required for changing to this power mode"; exit 0; fi
      echo "$2" > mode; echo $((1000 - $2 * 600)) > sys/class/hwmon/hwmon0/curr1_input ;;
esac
"""
BOARD = """\
from pathlib import Path
from edgewright.device.power import machine, sweep
from edgewright.runtimes._telemetry import system
machine.Machine.__init__.__defaults__ = (Path({root!r}), {path!r})
system.LocalSystem.__init__.__defaults__ = (Path({root!r}), {path!r})
sweep.in_mode.__wrapped__.__defaults__ = (None, 0.0)
"""
"""Read by every interpreter on the board as it starts: its files and programs are those of the board."""


@pytest.fixture
def board(tmp_path: Path) -> str:
    """Returns the address of a board with a power meter, in mode 15W."""
    root = tmp_path / "board"
    for name, text in SYS.items():
        path = root / "sys" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text + "\n")
    (root / "bin").mkdir()
    (root / "bin/nvpmodel").write_text(NVPMODEL.format(root=root))
    (root / "bin/sudo").write_text('#!/bin/sh\nshift; exec "$@"\n')
    (root / "mode").write_text("0\n")
    (root / "etc").mkdir()
    (root / "etc/nvpmodel.conf").write_text(CONF)
    (root / "site").mkdir()
    (root / "site/sitecustomize.py").write_text(BOARD.format(root=str(root), path=f"{root / 'bin'}:/usr/bin:/bin"))
    python = root / "bin/python"
    python.write_text(
        f'#!/bin/sh\nexport PYTHONPATH="{root}/site" XDG_STATE_HOME="{root}/state" PATH="{root}/bin:$PATH"\n'
        f'exec "{sys.executable}" "$@"\n'
    )
    for program in ("nvpmodel", "sudo", "python"):
        (root / "bin" / program).chmod(0o755)
    return f"local?python={python}&root={root / 'device'}&name=orin"


@contextmanager
def overloaded(counter: Path) -> Iterator[None]:
    """Lets the board count over-current events, one every fifth of a second."""
    ended = threading.Event()

    def count() -> None:
        events = 0
        while not ended.wait(0.2):
            events += 1
            counter.write_text(f"{events}\n")

    thread = threading.Thread(target=count)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()


def subject(linear: Any) -> Path:
    return Path(linear("model", np.random.default_rng(1).normal(size=(256, 256)) / 16, batch=1, layers=12))


def test_every_power_mode_is_measured_on_the_board_and_it_is_left_as_it_was(
    board: str, linear: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    job = Job(subject(linear), Question(max_seconds=1.0), power_modes="7W,40W,15W")
    ((found,), _) = measure(job, [connect(board)])
    assert (tmp_path / "board/mode").read_text() == "0\n"
    assert isinstance(found, Measured)
    assert found.power is not None
    frugal, refused, usual = found.power.points
    assert (found.power.kind, found.power.before) == ("nvpmodel", "15W")
    assert "restart" in refused.reason
    for point, watts in ((frugal, 2.0), (usual, 5.0)):
        assert point.timing is not None
        watched = point.timing.conditions.telemetry
        assert watched is not None
        assert (watched.power_mode, watched.power_w, watched.throttled) == (point.mode, watts, False)
        assert (watched.start_c, watched.clock_least, watched.sensor) == (52.0, 1.0, "gpu-thermal")
        assert point.timing.energy_note == "sampled power of VDD_IN (whole module)"
        # Millijoules per run are watts times the time of a run; between two runs of a block passes a little, too.
        assert point.timing.energy_mj == pytest.approx(watts * point.timing.latency_ms.mean, rel=0.25)
    assert found.power.best == "7W"
    assert found.timing.conditions.telemetry is not None
    assert found.timing.conditions.telemetry.power_mode == ""
    page = devices_html([found])
    assert 'id="device-0-power-frugal"' in page
    assert 'id="device-0-0-heat"' in page
    assert "needs a restart" in page
    devices_table([found])
    assert "the most for its power" in capsys.readouterr().out.replace("\n", " ")


def test_a_lab_device_is_held_in_its_mode_and_a_wrong_one_is_refused(board: str, linear: Any, tmp_path: Path) -> None:
    artifact = subject(linear)
    inputs = tmp_path / "0.npz"
    np.savez(inputs, x=np.zeros((1, 256), np.float32))
    with connect(f"{board}&power_mode=7w") as device:
        assert device.power_modes().names == ("15W", "7W", "40W")
        with overloaded(tmp_path / "board/sys/class/hwmon/hwmon1/oc1_event_cnt"):
            timing = device.time(artifact, None, [inputs], Question())
        assert timing.conditions.note.endswith("throttled during this measurement: over-current event OC1")
        assert timing.conditions.telemetry is not None
        assert timing.conditions.telemetry.throttled
        assert (timing.conditions.telemetry.power_mode, timing.conditions.telemetry.power_w) == ("7W", 2.0)
        with pytest.raises(UsageError, match="is not one of this device"):
            device.time(artifact, None, [inputs], Question(power_mode="9W"))
    assert (tmp_path / "board/mode").read_text() == "0\n"
