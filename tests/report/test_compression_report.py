"""What training, pruning and sparsifying left behind, as the report tells it."""

from __future__ import annotations

import json
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx_ir as ir
import pytest
from hypothesis import given
from hypothesis import strategies as st
from onnx import helper, numpy_helper
from rich.console import Console

from edgewright.core.codec import encode_json
from edgewright.core.digest import Digest, digest_json
from edgewright.core.measurement import Ratio
from edgewright.core.pruning import PRUNING_FILE, PrunedGroup, Pruning
from edgewright.core.recipe import Candidate, Recipe, StepSpec, Study
from edgewright.core.step import StepRecord
from edgewright.core.training import TRAINING_FILE, Epoch, History
from edgewright.graph.load import save
from edgewright.graph.sparsity import n_of_m
from edgewright.report import write_report
from edgewright.report.compression import compressions
from edgewright.report.evidence import NoEvidence, StoredEvidence
from edgewright.report.html import report_html
from edgewright.report.json_report import report_json
from edgewright.report.sparse import ratio
from edgewright.report.terminal import show_stages

PIPELINE = (
    StepSpec("prune", {"latency": 0.5}),
    StepSpec("sparsify", {"pattern": "2:4"}),
    StepSpec("distill", {"epochs": 3}),
    StepSpec("clean-up"),
    StepSpec("static-int8"),
    StepSpec("qat", {"epochs": 2}),
)
PRUNING = Pruning(
    "latency 0.5", "taylor", tuple(PrunedGroup(f"g{i}", "channels", (f"/layer{i}/conv1/Conv",), 32 + 16 * i, 16 + 8 * i)
                                   for i in range(4)),
    (("/head/Gemm", "its outputs are the model's"),), predicted=0.52, macs=0.4, parameters=0.45,
)  # fmt: skip


@dataclass
class Folders(NoEvidence):
    """What steps left, in folders."""

    outputs: dict[Digest, Path] = field(default_factory=dict)

    def made(self, record: StepRecord) -> Path | None:
        return self.outputs.get(record.output)


def tried(study: Study, title: str, speed: float, passes: tuple[StepSpec, ...]) -> Candidate:
    """A measured candidate of that speed."""
    base = study.candidate("onnxruntime/INT8 minmax")
    assert base.measurement is not None
    assert base.measurement.timing is not None
    timing = replace(base.measurement.timing, speedup=Ratio(speed, 0.98 * speed, 1.02 * speed))
    measured = replace(base.measurement, timing=timing)
    return replace(base, id=title, recipe=Recipe(title, passes), measurement=measured)


def history(title: str, scores: list[float], best: int) -> History:
    epochs = tuple(Epoch(1 / (i + 1), score, 1e-3) for i, score in enumerate(scores[1:]))
    return History(title, scores[0], epochs, best, 800, 90, stopped="no better score for 2 epochs" if best < 0 else "")


DISTILLED, TUNED = history("agreement", [0.61, 0.8, 0.93, 0.92], 1), history("-loss", [-0.4, -0.3, -0.35], 0)


def sparse_model(dense: bool = False) -> ir.Model:
    weights = np.random.default_rng(0).standard_normal((8, 16)).astype(np.float32)
    weights = weights if dense else np.where(n_of_m(weights, 1, 2, 4), weights, 0).astype(np.float32)
    node = helper.make_node("Gemm", ["x", "w"], ["y"], "head", transB=1)
    value = helper.make_tensor_value_info
    graph = helper.make_graph([node], "g", [value("x", 1, [1, 16])], [value("y", 1, [1, 8])],
                              [numpy_helper.from_array(weights, "w")])  # fmt: skip
    return ir.from_proto(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)]))


def record(name: str, number: int, folder: Path, evidence: Folders) -> StepRecord:
    output = digest_json([name, number])
    evidence.outputs[output] = folder / f"{number}-{name}"
    evidence.outputs[output].mkdir(parents=True)
    return StepRecord(name, 1, {}, output, {}, output, {}, 12.5)


def pipeline(study: Study, folder: Path, evidence: Folders, passes: tuple[StepSpec, ...] = PIPELINE) -> Candidate:
    """A candidate whose steps left their files; a step that only gathered figures stands between."""
    names = ["onnx", *(spec.name for spec in passes), "onnxruntime"]
    if "static-int8" in names:
        names.insert(names.index("static-int8"), "calibrate")
    lineage = tuple(record(name, i, folder, evidence) for i, name in enumerate(names))
    files: dict[str, tuple[str, Any]] = {
        "prune": (PRUNING_FILE, PRUNING),
        "distill": (TRAINING_FILE, DISTILLED),
        "qat": (TRAINING_FILE, TUNED),
    }
    for step in lineage:
        if step.step in files:
            name, found = files[step.step]
            (evidence.outputs[step.output] / name).write_bytes(encode_json(found))
        if step.step == "qat":
            save(sparse_model(), evidence.outputs[step.output])
    return replace(tried(study, "pruned and distilled", 3.1, passes), lineage=lineage)


@pytest.fixture
def compressed(keywords: Study, tmp_path: Path) -> tuple[Study, Folders]:
    evidence = Folders()
    ours, float_one = pipeline(keywords, tmp_path, evidence), tried(keywords, "pruned", 2.0, PIPELINE[:1])
    winners = {**keywords.winners, "onnxruntime": ours.id}
    return replace(keywords, candidates=(*keywords.candidates, float_one, ours), winners=winners), evidence


def test_every_stage_says_what_it_did(compressed: tuple[Study, Folders]) -> None:
    (found,) = compressions(compressed[0], "onnxruntime", compressed[1])
    assert found.winner
    assert [stage.title for stage in found.stages] == [str(spec) for spec in PIPELINE]
    pruned, sparsified, distilled, _, _, tuned = found.stages
    assert "224 channels and heads in 4 groups became 112" in pruned.did
    assert "latency predicted at 52%" in pruned.did
    assert pruned.quality.startswith("top-1 89.9% on tune, 2.00x"), "the candidate that ends there was tried"
    assert sparsified.did == ""
    assert distilled.did == "3 epochs on 800 samples (cpu), kept epoch 2; agreement 61.0% to 93.0% on 90 held out"
    assert distilled.quality == "", "no candidate ends there"
    assert tuned.did.endswith("-loss -0.4 to -0.3 on 90 held out")
    assert tuned.quality.startswith("top-1 89.9% on tune, 3.10x"), "the whole pipeline"
    assert {stage.seconds for stage in found.stages} == {12.5}
    assert found.fixed == PRUNING.fixed
    assert set(found.figures) == set(found.captions) == {"score-0", "score-1", "loss", "widths", "zeros"}


def test_curves_go_through_the_stages_and_mark_the_epoch_kept(compressed: tuple[Study, Folders]) -> None:
    (found,) = compressions(compressed[0], "onnxruntime", compressed[1])
    line, star = found.figures["score-0"]["data"]
    assert line["x"] == [0, 1, 2, 3]
    assert line["y"] == pytest.approx([61, 80, 93, 92])
    assert (star["x"], star["y"]) == ([2], pytest.approx([93]))
    later, kept = found.figures["score-1"]["data"]
    assert later["x"] == [3, 4, 5]
    assert kept["x"] == [4]
    assert [trace["x"] for trace in found.figures["loss"]["data"]] == [[1, 2, 3], [4, 5]]
    before, after = found.figures["widths"]["data"]
    assert [before["y"], after["y"]] == [[32, 48, 64, 80], [16, 24, 32, 40]]


def test_sparse_weights_say_what_they_bring(compressed: tuple[Study, Folders]) -> None:
    study, evidence = compressed
    (found,) = compressions(study, "onnxruntime", evidence)
    assert found.sparse is not None
    assert found.sparse.text.startswith("50% of the weights are zero; of 1 layer 1 keep to 2:4. What they bring")
    assert "compute a zero like any other weight" in found.sparse.text
    dense = tuple(spec for spec in PIPELINE if spec.name != "sparsify")
    for speed, said in ((3.12, "bring nothing on onnxruntime: 0.99x"), (1.9, "bring speed"), (4.5, "cost speed")):
        twin = tried(study, "the same, dense", speed, dense)
        more = replace(study, candidates=(*study.candidates, twin))
        shown = next(c for c in compressions(more, "onnxruntime", evidence) if c.winner).sparse
        assert shown is not None
        assert said in shown.text
        assert "the same, dense" in shown.text


def test_the_page_shows_stages_and_figures(compressed: tuple[Study, Folders]) -> None:
    page = report_html(*compressed)
    assert "Trained, pruned, sparsified" in page
    plots = json.loads(page.partition('id="plots">')[2].partition("</script>")[0])
    for kind in ("score-0", "loss", "widths", "zeros"):
        name = f"target-0-compression-0-{kind}"
        assert name in plots
        assert f'id="{name}"' in page
    assert "bring in speed was not measured" in page


def test_json_and_terminal_tell_the_stages(compressed: tuple[Study, Folders], tmp_path: Path) -> None:
    study, evidence = compressed
    write_report(study, evidence, tmp_path / "out")
    ((found,),) = json.loads((tmp_path / "out" / "report.json").read_text())["compression"].values()
    assert [epoch["score"] for epoch in found["stages"][2]["history"]["epochs"]] == [0.8, 0.93, 0.92]
    assert found["stages"][0]["pruning"]["groups"][0]["after"] == 16
    assert found["sparse"]["layers"][0]["pattern"] == "2:4"
    console = Console(width=400)
    with console.capture() as seen:
        show_stages(tmp_path / "out" / "report.json", study.winners, console)
    assert "3. distill(epochs=3): 3 epochs on 800 samples (cpu), kept epoch 2" in seen.get()
    assert "compute a zero like any other weight" in seen.get()
    with console.capture() as seen:
        show_stages(tmp_path / "nothing.json", study.winners, console)
    assert seen.get() == ""


def test_what_a_step_made_is_found_by_its_digest(compressed: tuple[Study, Folders], tmp_path: Path) -> None:
    record = compressed[0].best("onnxruntime").lineage[1]
    stored = StoredEvidence({record.output: tmp_path}.get, lambda split: [])
    assert stored.made(record) == tmp_path
    assert stored.made(compressed[0].best("onnxruntime").lineage[0]) is None
    assert NoEvidence().made(record) is None


def test_a_study_without_training_has_no_such_section(keywords: Study) -> None:
    assert compressions(keywords, "onnxruntime", NoEvidence()) == ()
    assert "Trained, pruned, sparsified" not in report_html(keywords, NoEvidence())
    assert "compression" not in json.loads(report_json(keywords))


def test_collected_or_damaged_files_leave_the_stages(compressed: tuple[Study, Folders]) -> None:
    study, evidence = compressed
    for folder in evidence.outputs.values():
        for name in (TRAINING_FILE, PRUNING_FILE):
            if (folder / name).is_file():
                (folder / name).write_text("{")
    (found,) = compressions(study, "onnxruntime", evidence)
    assert [stage.did for stage in found.stages] == [""] * len(PIPELINE)
    assert set(found.figures) == {"zeros"}


def test_a_training_that_kept_its_start_says_so(keywords: Study, tmp_path: Path) -> None:
    evidence = Folders()
    ours = pipeline(keywords, tmp_path, evidence, (StepSpec("fine-tune"),))
    folder = evidence.outputs[ours.lineage[1].output]
    (folder / TRAINING_FILE).write_bytes(encode_json(history("top-1", [0.9, 0.8, 0.7], -1)))
    (found,) = compressions(replace(keywords, candidates=(ours,), winners={}), "onnxruntime", evidence)
    assert found.stages[0].did.split("; ")[0] == (
        "2 epochs on 800 samples (cpu), kept the weights it began with, ended early: no better score for 2 epochs"
    )
    assert found.stages[0].did.endswith("; top-1 90.0% to 90.0% on 90 held out")
    assert found.sparse is None


@given(st.floats(0.5, 4), st.floats(0.5, 4), st.floats(1.001, 1.5), st.floats(1.001, 1.5))
def test_a_ratio_of_ratios_holds_both_errors(a: float, b: float, wide: float, narrow: float) -> None:
    found = ratio(Ratio(a, a / wide, a * wide), Ratio(b, b / narrow, b * narrow))
    assert found.value == pytest.approx(a / b)
    assert found.high / found.value >= max(wide, narrow) - 1e-9
    assert found.high / found.value <= wide * narrow + 1e-9


def test_names_that_look_like_markup_stay_text(keywords: Study, tmp_path: Path) -> None:
    evidence = Folders()
    ours = pipeline(keywords, tmp_path, evidence)
    folder = next(evidence.outputs[r.output] for r in ours.lineage if r.step == "prune")
    group = PrunedGroup("g", "channels", ("<script>alert(1)</script>",), 8, 4)
    (folder / PRUNING_FILE).write_bytes(encode_json(replace(PRUNING, groups=(group,), fixed=(("<b>", "<i>"),))))
    study = replace(keywords, candidates=(ours,), winners={"onnxruntime": ours.id})
    page = report_html(study, evidence)
    assert "<script>alert(1)" not in page
    assert "<td><i></td>" not in page
