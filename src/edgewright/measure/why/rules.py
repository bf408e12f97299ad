"""One rule per cause inside the model: evidence in, suspects out. Pure; every threshold comes from `Thresholds`."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from statistics import median

from edgewright.core.parity import PRECISION, RUNTIME, Suspect
from edgewright.measure.why import fixes
from edgewright.measure.why.evidence import ACTIVATION, BIAS, WEIGHTS, Evidence, Range, Unit
from edgewright.measure.why.thresholds import Thresholds

Rule = Callable[[Evidence, Thresholds], Iterator[Suspect]]


def _weight(unit: Unit, thresholds: Thresholds) -> float:
    """Returns how much undoing a rounding brings, 0 to 1."""
    return min(max(unit.gain_db, 0.0) / thresholds.gain_db, 1.0)


def _said(unit: Unit) -> str:
    return f"; without this rounding the output gains {unit.gain_db:.1f} dB"


def _largest(low: float, high: float) -> float:
    return max(abs(low), abs(high), 1e-12)


def dead_range(evidence: Evidence, thresholds: Thresholds) -> Iterator[Suspect]:
    """A range much wider than the values met on any split."""
    for unit in _activations(evidence):
        seen = (*unit.data, *(unit.calibration or ()))
        wide = (unit.range[1] - unit.range[0]) / max(max(*seen, 0.0) - min(*seen, 0.0), 1e-12)
        if wide > thresholds.wide:
            text = (
                f"{unit.tensor} is quantised over {unit.range[0]:.4g} to {unit.range[1]:.4g} and holds "
                f"{unit.data[0]:.4g} to {unit.data[1]:.4g}: {1 - 1 / wide:.0%} of the range is never used{_said(unit)}"
            )
            yield _of(unit, "dead range", 0.95 * _weight(unit, thresholds), text, fixes.again(evidence))


def joined_ranges(evidence: Evidence, thresholds: Thresholds) -> Iterator[Suspect]:
    """Tensors of different size joined under one scale: the small one vanishes, or the large one is cut off."""
    for unit in _activations(evidence):
        members = {n: r for n, r in unit.sharing.items() if n != unit.tensor}
        if not unit.join or len(members) < 2:
            continue
        text = _cut_off(unit, members) or _vanishing(unit, members, thresholds)
        if text:
            passes = fixes.quantised(evidence, keep_float=(unit.join,))
            fix = fixes.apply(evidence, passes) if evidence.quantised else fixes.again(evidence)
            text += "" if evidence.quantised else " (its layers with weights compute in float anyway)"
            yield _of(unit, "joined ranges", _weight(unit, thresholds), f"{text}{_said(unit)}", fix, unit.node)


def _vanishing(unit: Unit, members: Mapping[str, Range], thresholds: Thresholds) -> str:
    small, large = (f(members, key=lambda n: _largest(*members[n])) for f in (min, max))
    low, high = _largest(*members[small]), _largest(*members[large])
    if high < thresholds.joined * low:
        return ""
    step = (unit.range[1] - unit.range[0]) / 255
    return (
        f"{unit.join} joins {small} (up to {low:.4g}) with {large} (up to {high:.4g}) under one scale: a step is "
        f"{step:.4g}, so {small} keeps {low / step:.1f} steps of 255"
    )


def _cut_off(unit: Unit, members: Mapping[str, Range]) -> str:
    low, high = unit.range
    slack = (high - low) / 16
    outside = {n: r for n, r in members.items() if r[0] < low - slack or r[1] > high + slack}
    inside = [n for n in members if n not in outside]
    if not outside or not inside:
        return ""
    name, (bottom, top) = max(outside.items(), key=lambda item: item[1][1] - item[1][0])
    return (
        f"{unit.join} joins {name} ({bottom:.4g} to {top:.4g}) with {', '.join(inside)} under one scale that expresses "
        f"{low:.4g} to {high:.4g} only: {unit.clipped:.1%} of the joined values are cut off, all of them of {name}"
    )


def unfolded_batch_norm(evidence: Evidence, thresholds: Thresholds) -> Iterator[Suspect]:
    """A convolution quantised before the batch norm that evens its channels out."""
    for unit in _activations(evidence):
        if not unit.batch_norm or not unit.channels:
            continue
        ratio = max(unit.channels) / max(min(unit.channels), 1e-12)
        if ratio > thresholds.spread:
            text = (
                f"{unit.tensor} is rounded between {unit.candidate_node} and the batch norm {unit.batch_norm}; its "
                f"channels differ {ratio:.0f}-fold in size, which the batch norm then evens out{_said(unit)}"
            )
            yield _of(unit, "unfolded batch norm", _weight(unit, thresholds), text, fixes.again(evidence))


def outlier_activation(evidence: Evidence, thresholds: Thresholds) -> Iterator[Suspect]:
    """One channel of an activation much larger than those that share its scale."""
    for unit in _activations(evidence):
        if unit.per_channel or unit.batch_norm or unit.join or len(unit.channels) < 3:
            continue
        ratio = max(unit.channels) / max(median(unit.channels), 1e-12)
        if ratio > thresholds.channels:
            channel = unit.channels.index(max(unit.channels))
            text = (
                f"channel {channel} of {unit.tensor} reaches {max(unit.channels):.4g}, the median channel "
                f"{median(unit.channels):.4g}: under one scale it keeps {255 / ratio:.0f} steps of 255{_said(unit)}"
            )
            passes = fixes.quantised(evidence, keep_float=() if unit.evenable else unit.pair, even=unit.evenable)
            score = 0.9 * _weight(unit, thresholds)
            yield _of(unit, "outlier channel", score, text, fixes.apply(evidence, passes))


def outlier_weights(evidence: Evidence, thresholds: Thresholds) -> Iterator[Suspect]:
    """Weights with one scale although their channels differ in size."""
    for unit in evidence.units:
        if unit.kind != WEIGHTS or unit.per_channel or len(unit.channels) < 2:
            continue
        ratio = max(unit.channels) / max(median(unit.channels), 1e-12)
        if ratio > thresholds.channels / 2:
            channel = unit.channels.index(max(unit.channels))
            text = (
                f"the weights of {unit.candidate_node} share one scale; channel {channel} reaches "
                f"{max(unit.channels):.4g}, the median channel {median(unit.channels):.4g}{_said(unit)}"
            )
            yield _of(unit, "outlier channel", _weight(unit, thresholds), text, fixes.again(evidence))


def bias_overflow(evidence: Evidence, thresholds: Thresholds) -> Iterator[Suspect]:
    """A bias that its 32-bit integers cannot hold at the scale that its inputs dictate."""
    for unit in evidence.units:
        if unit.kind == BIAS and unit.at_limit and unit.error > thresholds.bias:
            text = (
                f"{unit.at_limit} of {len(unit.channels)} biases of {unit.candidate_node} stand at the limit of int32 "
                f"and are off by up to {unit.error:.0%} of the largest{_said(unit)}"
            )
            yield _of(unit, "bias overflow", _weight(unit, thresholds), text, fixes.again(evidence))


def unsupported_operator(evidence: Evidence, thresholds: Thresholds) -> Iterator[Suspect]:
    """Quantisers around an operator that the runtime computes in float."""
    for unit in _activations(evidence):
        if unit.float_node:
            text = (
                f"{unit.float_node} stands between quantisers and runs in float32: the runtime has no integer kernel "
                f"for it, and {unit.tensor} is rounded for nothing{_said(unit)}"
            )
            passes = fixes.quantised(evidence, keep_float=(unit.float_node,))
            score = _weight(unit, thresholds)
            yield _of(unit, "unsupported operator", score, text, fixes.apply(evidence, passes))


def fp16_overflow(evidence: Evidence, thresholds: Thresholds) -> Iterator[Suspect]:
    """An activation beyond the largest float16."""
    for rank, over in enumerate(evidence.overflows):
        text = f"{over.tensor} reaches {over.largest:.4g}, float16 ends at 65504: {over.not_finite} values overflow"
        from edgewright.core.recipe import StepSpec

        nodes = sorted({n for each in evidence.overflows for n in each.candidate_nodes})
        passes = (StepSpec("clean-up"), StepSpec("fp16", {"keep_float": nodes}))
        fix = fixes.apply(evidence, passes)
        yield Suspect(PRECISION, "fp16 overflow", over.node, over.tensor, 1.0 - 0.1 * min(rank, 5), text, fix)


def calibration_data(evidence: Evidence, thresholds: Thresholds) -> Iterator[Suspect]:
    """Ranges found on samples that are smaller than those the model meets."""
    found = evidence.calibration
    if found is None or found.clipped < thresholds.clipped or found.clipped < thresholds.unlike * found.clipped_there:
        return
    text = (
        f"the ranges of {found.tensors} activations cut off {found.clipped:.1%} of the values of the samples compared, "
        f"and {found.clipped_there:.1%} of those of the calibration split; the values span {found.ratio:.1f} times as "
        f"much here (median), the input's {found.input_ratio:.1f} times"
    )
    project = evidence.paths.get("project", "")
    amended = fixes.amend(project, {}, copied={"data.calibration": "data.tune"})
    again = fixes.apply(evidence, fixes.quantised(evidence), project=fixes.fixed(project))
    score = min(found.clipped / (2 * thresholds.clipped), 1.0)
    yield Suspect(PRECISION, "calibration data", "", "", score, text, f"{amended} && {again}")


def different_layer(evidence: Evidence, thresholds: Thresholds) -> Iterator[Suspect]:
    """A layer that computes something else in float."""
    for rank, layer in enumerate(evidence.layers):
        if layer.attribute:
            cause, detail = "different attribute", layer.attribute
        elif layer.weights_db is not None and layer.weights_db < thresholds.weights_db * 2:
            cause, detail = "different weights", f"its weights are {layer.weights_db:.1f} dB like the reference's"
        else:
            cause, detail = "different weights", "its weights, its bias or what was folded into them differ"
        text = (
            f"{layer.node} has the same inputs and leaves {layer.local_db:.1f} dB of {layer.tensor} "
            f"after the {layer.stage}: {detail}"
        )
        score = 0.9 * 0.8**rank * min(max((30.0 - layer.local_db) / 15.0, 0.1), 1.0)
        yield Suspect(layer.stage, cause, layer.node, layer.tensor, score, text, fixes.again(evidence))


def accumulator_saturation(evidence: Evidence, thresholds: Thresholds) -> Iterator[Suspect]:
    """Sums of products of neighbouring 8-bit weights that do not fit into 16 bits."""
    found = [r for r in evidence.runtime if r.differing > thresholds.integers]
    most = max((r.differing for r in found), default=1.0)
    for row in found:
        possible = row.pair_sum > 1.0 and not evidence.safe_8_bits
        cause = "accumulator saturation" if possible else "runtime arithmetic"
        why = (
            f"this processor adds neighbouring products in 16 bits, and here they reach {row.pair_sum:.2f} times that"
            if possible
            else f"session options: {dict(evidence.session) or 'none'}"
        )
        text = (
            f"from the same integers {row.op or 'the layer'} {row.node} gives {row.differing:.1%} of {row.tensor} off "
            f"by more than a step (up to {row.largest:.0f}); {why}"
        )
        fix = fixes.apply(evidence, fixes.quantised(evidence), artifact=True)
        yield Suspect(RUNTIME, cause, row.node, row.tensor, (0.6 + 0.4 * row.differing / most), text, fix)


def coarse_rounding(evidence: Evidence, thresholds: Thresholds) -> Iterator[Suspect]:
    """Nothing is wrong with a rounding but that it costs much: named last, so that there is something to try."""
    for unit in _activations(evidence):
        if unit.gain_db > thresholds.gain_db / 3 and unit.pair:
            text = f"rounding {unit.tensor} to 8 bits leaves {unit.alone_db:.1f} dB of it{_said(unit)}"
            fix = fixes.apply(evidence, fixes.quantised(evidence, keep_float=unit.pair))
            yield _of(unit, "coarse rounding", 0.1 * _weight(unit, thresholds), text, fix)


def _activations(evidence: Evidence) -> Iterator[Unit]:
    return (unit for unit in evidence.units if unit.kind == ACTIVATION)


def _of(unit: Unit, cause: str, score: float, text: str, fix: str, node: str = "") -> Suspect:
    return Suspect(PRECISION, cause, node or unit.node, unit.tensor, score, text, fix)


RULES: tuple[Rule, ...] = (
    dead_range,
    joined_ranges,
    unfolded_batch_norm,
    outlier_activation,
    outlier_weights,
    bias_overflow,
    unsupported_operator,
    fp16_overflow,
    calibration_data,
    different_layer,
    accumulator_saturation,
    coarse_rounding,
)
"""Rules about the model; those about its input and labels are in `diagnose`."""
