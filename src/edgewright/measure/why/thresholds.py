"""Every number that the rules compare with; chosen on planted faults of other seeds than they are scored on."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Thresholds:
    """When a figure counts as a reason.

    Attributes:
        stage_db: A stage that leaves less than this of the output is a stage where accuracy was lost.
        wide: A range so many times wider than the data is dead.
        clipped: Share of values outside the range that counts as too much.
        unlike: Ratio of the ranges of calibration and test data that makes them unlike.
        channels: Ratio of the largest channel to the median channel that makes it an outlier.
        joined: Ratio of the ranges of joined tensors under one scale.
        spread: Ratio of the largest to the smallest channel before a batch norm.
        integers: Share of a layer's integers that differ by more than one step between runtime and arithmetic.
        weights_db: Weights that resemble the reference's less than this are others.
        gain_db: What undoing a suspect must bring back at the output to count fully.
        bias: Relative error of a bias that counts as lost.
        fit: Share of the variance of an input that a change of convention must explain.
        correlation: Correlation of two outputs that makes them the same class.
        agreement: Gain in agreement with the reference that a change of the input must bring.
    """

    stage_db: float = 14.0
    wide: float = 4.0
    clipped: float = 0.01
    unlike: float = 2.0
    channels: float = 12.0
    joined: float = 20.0
    spread: float = 10.0
    integers: float = 0.02
    weights_db: float = 12.0
    gain_db: float = 3.0
    bias: float = 0.05
    fit: float = 0.98
    correlation: float = 0.8
    agreement: float = 0.15


THRESHOLDS = Thresholds()
