"""Summaries and energy of a log."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgewright.core.codec import decode_stored, encode_json
from edgewright.core.measurement import Conditions
from edgewright.core.telemetry import Log, Telemetry
from edgewright.device.timing.telemetry import SERIES_POINTS, Watch, energy_mj, summarise, throttle_note
from edgewright.runtimes._remote import Start

LOG = Log(
    at=(10.0, 10.5, 11.0, 11.5),
    temperature=(50.0, None, 70.0, 65.0),
    clock=(1.0, 0.8, 0.6, 0.8),
    power=(None, 4.0, 8.0, 8.0),
    sensor="cpu-thermal",
    power_source="VDD_IN",
    reasons=("under-voltage",),
    observable=True,
    cost=0.001,
)


def test_summary() -> None:
    found = summarise(LOG, "15W")
    assert found is not None
    assert (found.start_c, found.peak_c, found.sensor) == (50.0, 70.0, "cpu-thermal")
    assert (found.clock_mean, found.clock_least) == (pytest.approx(0.8), 0.6)
    assert (found.gpu_clock_mean, found.power_mode) == (None, "15W")
    assert found.power_w == pytest.approx(20 / 3)
    assert (found.seconds, found.samples, found.throttled) == (1.5, 4, True)
    assert found.series.seconds == (0.0, 0.5, 1.0, 1.5)
    assert throttle_note(found) == "the device throttled during this measurement: under-voltage"


def test_a_device_that_says_nothing() -> None:
    assert summarise(Log()) is None
    assert throttle_note(None) == ""
    quiet = summarise(Log(at=(0.0, 1.0), clock=(1.0, 1.0)))
    assert quiet is not None
    assert quiet.throttled is None
    noted = summarise(Log(notes=("the battery is charging",)))
    assert noted is not None
    assert noted.samples == 0


def test_energy_is_the_power_of_the_runs_alone() -> None:
    assert energy_mj(LOG, [((10.5, 11.0), 3)]) == pytest.approx(1000.0)
    two = [((10.75, 11.0), 3), ((11.0, 11.25), 4)]
    assert energy_mj(LOG, two) == pytest.approx(1000 * (0.25 * 7 + 0.25 * 8) / 7)
    assert energy_mj(LOG, [((9.75, 10.25), 1)]) == pytest.approx(2000.0), "before the first sample its power counts"
    assert energy_mj(Log(), [((0.0, 1.0), 1)]) is None
    assert energy_mj(LOG, []) is None


def test_runs_from_before_the_device_was_watched_do_not_count() -> None:
    assert energy_mj(LOG, [((3.0, 4.0), 5), ((10.5, 11.0), 3)]) == pytest.approx(1000.0)
    assert energy_mj(LOG, [((3.0, 4.0), 5)]) is None


@given(
    st.lists(st.floats(0, 50), min_size=2, max_size=20),
    st.lists(st.tuples(st.floats(0, 30), st.floats(0, 30)), min_size=1, max_size=5),
)
def test_energy_lies_between_the_least_and_the_most_power(watts: list[float], ends: list[tuple[float, float]]) -> None:
    log = Log(at=tuple(float(i) for i in range(len(watts))), power=tuple(watts))
    spans = [(min(pair), max(pair)) for pair in ends]
    seen = [(start, end) for start, end in spans if end > 0 and start < log.at[-1]]
    seconds = sum(end - start for start, end in seen)
    found = energy_mj(log, [(span, 1) for span in spans])
    if not seen:
        assert found is None
        return
    assert found is not None
    share = 1000 * seconds / len(seen)
    assert min(watts) * share - 1e-6 <= found <= max(watts) * share + 1e-6


def test_a_plot_keeps_the_peak_and_the_dip() -> None:
    many = 1000
    degrees = [50.0] * many
    degrees[777] = 90.0
    clock = [1.0] * many
    clock[333] = 0.4
    found = summarise(Log(at=tuple(i / 10 for i in range(many)), temperature=tuple(degrees), clock=tuple(clock)))
    assert found is not None
    assert len(found.series.seconds) <= SERIES_POINTS
    assert (max(t or 0 for t in found.series.temperature), min(c or 9 for c in found.series.clock)) == (90.0, 0.4)
    assert found.series.power == ()


def test_a_study_from_before_telemetry_is_read() -> None:
    old = {"threads": 1, "batch": 1, "governor": None, "temperature_c": None, "load": 0.1, "rounds": 9, "warmup": 20}
    assert decode_stored(Conditions, json.dumps(old).encode()).telemetry is None
    new = Conditions(1, 1, None, None, 0.1, 9, 20, "", summarise(LOG))
    assert decode_stored(Conditions, encode_json(new)) == new
    assert isinstance(new.telemetry, Telemetry)


def test_a_device_is_watched_from_a_process_of_its_own(tmp_path: Path) -> None:
    zone = tmp_path / "sys/class/thermal/thermal_zone0"
    zone.mkdir(parents=True)
    (zone / "type").write_text("cpu-thermal\n")
    (zone / "temp").write_text("48000\n")
    program = (
        "import functools, pathlib\n"
        "from edgewright.runtimes import host\n"
        "from edgewright.runtimes._telemetry import LocalSystem, requests\n"
        f"requests.LocalSystem = functools.partial(LocalSystem, pathlib.Path({str(tmp_path)!r}), '')\n"
        "host.main()\n"
    )
    with Watch(Start((sys.executable, "-c", program))) as watch:
        (zone / "temp").write_text("61000\n")
        found = summarise(watch.finish())
    assert found is not None
    assert (found.start_c, found.peak_c, found.throttled) == (48.0, 61.0, None)
