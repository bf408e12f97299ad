"""Sensitivity: what quantising each group alone does to the outputs, by running only what lies behind it."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from numpy.typing import NDArray

from edgewright.core.codec import decode_stored, encode, encode_json
from edgewright.core.sensitivity import SENSITIVITY_FILE, GroupSensitivity, Sensitivity
from edgewright.core.step import Context
from edgewright.core.target import Plan, Scheme

if TYPE_CHECKING:
    import onnx_ir

    from edgewright.graph.cut import Cut
    from edgewright.graph.groups import Group
    from edgewright.passes._feeds import Feeds

MEMORY_BYTES = 256 * 2**20
"""Activations kept at once; groups are measured in portions whose inputs fit, each after a run of the float model."""
_DONE = "groups.jsonl"


@dataclass(frozen=True, slots=True)
class SensitivityStep:
    """inputs["model"], inputs["statistics"] and inputs["data"] -> `sensitivity.json` (`core.sensitivity.Sensitivity`).

    The fields down to `weights` are those of `static-int8`: what is measured is that quantisation, group by group.
    Quantisers are computed in float32, so integer kernels that saturate do not show; killed, it goes on with the
    group it was at.

    Attributes:
        scheme: How the runtime wants it, or the name of a scheme.
        ranges: How ranges of activations are chosen.
        percent: Share of values inside percentile ranges.
        keep_float: Operators that stay float anyway.
        ops: Quantise only these of the scheme's operators.
        weights: How ranges of weights are chosen.
        split: Which samples.
        limit: Most samples.
    """

    name: ClassVar[str] = "sensitivity"
    version: ClassVar[int] = 2
    gives_model: ClassVar[bool] = False
    requires: ClassVar[tuple[str, ...]] = ("onnx", "onnx-ir", "onnxruntime")
    needs: ClassVar[tuple[str, ...]] = ("statistics", "data")

    scheme: Scheme | str
    ranges: str = "minmax"
    percent: float = 99.999
    keep_float: tuple[str, ...] = ()
    ops: tuple[str, ...] = ()
    weights: str = "minmax"
    split: str = "calibration"
    limit: int | None = 16

    def __post_init__(self) -> None:
        """Resolves a name at once, so that the step's digest holds what the scheme says and not what it is called."""
        object.__setattr__(self, "scheme", _resolved(self.scheme))

    def run(self, inputs: Mapping[str, Path], out: Path, context: Context) -> None:
        """See `edgewright.core.step.Step`.

        Raises:
            ConfigError: The model carries quantisers already, or the statistics lack a tensor.
            DataError: The split is empty.
        """
        from edgewright.passes._feeds import feeds_of

        scheme = _resolved(self.scheme)
        model, plan, found = self._planned(scheme, inputs)
        feeds = feeds_of(model, inputs["data"], self.split, self.limit)
        measured = _Measurement(model, plan, feeds, context).run(found)
        samples = sum(size for size, _ in feeds) if measured else 0
        result = Sensitivity(scheme.name, samples, tuple(measured))
        (out / SENSITIVITY_FILE).write_bytes(encode_json(result))

    def _planned(self, scheme: Scheme, inputs: Mapping[str, Path]) -> tuple[onnx_ir.Model, Plan, tuple[Group, ...]]:
        from edgewright.errors import ConfigError
        from edgewright.graph import qdq
        from edgewright.graph.groups import Choice, groups
        from edgewright.graph.load import load
        from edgewright.graph.masks import masked
        from edgewright.graph.opset import QDQ_OPSET, raise_opset
        from edgewright.graph.plan import describe
        from edgewright.graph.shapes import infer_shapes
        from edgewright.graph.statistics import read_statistics

        model = infer_shapes(raise_opset(load(inputs["model"]), max(QDQ_OPSET, scheme.opset)))
        if qdq.is_quantised(model.graph):
            raise ConfigError("the model carries quantisers already", hint="measure sensitivity on the float model")
        qdq.prepare(model)
        statistics = read_statistics(inputs["statistics"])
        choice = Choice(model.graph, scheme, self.keep_float, self.ops, masked(model.graph, statistics))
        plan = describe(choice.without(()), scheme, statistics, self.ranges, self.percent, self.weights)
        return model, plan, groups(choice)


@dataclass(slots=True, eq=False)
class _Measurement:
    """One run of the step."""

    model: onnx_ir.Model
    plan: Plan
    feeds: Feeds
    context: Context
    done: dict[str, GroupSensitivity] = field(default_factory=dict)

    def run(self, groups: Sequence[Group]) -> list[GroupSensitivity]:
        """Measures every group that an interrupted run has not measured."""
        self._resume()
        pending = [group for group in groups if group.operators[0] not in self.done]
        for portion in self._portions(pending):
            self._measure(portion, len(groups))
        return [self.done[group.operators[0]] for group in groups]

    def _portions(self, groups: Sequence[Group]) -> Iterator[list[tuple[Group, Cut]]]:
        """Groups in graph order whose inputs behind the cut fit into memory together, for all samples."""
        from edgewright.graph.cut import cut, cut_bytes
        from edgewright.graph.groups import part_of

        names = {value.name or "" for value in self.model.graph.outputs}
        runs = sum(1 for _ in self.feeds) if groups else 0
        portion: list[tuple[Group, Cut]] = []
        for group in groups:
            part = cut(self.model, part_of(self.plan, group))
            wider = names | set(part.inputs.values())
            if portion and cut_bytes(self.model, wider) * runs > MEMORY_BYTES:
                yield portion
                portion, wider = (
                    [],
                    {value.name or "" for value in self.model.graph.outputs} | set(part.inputs.values()),
                )
            portion.append((group, part))
            names = wider
        if portion:
            yield portion

    def _measure(self, portion: Sequence[tuple[Group, Cut]], total: int) -> None:
        from edgewright.graph.cost import node_macs

        whole = max(sum(map(node_macs, self.model.graph)), 1)
        outputs = tuple(value.name or "" for value in self.model.graph.outputs)
        kept = self._float_run({name for _, part in portion for name in part.inputs.values()})
        for group, part in portion:
            self._record(_judged(group, part, kept, outputs, self._probable(), min(part.macs / whole, 1.0)))
            self.context.progress(len(self.done) / total, f"{len(self.done)} of {total} groups")

    def _float_run(self, names: set[str]) -> list[Mapping[str, NDArray[Any]]]:
        from edgewright.graph.cut import with_outputs
        from edgewright.passes._infer import open_infer

        infer = open_infer(with_outputs(self.model, names))
        return [{**feed, **infer(feed)} for _, feed in self.feeds]

    def _probable(self) -> frozenset[str]:
        from edgewright.graph.divergence import probabilities

        return probabilities(self.model.graph)

    def _record(self, found: GroupSensitivity) -> None:
        self.done[found.name] = found
        with (self.context.scratch / _DONE).open("a") as file:
            file.write(json.dumps(encode(found)) + "\n")

    def _resume(self) -> None:
        """Reads what an interrupted run measured; a line that was cut off is measured again."""
        file = self.context.scratch / _DONE
        for line in file.read_bytes().splitlines() if file.is_file() else ():
            try:
                found = decode_stored(GroupSensitivity, line)
            except ValueError:
                continue
            self.done[found.name] = found


def _judged(
    group: Group,
    part: Cut,
    kept: Sequence[Mapping[str, NDArray[Any]]],
    outputs: Sequence[str],
    probable: frozenset[str],
    share: float,
) -> GroupSensitivity:
    from edgewright.graph.divergence import Divergence
    from edgewright.passes._infer import open_infer

    infer = open_infer(part.model, integers=False)
    sums = Divergence(probable)
    for run in kept:
        found = infer({name: run[tensor] for name, tensor in part.inputs.items()})
        sums.add({name: run[name] for name in outputs}, found)
    return GroupSensitivity(
        operators=group.operators,
        tensors=group.tensors,
        loss=sums.loss(),
        sqnr_db=sums.sqnr_db(),
        mse=sums.mse(),
        divergence=sums.divergence(),
        share=share,
        nodes=group.nodes,
        feeds=group.feeds,
        elements=group.elements,
    )


def _resolved(scheme: Scheme | str) -> Scheme:
    from edgewright.graph.schemes import find

    return find(scheme) if isinstance(scheme, str) else scheme


plugin = SensitivityStep
