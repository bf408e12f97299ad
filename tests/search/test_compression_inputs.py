"""What a pass is given beside the model."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

import pytest

from edgewright.core.codec import encode_json
from edgewright.core.digest import Digest
from edgewright.core.measurement import Device
from edgewright.core.recipe import StepSpec
from edgewright.core.step import StepRecord
from edgewright.core.tensors import TensorSpec
from edgewright.engine import registry
from edgewright.engine.execute import Input, Result
from edgewright.errors import ConfigError, UsageError
from edgewright.search.imported import Imported
from edgewright.search.passes import PassRunner, Pricing
from edgewright.search.places import Place

DEVICE = Device("local", "x86_64", "test", 2, ("avx2",), 1 << 30, "Linux")
TARGET = StepSpec("onnxruntime", {"level": "all"})


class _Recorder:
    """Stands where the executor is and notes what it is asked."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.asked: list[tuple[str, StepSpec, dict[str, Input], Any]] = []

    def run(
        self, group: str, spec: StepSpec, inputs: dict[str, Input], *, lineage: Any = (), device: Any = None
    ) -> Any:
        self.asked.append((group, spec, inputs, device))
        return result(f"{group}/{spec.name}", self.root, lineage)


def result(name: str, path: Path, lineage: tuple[StepRecord, ...] = ()) -> Result:
    record = StepRecord(name, 1, {}, Digest(""), {}, Digest(name))
    return Result(path, record, False, (*lineage, record))


class _Pass:
    needs: ClassVar[tuple[str, ...]] = ("teacher", "costs", "code", "data")


class _Student:
    needs: ClassVar[tuple[str, ...]] = ("student", "costs")

    @classmethod
    def wants(cls, config: Mapping[str, Any]) -> tuple[str, ...]:
        return ("student",) if "network" in config else ()


class _Plain:
    needs: ClassVar[tuple[str, ...]] = ()


@pytest.fixture
def recorder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> _Recorder:
    known = {"train": _Pass, "plain": _Plain, "student": _Student}
    monkeypatch.setattr(registry, "load", lambda group, name: known[name])
    return _Recorder(tmp_path)


def runner(recorder: _Recorder, pricing: bool = True) -> PassRunner:
    place = Pricing(TARGET, 2, Place(DEVICE, "ssh://pi")) if pricing else None
    return PassRunner(recorder, Input(recorder.root, Digest("data")), pricing=place)  # type: ignore[arg-type]


def inputs_of_train(recorder: _Recorder, **config: Any) -> dict[str, Input]:
    imported = result("sources/onnx", recorder.root)
    runner(recorder).run(imported, (StepSpec("plain"), StepSpec("train", config)))
    return next(inputs for _, spec, inputs, _ in recorder.asked if spec.name == "train")


def test_the_imported_model_teaches_unless_another_is_named(recorder: _Recorder) -> None:
    assert inputs_of_train(recorder)["teacher"].digest == "sources/onnx"
    assert inputs_of_train(recorder)["model"].digest == "passes/plain"


def test_a_teacher_in_a_file_is_imported_first(recorder: _Recorder) -> None:
    (recorder.root / "large.onnx").write_bytes(b"model")
    given = inputs_of_train(recorder, teacher="large.onnx")
    assert recorder.asked[1][:2] == ("sources", StepSpec("onnx"))
    assert recorder.asked[1][2]["model"].path == recorder.root / "large.onnx"
    assert given["teacher"].digest == "sources/onnx"


def test_a_teacher_in_pytorch_is_built_by_its_factory_with_the_inputs_of_the_model(recorder: _Recorder) -> None:
    (recorder.root / "nets.py").write_text("def large(): ...\n")
    spec = TensorSpec("image", "float32", ("n", 3, 8, 8))
    (recorder.root / "import.json").write_bytes(encode_json(Imported("onnx", 18, (spec,), (), 1, 0.0)))
    inputs_of_train(recorder, teacher="nets:large")
    group, source, inputs, _ = next(asked for asked in recorder.asked if asked[1].name == "torch")
    assert (group, source.config["factory"]) == ("sources", "nets:large")
    assert source.config["inputs"][0]["shape"] == ("n", 3, 8, 8)
    assert inputs["code"].path == recorder.root


def test_a_teacher_that_is_not_there_or_is_no_model_is_said(recorder: _Recorder) -> None:
    with pytest.raises(UsageError, match="no teacher"):
        inputs_of_train(recorder, teacher="lost.onnx")
    (recorder.root / "notes.txt").write_text("")
    with pytest.raises(UsageError, match="cannot tell"):
        inputs_of_train(recorder, teacher="notes.txt")


def test_a_student_of_the_users_own_is_imported_and_one_of_the_catalogue_is_not(recorder: _Recorder) -> None:
    (recorder.root / "small.onnx").write_bytes(b"model")
    imported = result("sources/onnx", recorder.root)
    given: dict[str, dict[str, Input]] = {}
    for network in ("", "mobilenetv3-0.5", "small.onnx"):
        config = {"network": network} if network else {}
        runner(recorder).run(imported, (StepSpec("student", config),))
        given[network] = recorder.asked[-1][2]
    assert [list(inputs) for inputs in given.values()] == [["model"], ["model"], ["model", "student"]]


def test_costs_are_measured_on_the_target_where_it_runs(recorder: _Recorder) -> None:
    given = inputs_of_train(recorder)
    group, spec, inputs, device = next(asked for asked in recorder.asked if asked[1].name == "channel-costs")
    assert (group, device) == ("measure", DEVICE)
    expected = {"target": {"name": "onnxruntime", "config": {"level": "all"}}, "threads": 2, "device": "ssh://pi"}
    assert spec.config == expected
    assert inputs["model"].digest == "passes/plain"
    assert given["costs"].digest == "measure/channel-costs"
    with pytest.raises(ConfigError, match="needs a target"):
        runner(recorder, pricing=False).run(result("x", recorder.root), (StepSpec("train"),))


def test_code_is_given_only_where_a_field_names_a_function_and_changes_with_it(recorder: _Recorder) -> None:
    assert "code" not in inputs_of_train(recorder, loss="cross-entropy")
    own = {"fit": {"augment": [{"op": "losses:shake"}]}}
    recorder.asked.clear()
    (recorder.root / "losses.py").write_text("def shake(): ...\n")
    before = inputs_of_train(recorder, **own)["code"]
    assert before.path == recorder.root
    recorder.asked.clear()
    (recorder.root / "losses.py").write_text("def shake(): return 1\n")
    assert inputs_of_train(recorder, **own)["code"].digest != before.digest
