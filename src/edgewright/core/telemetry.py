"""What a device did while something was measured on it: temperature, clocks, throttling, power."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Log:
    """Samples in the order taken, as the device sends them; a column is empty where the device has no such sensor.

    Attributes:
        at: Seconds on the device's monotonic clock, one per sample.
        temperature: Hottest sensor in degrees Celsius.
        clock: Frequency of the fastest processor core as a share of the highest its hardware has.
        gpu_clock: The same of the GPU.
        power: Watts.
        sensor: Name of the sensor that was hottest.
        power_source: What the power figure covers, e.g. `VDD_IN (whole module)`; empty where there is none.
        reasons: Why the device held itself back while it was watched, e.g. `under-voltage`.
        earlier: Reasons that had come up since the device started, but before it was watched.
        observable: Whether the device says anything about throttling.
        cost: Share of one core that the sampling took.
        notes: Sensors that are there and cannot be read, and why.
    """

    at: tuple[float, ...] = ()
    temperature: tuple[float | None, ...] = ()
    clock: tuple[float | None, ...] = ()
    gpu_clock: tuple[float | None, ...] = ()
    power: tuple[float | None, ...] = ()
    sensor: str = ""
    power_source: str = ""
    reasons: tuple[str, ...] = ()
    earlier: tuple[str, ...] = ()
    observable: bool = False
    cost: float = 0.0
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Series:
    """A thinned copy of a log for plots: seconds since the start, and what was read then."""

    seconds: tuple[float, ...] = ()
    temperature: tuple[float | None, ...] = ()
    clock: tuple[float | None, ...] = ()
    gpu_clock: tuple[float | None, ...] = ()
    power: tuple[float | None, ...] = ()


@dataclass(frozen=True, slots=True)
class Telemetry:
    """The summary of a log.

    Attributes:
        seconds: How long the device was watched.
        samples: How often it was read.
        start_c: Hottest sensor at the start, degrees Celsius.
        peak_c: Hottest reading.
        sensor: Which sensor that was.
        clock_mean: Mean of the fastest core's frequency, as a share of the highest its hardware has.
        clock_least: The lowest reading of it.
        gpu_clock_mean: The same of the GPU.
        gpu_clock_least: The same of the GPU.
        throttled: Whether the device held itself back; None where it does not say.
        reasons: Why it did.
        earlier: Reasons from before the measurement, since the device started.
        power_w: Mean power in watts; None where there is no sensor.
        power_source: What the power covers.
        power_mode: Name of the power mode or governor it ran in, where one was chosen.
        cost: Share of one core that watching took.
        notes: What could not be read, and why.
        series: For plots.
    """

    seconds: float
    samples: int
    start_c: float | None = None
    peak_c: float | None = None
    sensor: str = ""
    clock_mean: float | None = None
    clock_least: float | None = None
    gpu_clock_mean: float | None = None
    gpu_clock_least: float | None = None
    throttled: bool | None = None
    reasons: tuple[str, ...] = ()
    earlier: tuple[str, ...] = ()
    power_w: float | None = None
    power_source: str = ""
    power_mode: str = ""
    cost: float = 0.0
    notes: tuple[str, ...] = ()
    series: Series = Series()
