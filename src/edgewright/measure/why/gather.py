"""Gathers the evidence: the output after each stage, then the layers of the stages that lose some of it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from edgewright.core.parity import CLEAN_UP, CONVERSION, IMPORT, POSTPROCESSING, PRECISION, PREPROCESSING, RUNTIME
from edgewright.errors import EdgewrightError
from edgewright.graph.load import load
from edgewright.graph.shapes import infer_shapes
from edgewright.measure.why import conventions, figures, floats, graphs
from edgewright.measure.why.evidence import Calibration, Evidence, Overflow, RuntimeDifference
from edgewright.measure.why.models import Feed, Opened, activations, open_model, run, run_really
from edgewright.measure.why.thresholds import THRESHOLDS, Thresholds
from edgewright.measure.why.units import Scene, units

Array = NDArray[Any]
Tables = tuple[Mapping[str, Any], ...]
LARGEST_HALF = 65504.0


@dataclass(frozen=True, slots=True, eq=False)
class Question:
    """What is asked.

    Attributes:
        reference: Model file or folder.
        candidate: Model file, model folder or artifact folder.
        paths: `reference`, `candidate`, `project` and `deployed` as the reader wrote them.
        prepare: Tables of preprocessing -> the samples prepared with them; None where they do not fit the model.
        tables: Preprocessing of the reference's project.
        deployed: Preprocessing of the candidate's project, where it has one.
        calibration: Prepared calibration samples; None without any.
        labels: Class names of the reference's project.
        deployed_labels: Class names of the candidate's project.
        safe_8_bits: Whether this processor adds products of 8-bit weights without saturating.
    """

    reference: Path
    candidate: Path
    paths: Mapping[str, str]
    prepare: Callable[[Tables], Feed | None]
    tables: Tables
    deployed: Tables | None = None
    calibration: Feed | None = None
    labels: tuple[str, ...] = ()
    deployed_labels: tuple[str, ...] = ()
    safe_8_bits: bool = True


def gather(question: Question, scratch: Path, thresholds: Thresholds = THRESHOLDS) -> Evidence:
    """Returns everything the rules need.

    Raises:
        EdgewrightError: A model cannot be read or run, or the samples do not fit the reference.
    """
    return _Gathering(question, scratch, thresholds).run()


@dataclass
class _Gathering:
    question: Question
    scratch: Path
    thresholds: Thresholds
    stages: dict[str, float] = field(default_factory=dict)

    def run(self) -> Evidence:
        question = self.question
        self.reference = open_model(question.reference, self.scratch / "reference")
        self.candidate = open_model(question.candidate, self.scratch / "candidate")
        feed = question.prepare(question.tables)
        assert feed is not None
        self.feed = feed
        self.values = {**feed, **activations(self.reference.model, feed)}
        self.cleaned = _cleaned(self.reference.model)
        self.own = floats.own_weights((self.cleaned, self.reference.model), self.candidate.model)
        self.twin = graphs.with_weights(graphs.float_twin(self.candidate.model), self.own)
        found = self._outputs()
        labels = self._labels(found["real"])
        inputs = self._conventions()
        if labels is not None:
            self.stages[POSTPROCESSING] = figures.LOST_DB
        if inputs and question.deployed is None:
            self.stages[PREPROCESSING] = figures.LOST_DB
        quantised = any(True for _ in graphs.quantisers(self.candidate.model.graph))
        layers = self._layers()
        calibration = self._calibration() if quantised else None
        return Evidence(
            dict(self.stages),
            question.paths,
            units(self._scene(found["twin"])) if quantised and self._lossy(PRECISION) else (),
            layers,
            self._runtime() if quantised and self._lossy(RUNTIME) else (),
            self._overflows(),
            inputs,
            labels,
            calibration,
            self.candidate.plan.scheme if self.candidate.plan else "",
            question.safe_8_bits,
            quantised,
            graphs.is_half(self.candidate.model.graph),
            self.candidate.artifact.session,
        )

    def _lossy(self, stage: str) -> bool:
        return self.stages.get(stage, figures.EXACT_DB) < 2 * self.thresholds.stage_db

    def _first(self, outputs: Mapping[str, Array]) -> Array:
        return outputs[self.reference.model.graph.outputs[0].name or ""]

    def _output(self, model: ir.Model, made: Mapping[str, Array]) -> Array:
        """Returns the first output of a model; names may differ, the order does not."""
        return made[model.graph.outputs[0].name or ""]

    def _outputs(self) -> dict[str, Array]:
        wanted = self._first(self.values)
        found = {"reference": wanted}
        before = wanted
        for stage, name in ((IMPORT, "import"), (CLEAN_UP, "clean-up")):
            step = self.candidate.steps.get(name)
            if step is not None:
                model = infer_shapes(load(step))
                found[name] = self._output(model, run(model, self.feed))
                self.stages[stage] = figures.columns_db(before, found[name])
                before = found[name]
        candidate = self.candidate.model
        makers: tuple[tuple[str, str, Callable[[], Array]], ...] = (
            (CONVERSION, "twin", lambda: self._output(self.twin, run(self.twin, self.feed))),
            (PRECISION, "arithmetic", lambda: self._output(candidate, run(candidate, self.feed))),
            (RUNTIME, "real", self._really),
        )
        for stage, name, make in makers:
            found[name] = make()
            self.stages[stage] = figures.columns_db(before, found[name])
            before = found[name]
        if self.question.deployed is not None:
            other = self.question.prepare(self.question.deployed)
            reached = None if other is None else self._first(run(self.reference.model, other))
            self.stages[PREPROCESSING] = figures.LOST_DB if reached is None else figures.columns_db(wanted, reached)
        return found

    def _really(self) -> Array:
        made = run_really(self.candidate.model, self.candidate.artifact, self.feed, self.scratch / "really")
        return self._output(self.candidate.model, made)

    def _scene(self, twin: Array) -> Scene:
        makers = {**graphs.producers(self.cleaned.graph), **graphs.producers(self.reference.model.graph)}
        given = self.question.calibration
        calibration = {} if given is None else {**given, **activations(self.reference.model, given)}

        def measure(model: ir.Model) -> float:
            try:
                return figures.columns_db(twin, self._output(model, run(model, self.feed)))
            except Exception:  # a graph that cannot run without one quantiser tells nothing about it
                return figures.LOST_DB

        return Scene(self.candidate, self.values, calibration, self.own, makers, measure)

    def _layers(self) -> tuple[Any, ...]:
        """Compares the two models of every float stage that loses something."""
        found: list[Any] = []
        before = self.reference.model
        makers = graphs.producers(before.graph)
        for stage, name in ((IMPORT, "import"), (CLEAN_UP, "clean-up")):
            step = self.candidate.steps.get(name)
            if step is not None:
                after = infer_shapes(load(step))
                if self._lossy(stage):
                    found += floats.differences(stage, before, after, self.feed, makers)
                before = after
        if self._lossy(CONVERSION):
            if not self.candidate.steps:
                before = _merged(self.reference.model, self.cleaned)
            found += floats.differences(CONVERSION, before, self.twin, self.feed, makers)
        return tuple(found)

    def _overflows(self) -> tuple[Overflow, ...]:
        graph = self.candidate.model.graph
        if not graphs.is_half(graph):
            return ()
        made = {v.name: node for node in graph for v in node.outputs if v.dtype == ir.DataType.FLOAT16}
        makers = graphs.producers(self.reference.model.graph)
        found = []
        for name, node in made.items():
            values = self.values.get(name or "")
            largest = 0.0 if values is None else float(np.abs(values).max())
            if values is None or largest <= LARGEST_HALF:
                continue
            chain = tuple(n for n in made.values() if self._exceeds(n))
            nodes = tuple(dict.fromkeys([node.name or "", *(n.name or "" for n in chain), *_readers(chain)]))
            reference = makers.get(name or "")
            over = int((np.abs(values) > LARGEST_HALF).sum())
            found.append(Overflow((reference.name or "") if reference else "", nodes, name or "", largest, over))
        return tuple(found)

    def _exceeds(self, node: ir.Node) -> bool:
        values = [self.values[v.name] for v in node.outputs if v.name in self.values]
        return any(float(np.abs(v).max()) > LARGEST_HALF for v in values)

    def _runtime(self) -> tuple[RuntimeDifference, ...]:
        """Runs every layer on the same integers, fused as in the artifact and node by node."""
        candidate = self.candidate
        seen = activations(candidate.model, self.feed)
        parted, made = graphs.cut(candidate.model, integers=True)
        given = {f"{graphs.plain_name_of(name)}{graphs.CUT}": array for name, array in seen.items()}
        names = {value.name for value in parted.graph.inputs}
        feed = {**self.feed, **{name: array for name, array in given.items() if name in names}}
        try:
            wanted = run(parted, feed)
            found = run_really(parted, candidate.artifact, feed, self.scratch / "parted")
        except EdgewrightError:
            return ()
        worst = _pair_sums(candidate)
        makers = graphs.producers(self.reference.model.graph)
        theirs = graphs.producers(candidate.model.graph)
        rows = []
        for output, tensor in made.items():
            apart = np.abs(wanted[output].astype(np.int64) - found[output].astype(np.int64))
            node = makers.get(tensor)
            mine = theirs.get(tensor)
            name = (node.name or "") if node is not None else ""
            before = _weighted_before(mine)
            rows.append(
                RuntimeDifference(
                    name,
                    tensor,
                    float((apart > 1).mean()),
                    float(apart.max(initial=0)),
                    worst.get(before.name or "", 0.0) if before is not None else 0.0,
                    before.op_type if before is not None else "",
                )
            )
        return tuple(row for row in rows if row.differing > 0)

    def _labels(self, found: Array) -> Any:
        wanted = self._first(self.values)
        deployed = self.question.deployed_labels or self.question.labels
        return conventions.label_order(wanted, found, self.question.labels, deployed, self.thresholds)

    def _conventions(self) -> tuple[Any, ...]:
        question = self.question
        if question.deployed is not None:
            other = question.prepare(question.deployed)
            name = next(iter(self.feed))
            if other is None:
                return ()
            return conventions.compared_inputs(self.feed[name], other[name], question.tables, self.thresholds)
        if min(self.stages.values()) > self.thresholds.stage_db:
            return ()
        return conventions.tried_inputs(self._tried, self._first(self.values), question.tables, self.thresholds)

    def _tried(self, tables: Tables) -> Array | None:
        try:
            feed = self.question.prepare(tables)
        except EdgewrightError:
            return None
        if feed is None or any(feed[n].dtype != self.feed[n].dtype for n in self.feed):
            return None
        return self._output(self.candidate.model, run(self.candidate.model, feed))

    def _calibration(self) -> Calibration | None:
        given = self.question.calibration
        if given is None:
            return None
        seen = {**given, **activations(self.reference.model, given)}
        ratios, clipped, there = [], [], []
        for quantiser in graphs.quantisers(self.candidate.model.graph):
            values, other = self.values.get(quantiser.tensor), seen.get(quantiser.tensor)
            if values is not None and other is not None:
                ratios.append(_span_ratio(values, other))
                clipped.append(_outside(values, quantiser.range))
                there.append(_outside(other, quantiser.range))
        if not ratios:
            return None
        name = next(iter(self.feed))
        return Calibration(
            len(ratios),
            float(np.mean(clipped)),
            float(np.mean(there)),
            float(np.median(ratios)),
            _span_ratio(self.feed[name], given[name]),
        )


def _span_ratio(values: Array, other: Array) -> float:
    return float(np.ptp(values)) / max(float(np.ptp(other)), 1e-12)


def _outside(values: Array, limits: tuple[float, float]) -> float:
    slack = (limits[1] - limits[0]) / 255
    return float(((values < limits[0] - slack) | (values > limits[1] + slack)).mean())


def _merged(reference: ir.Model, cleaned: ir.Model) -> ir.Model:
    """Returns the form of the reference that a converted model resembles: cleaned up, where that worked."""
    return cleaned if len(list(cleaned.graph)) <= len(list(reference.graph)) else reference


def _cleaned(model: ir.Model) -> ir.Model:
    from edgewright.graph.simplify import simplify

    try:
        return simplify(model.clone())
    except Exception:  # a model that cannot be cleaned up is compared as it is
        return model


def _readers(nodes: Sequence[ir.Node]) -> list[str]:
    return [
        use.node.name or "" for node in nodes for v in node.outputs for use in v.uses() if use.node.op_type != "Cast"
    ]


def _weighted_before(node: ir.Node | None) -> ir.Node | None:
    while node is not None and node.op_type not in graphs.WEIGHTED:
        source = graphs.real_source(node.inputs[0]) if node.inputs else None
        node = source.producer() if source is not None and node.op_type in ("Relu", "Clip", "Add") else None
    return node


def _pair_sums(candidate: Opened) -> dict[str, float]:
    from edgewright.graph.qdq import read_plan
    from edgewright.graph.saturation import predict

    try:
        risks = predict(candidate.model.graph, read_plan(candidate.model.graph))
    except Exception:  # only evidence is lost: the difference itself was measured
        return {}
    return {risk.node: risk.worst for risk in risks}
