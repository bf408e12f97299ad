"""Power modes and what the device did meanwhile, for a reader."""

from __future__ import annotations

import re
from dataclasses import replace
from html.parser import HTMLParser

import pytest

from edgewright.core.digest import Digest
from edgewright.core.measured import Measured
from edgewright.core.measurement import Conditions, Device, Ratio, Summary, Timing
from edgewright.core.power import PowerPoint, PowerSweep
from edgewright.core.recipe import Study
from edgewright.core.telemetry import Series, Telemetry
from edgewright.report import power, telemetry
from edgewright.report.devices import devices_html
from edgewright.report.evidence import NoEvidence
from edgewright.report.html import report_html
from edgewright.report.rows import conditions

WATCHED = Telemetry(
    seconds=3.0,
    samples=30,
    start_c=48.2,
    peak_c=83.4,
    sensor="gpu-thermal",
    clock_mean=0.93,
    clock_least=0.5,
    gpu_clock_mean=1.0,
    gpu_clock_least=0.75,
    throttled=True,
    reasons=("over-current event OC1",),
    power_w=8.25,
    power_source="VDD_IN (whole module)",
    power_mode="MAXN",
    series=Series((0.0, 1.5, 3.0), (48.2, None, 83.4), (1.0, 0.5, 1.0), (), (8.0, 8.0, 9.0)),
)
DEVICE = Device("orin <1>", "aarch64", "Arm Cortex-A78AE", 6, ("asimddp",), 8 << 30, "Linux 5.15")


def timing(p50: float, energy: float | None, found: Telemetry | None = WATCHED) -> Timing:
    summary = Summary(p50, p50, p50, p50, p50, 10)
    state = Conditions(1, 1, "schedutil", 48.2, 0.1, 10, 20, "", found)
    return Timing(
        latency_ms=summary, reference_ms=summary, speedup=Ratio(1.0, 1.0, 1.0), throughput=1000.0 / p50, load_ms=1.0,
        size_bytes=1, peak_memory_bytes=1, energy_mj=energy, energy_note="sampled power of VDD_IN", conditions=state,
    )  # fmt: skip


SWEEP = PowerSweep(
    "nvpmodel",
    (
        PowerPoint("7W", timing(20.0, 100.0, replace(WATCHED, throttled=False, reasons=())), 10.0),
        PowerPoint("MAXN", timing(4.0, 125.0), 8.0),
        PowerPoint("40W", reason="needs a restart <now>"),
    ),
    fastest="MAXN",
    best="7W",
    before="7W",
)


def test_words() -> None:
    assert telemetry.words(WATCHED) == (
        "power mode MAXN, 48 C at the start, 83 C at most (gpu-thermal), clock 93% of the highest on average, 50% at "
        "least, GPU clock 100% of the highest on average, 75% at least, THROTTLED: over-current event OC1, 8.25 W "
        "(VDD_IN (whole module))"
    )
    calm = Telemetry(1.0, 2, throttled=False, earlier=("under-voltage",), notes=("the battery is charging",))
    assert telemetry.words(calm) == "not throttled (since its start: under-voltage), the battery is charging"
    assert telemetry.words(None) == ""
    assert "THROTTLED" in conditions(timing(1.0, None))
    assert conditions(timing(1.0, None, None)).endswith("load 0.10")


def test_plots_over_time_leave_out_what_has_no_sensor() -> None:
    drawn = telemetry.plots(WATCHED)
    assert list(drawn) == ["heat", "clocks", "watts"]
    assert [trace["name"] for trace in drawn["clocks"]["data"]] == ["processor"]
    assert drawn["clocks"]["data"][0]["y"] == [100.0, 50.0, 100.0]
    assert drawn["heat"]["data"][0]["y"] == [48.2, None, 83.4]
    assert telemetry.plots(None) == {}
    assert telemetry.plots(Telemetry(0.0, 1)) == {}


def test_table_for_a_terminal() -> None:
    text = power.power_text(SWEEP)
    assert re.search(r"^7W +50/s +20 ms +5 W +10/s/W +83 C +no +most per watt, was set before$", text, re.MULTILINE)
    assert re.search(r"^MAXN +250/s +4 ms +31.2 W +8/s/W +83 C +over-current event OC1 +fastest$", text, re.MULTILINE)
    assert text.endswith(
        "MAXN is the fastest power mode (250 samples/s); 7W gives the most for its power (10 samples/s per watt)."
    )


@pytest.mark.parametrize(
    ("fastest", "best", "words"),
    [
        ("MAXN", "", "no sensor tells the power"),
        ("MAXN", "MAXN", "for its power, too"),
        ("", "", "No power mode could"),
    ],
)
def test_headlines(fastest: str, best: str, words: str) -> None:
    assert words in power.headline(replace(SWEEP, fastest=fastest, best=best))


def test_bars_mark_the_best_mode() -> None:
    frugal = power.power_plots(SWEEP)["power-frugal"]
    assert [(trace["name"], trace["x"], trace["y"]) for trace in frugal["data"]] == [
        ("best", ["7W"], [10.0]),
        ("others", ["MAXN"], [8.0]),
    ]
    unknown = replace(SWEEP, points=tuple(replace(point, per_watt=None) for point in SWEEP.points), best="")
    assert list(power.power_plots(unknown)) == ["power-speed"]


def measured(name: str, found: Telemetry | None, sweep: PowerSweep | None) -> Measured:
    device = replace(DEVICE, name=name)
    return Measured(
        "detector <int8>", Digest("sha256:0"), "", "tensorrt", "int8", "tensorrt 10.7", device, timing(4.0, 1.0, found),
        "golden inputs", power=sweep,
    )  # fmt: skip


def test_page_of_measured_devices() -> None:
    page = devices_html([measured("orin", WATCHED, SWEEP), measured("plain", None, None)])
    assert "<int8>" not in page
    assert "<now>" not in page
    assert "not measured: needs a restart" in page
    places = set(re.findall(r'class="plot" id="([^"]+)"', page))
    over_time = {f"device-0-{index}-{kind}" for index in range(3) for kind in telemetry.CAPTIONS}
    assert places == {"device-0-power-speed", "device-0-power-frugal", *over_time}
    assert all(f'"{place}"' in page.partition('id="plots">')[2] for place in places)
    Balanced().feed(page)
    plain = devices_html([measured("plain", None, None)])
    assert "<script" not in plain
    assert "script-src" not in plain
    Balanced().feed(plain)


class Balanced(HTMLParser):
    """Fails where a tag is closed that is not open."""

    def __init__(self) -> None:
        super().__init__()
        self.opened: list[str] = []

    def handle_starttag(self, tag: str, attrs: object) -> None:
        if tag not in ("meta", "link", "img", "br", "input", "hr"):
            self.opened.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.opened.pop() == tag


def test_a_study_shows_what_the_device_did_while_its_winner_was_timed(keywords: Study) -> None:
    assert "What the device did meanwhile" not in report_html(keywords, NoEvidence())
    (target, *_) = keywords.winners
    winner = keywords.best(target)
    assert winner.measurement is not None
    assert winner.measurement.timing is not None
    state = replace(winner.measurement.timing.conditions, telemetry=WATCHED)
    measured = replace(winner.measurement, timing=replace(winner.measurement.timing, conditions=state))
    watched = replace(winner, measurement=measured)
    study = replace(keywords, candidates=tuple(watched if c.id == winner.id else c for c in keywords.candidates))
    page = report_html(study, NoEvidence())
    assert "What the device did meanwhile" in page
    assert 'id="target-0-heat"' in page
    assert "THROTTLED: over-current event OC1" in page
