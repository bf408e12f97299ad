"""Devices as their kernels show them (values as recorded on such boards, shortened), and this machine."""

from __future__ import annotations

import shutil
import subprocess
import time
from collections.abc import Mapping
from pathlib import Path

import pytest

from edgewright.runtimes._telemetry import LocalSystem, Sampler, ShellSystem
from edgewright.runtimes._telemetry.power import RisingEnergy, battery_watts
from edgewright.runtimes._telemetry.sampler import find
from edgewright.runtimes._telemetry.sensors import POWER
from edgewright.runtimes._telemetry.thermal import celsius
from edgewright.runtimes._telemetry.throttle import android_status, android_temperatures, pi_bits

INA = "/sys/class/hwmon/hwmon3"
CPU0, CPU4 = "/sys/devices/system/cpu/cpufreq/policy0", "/sys/devices/system/cpu/cpufreq/policy4"
ORIN = {
    "/sys/class/thermal/thermal_zone0/type": "cpu-thermal",
    "/sys/class/thermal/thermal_zone0/temp": "51343",
    "/sys/class/thermal/thermal_zone1/type": "gpu-thermal",
    "/sys/class/thermal/thermal_zone1/temp": "53125",
    "/sys/class/thermal/thermal_zone2/type": "cv0-thermal",  # asleep: reading fails
    "/sys/class/thermal/cooling_device0/type": "pwm-fan",
    "/sys/class/thermal/cooling_device0/cur_state": "3",
    "/sys/class/thermal/cooling_device1/type": "cpufreq-cpu0",
    "/sys/class/thermal/cooling_device1/cur_state": "0",
    "/sys/class/hwmon/hwmon1/name": "soctherm_oc",
    "/sys/class/hwmon/hwmon1/oc1_event_cnt": "4",
    "/sys/class/hwmon/hwmon1/oc1_throt_en": "1",
    "/sys/class/hwmon/hwmon1/oc3_event_cnt": "9",
    "/sys/class/hwmon/hwmon1/oc3_throt_en": "0",
    f"{INA}/name": "ina3221",
    f"{INA}/in1_label": "VDD_IN",
    f"{INA}/in1_input": "5016",
    f"{INA}/curr1_input": "1200",
    f"{INA}/in2_label": "VDD_CPU_GPU_CV",
    f"{INA}/in2_input": "5008",
    f"{INA}/curr2_input": "400",
    f"{INA}/in7_label": "sum of shunt voltages",
    f"{INA}/in7_input": "12",
    f"{CPU0}/scaling_cur_freq": "729600",
    f"{CPU0}/cpuinfo_max_freq": "1510400",
    f"{CPU4}/scaling_cur_freq": "1510400",
    f"{CPU4}/cpuinfo_max_freq": "1510400",
    "/sys/class/devfreq/17000000.gpu/cur_freq": "306000000",
    "/sys/class/devfreq/17000000.gpu/max_freq": "408000000",
    "/sys/class/devfreq/17000000.gpu/available_frequencies": "306000000 408000000 510000000 612000000",
    "/sys/class/devfreq/15340000.vic/cur_freq": "115200000",
}
PI5 = {
    "/sys/class/thermal/thermal_zone0/type": "cpu-thermal",
    "/sys/class/thermal/thermal_zone0/temp": "63900",
    "/sys/class/hwmon/hwmon0/name": "cpu_thermal",
    "/sys/class/hwmon/hwmon0/temp1_input": "63900",
    "/sys/class/hwmon/hwmon1/name": "rp1_adc",
    "/sys/class/hwmon/hwmon1/temp1_input": "55123",
    f"{CPU0}/scaling_cur_freq": "1500000",
    f"{CPU0}/cpuinfo_max_freq": "2400000",
}
PMIC_ADC = """\
   3V3_SYS_A current(1)=0.06782330A
   VDD_CORE_A current(7)=1.50000000A
     3V3_SYS_V volt(9)=3.30000000V
    VDD_CORE_V volt(15)=0.80000000V
       EXT5V_V volt(24)=5.13000000V
"""
BATTERY = "/sys/class/power_supply/battery"
PHONE = {
    f"{CPU0}/scaling_cur_freq": "1800000",
    f"{CPU0}/cpuinfo_max_freq": "1800000",
    "/sys/class/kgsl/kgsl-3d0/devfreq/cur_freq": "300000000",
    "/sys/class/kgsl/kgsl-3d0/devfreq/max_freq": "600000000",
    "/sys/class/power_supply/usb/type": "USB",
    f"{BATTERY}/type": "Battery",
    f"{BATTERY}/status": "Discharging",
    f"{BATTERY}/current_now": "-512000",
    f"{BATTERY}/voltage_now": "4000000",
}
THERMAL_SERVICE = """\
IsStatusOverride: false
Thermal Status: 2
Cached temperatures:
	Temperature{mValue=33.6, mType=3, mName=skin, mStatus=0}
HAL Ready: true
Current temperatures from HAL:
	Temperature{mValue=58.1, mType=0, mName=CPU0, mStatus=0}
	Temperature{mValue=41.25, mType=3, mName=skin, mStatus=2}
Current cooling devices from HAL:
	CoolingDevice{mValue=2, mType=2, mName=thermal-cpufreq-0}
"""
LAPTOP = {
    "/sys/class/hwmon/hwmon4/name": "coretemp",
    "/sys/class/hwmon/hwmon4/temp1_label": "Package id 0",
    "/sys/class/hwmon/hwmon4/temp1_input": "71000",
    "/sys/class/hwmon/hwmon5/name": "nvme",
    "/sys/class/hwmon/hwmon5/temp1_input": "80850",
    "/sys/devices/system/cpu/cpu0/thermal_throttle/core_throttle_count": "7",
    "/sys/devices/system/cpu/cpu1/thermal_throttle/core_throttle_count": "7",
    "/sys/devices/system/cpu/cpu0/thermal_throttle/package_throttle_count": "20",
    "/sys/class/powercap/intel-rapl:0/energy_uj": "1000000",
    "/sys/class/powercap/intel-rapl:0/max_energy_range_uj": "262143328850",
    "/sys/class/powercap/intel-rapl:0:0/energy_uj": "5",
}
NANO_IIO = "/sys/bus/i2c/drivers/ina3221x/6-0040/iio:device0"
NANO = {
    "/sys/class/thermal/thermal_zone0/type": "PMIC-Die",
    "/sys/class/thermal/thermal_zone0/temp": "100000",
    "/sys/class/thermal/thermal_zone1/type": "CPU-therm",
    "/sys/class/thermal/thermal_zone1/temp": "41000",
    f"{NANO_IIO}/in_power0_input": "2540",
    f"{NANO_IIO}/rail_name_0": "POM_5V_IN",
    f"{NANO_IIO}/in_power1_input": "83",
    f"{NANO_IIO}/rail_name_1": "POM_5V_GPU",
}


def tree(root: Path, files: Mapping[str, str]) -> Path:
    for name, text in files.items():
        path = root / name.lstrip("/")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text + "\n")
    return root


def program(folder: Path, name: str, text: str) -> str:
    """Puts a program on a PATH of its own that prints the files `NAME.SUBCOMMAND` beside it."""
    folder.mkdir(exist_ok=True)
    (folder / name).write_text(f'#!/bin/sh\ncat "{folder}/{name}.$1"\n')
    (folder / name).chmod(0o755)
    subcommand, _, output = text.partition(":")
    (folder / f"{name}.{subcommand}").write_text(output)
    return f"{folder}:/usr/bin:/bin"


def nothing(root: Path) -> LocalSystem:
    return LocalSystem(root, path="")


def test_jetson_orin(tmp_path: Path) -> None:
    root = tree(tmp_path, ORIN)
    sampler = Sampler(nothing(root))
    sampler.sample()
    tree(root, {"/sys/class/thermal/thermal_zone1/temp": "71500", f"{CPU4}/scaling_cur_freq": "755200"})
    sampler.sample()
    log = sampler.stop()
    assert log.temperature == (53.125, 71.5)
    assert log.sensor == "gpu-thermal"
    assert log.clock == (1.0, 0.5)
    assert log.gpu_clock == (0.5, 0.5), "a share of the highest the hardware has, not of what the power mode allows"
    assert log.power == (6.0192, 6.0192)
    assert log.power_source == "VDD_IN (whole module)"
    assert (log.observable, log.reasons) == (True, ()), "a fan at work is no throttling, nor old over-current events"
    tree(root, {"/sys/class/hwmon/hwmon1/oc1_event_cnt": "5", "/sys/class/hwmon/hwmon1/oc3_event_cnt": "10"})
    sampler.sample()
    assert sampler.stop().reasons == ("over-current event OC1",), "OC3 counts only and slows nothing down"
    tree(root, {"/sys/class/thermal/cooling_device1/cur_state": "2"})
    sampler.sample()
    assert sampler.stop().reasons[1:] == ("cooled by a lower clock (cpufreq-cpu0)",)


def test_agx_orin_sums_the_rails_that_feed_the_module(tmp_path: Path) -> None:
    rails = {
        "1": ("VDD_GPU_SOC", "20000", "100"),
        "2": ("VDD_CPU_CV", "20000", "50"),
        "3": ("VIN_SYS_5V0", "5000", "800"),
    }
    files = {f"{INA}/name": "ina3221"}
    for index, (label, volts, amperes) in rails.items():
        files |= {f"{INA}/in{index}_label": label, f"{INA}/in{index}_input": volts, f"{INA}/curr{index}_input": amperes}
    files |= {
        "/sys/class/hwmon/hwmon4/name": "ina3221",
        "/sys/class/hwmon/hwmon4/in2_label": "VDDQ_VDD2_1V8AO",
        "/sys/class/hwmon/hwmon4/in2_input": "5000",
        "/sys/class/hwmon/hwmon4/curr2_input": "400",
    }
    sampler = Sampler(nothing(tree(tmp_path, files)))
    sampler.sample()
    log = sampler.stop()
    assert log.power == (7.0,)
    assert log.power_source == "VDD_GPU_SOC + VDD_CPU_CV + VIN_SYS_5V0"


def test_jetson_nano_by_its_older_driver(tmp_path: Path) -> None:
    sampler = Sampler(nothing(tree(tmp_path, NANO)))
    sampler.sample()
    log = sampler.stop()
    assert log.power == (2.54,)
    assert (log.temperature, log.sensor) == ((41.0,), "CPU-therm"), "PMIC-Die reads 100 degrees whatever happens"
    assert not log.observable


def test_raspberry_pi(tmp_path: Path) -> None:
    root, bin_ = tree(tmp_path / "root", PI5), tmp_path / "bin"
    path = program(bin_, "vcgencmd", "get_throttled:throttled=0x20000")
    program(bin_, "vcgencmd", f"pmic_read_adc:{PMIC_ADC}")
    sampler = Sampler(LocalSystem(root, path))
    sampler.start()
    program(bin_, "vcgencmd", "get_throttled:throttled=0xA0008")
    log = sampler.stop()
    assert log.reasons == ("soft temperature limit",)
    assert log.earlier == ("frequency capped",), "it was capped before, and not while it was watched"
    assert log.clock[0] == 0.625
    assert log.temperature[0] == 63.9
    assert log.power[0] == pytest.approx(0.0678233 * 3.3 + 1.5 * 0.8, abs=1e-4)
    assert "without USB" in log.power_source


def test_a_bit_that_rises_between_two_samples_is_seen_later(tmp_path: Path) -> None:
    file = "/sys/devices/platform/soc/soc:firmware/get_throttled"
    root = tree(tmp_path, {file: "0"})
    sampler = Sampler(nothing(root))
    sampler.sample()
    tree(root, {file: "10000"})
    sampler.sample()
    log = sampler.stop()
    assert (log.reasons, log.earlier) == (("under-voltage",), ())


@pytest.mark.parametrize(
    ("text", "bits"),
    [("throttled=0x50005", 0x50005), ("50005", 0x50005), ("0x0", 0), ("", None), ("VCHI failed", None)],
)
def test_bits_of_the_firmware(text: str, bits: int | None) -> None:
    assert pi_bits(text) == bits


def test_phone_through_a_shell(tmp_path: Path) -> None:
    root = tree(tmp_path / "root", PHONE)
    path = program(tmp_path / "bin", "dumpsys", f"thermalservice:{THERMAL_SERVICE}")
    calls: list[str] = []

    def shell(command: str) -> str:
        calls.append(command)
        here = command.replace("/sys/", f"{root}/sys/")
        done = subprocess.run(["sh", "-c", here], capture_output=True, text=True, env={"PATH": path}, check=True)
        return done.stdout.replace(str(root), "").replace("\n", "\r\n")

    sampler = Sampler(ShellSystem(shell))
    calls.clear()
    sampler.sample()
    assert len(calls) == 1, "one round trip per sample"
    log = sampler.stop()
    assert log.temperature == (58.1,)
    assert (log.clock, log.gpu_clock) == ((1.0,), (0.5,))
    assert log.power == (2.048,)
    assert log.reasons == ("thermal status moderate",)


def test_thermal_service_texts() -> None:
    assert android_temperatures(THERMAL_SERVICE) == {"CPU0": 58.1, "skin": 41.25}
    assert android_temperatures(THERMAL_SERVICE.partition("HAL Ready")[0]) == {"skin": 33.6}
    assert android_status("Thermal Status: 0") == {}
    assert android_status("") == {}
    assert android_status("Thermal Status: 9") == {"thermal status shutdown": 9}


def test_a_charging_battery_tells_nothing_of_what_the_device_takes(tmp_path: Path) -> None:
    found = find(nothing(tree(tmp_path, PHONE | {f"{BATTERY}/status": "Charging"})))
    assert not [sensor for sensor in found.sensors if sensor.kind == POWER]
    assert "unplug" in found.notes[0]
    assert battery_watts(["Discharging", "", "", "3200000"]) == 3.2
    assert battery_watts(["Discharging", "", "4000000", ""]) is None


def test_laptop(tmp_path: Path) -> None:
    root = tree(tmp_path, LAPTOP)
    sampler = Sampler(nothing(root))
    sampler.sample()
    time.sleep(0.05)
    tree(
        root,
        {
            "/sys/class/powercap/intel-rapl:0/energy_uj": "1500000",
            "/sys/devices/system/cpu/cpu1/thermal_throttle/core_throttle_count": "8",
        },
    )
    sampler.sample()
    log = sampler.stop()
    assert (log.temperature[0], log.sensor) == (71.0, "coretemp Package id 0"), "a warm disk is not the chip"
    assert log.reasons == ("a core reached its temperature limit",)
    assert log.power[0] is None
    seconds = log.at[1] - log.at[0]
    assert log.power[1] == pytest.approx(0.5 / seconds, rel=0.2)


def test_energy_counters_start_again() -> None:
    moments = iter([0.0, 2.0, 2.0])
    meter = RisingEnergy((1000000.0,), lambda: next(moments))
    assert meter(["999000"]) is None
    assert meter(["1000"]) == pytest.approx(0.001)
    assert meter(["2000"]) is None, "no time has passed"


def test_a_counter_only_root_may_read_is_named(tmp_path: Path) -> None:
    root = tree(tmp_path, LAPTOP)
    (root / "sys/class/powercap/intel-rapl:0/energy_uj").write_text("")
    found = find(nothing(root))
    assert "chmod" in found.notes[0]
    assert not [sensor for sensor in found.sensors if sensor.kind == POWER]


@pytest.mark.parametrize(
    ("text", "degrees"), [("38", 38.0), ("38000", 38.0), ("-273000", None), ("0", None), ("", None)]
)
def test_degrees(text: str, degrees: float | None) -> None:
    assert celsius([text]) == degrees


def test_sampling_goes_on_by_itself_at_little_cost(tmp_path: Path) -> None:
    shutil.copytree(tree(tmp_path / "orin", ORIN), tmp_path / "root")
    with Sampler(nothing(tmp_path / "root"), interval=0.02) as sampler:
        time.sleep(0.4)
        log = sampler.stop()
    assert 3 <= len(log.at) <= 22, "the first, the last, and some between"
    assert list(log.at) == sorted(log.at)
    assert log.cost < 0.02


def test_this_machine() -> None:
    with Sampler(LocalSystem(), interval=0.01) as sampler:
        time.sleep(0.03)
        log = sampler.stop()
    for column in (log.temperature, log.clock, log.gpu_clock, log.power):
        assert len(column) in (0, len(log.at))
    assert all(-40 < value < 130 for value in log.temperature if value is not None)
    assert all(0 < value < 1.5 for value in log.clock if value is not None)


def test_nothing_to_read_is_no_thread(tmp_path: Path) -> None:
    sampler = Sampler(nothing(tmp_path))
    sampler.start()
    assert not sampler.found
    assert sampler.stop().at == ()
