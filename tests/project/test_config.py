from __future__ import annotations

import pytest

from edgewright.core.recipe import StepSpec
from edgewright.engine import registry
from edgewright.errors import ConfigError
from edgewright.project.config import load_project

GOOD = """
schema = 1
name = "digits"
labels = ["zero", "one"]
[model]
source = "model.onnx"
[data]
reader = "npz"
path = "${DATA_FOLDER}/digits.npz"
[quality]
metrics = ["top-1"]
[budget]
quality_drop = 0.01
[[targets]]
name = "onnxruntime"
strict = true
"""


@pytest.fixture
def write(tmp_path, monkeypatch):
    monkeypatch.setenv("DATA_FOLDER", "/data")

    def write(text: str):
        (tmp_path / "edgewright.toml").write_text(text)
        return tmp_path

    return write


def test_a_project_is_read(write):
    project = load_project(write(GOOD))
    assert project.file.data["path"] == "/data/digits.npz"
    assert project.file.budget.quality_drop == 0.01
    (target,) = project.targets
    assert (target.label, target.step) == ("onnxruntime", StepSpec("onnxruntime", {"strict": True}))
    assert project.labels == ("zero", "one")


TWICE = """
[[targets]]
name = "onnxruntime"
label = "pi"
device = "ssh://pi@10.0.0.7"
"""


def test_two_devices_of_one_target_have_labels(write):
    targets = load_project(write(GOOD + TWICE)).targets
    assert [(t.label, t.step.name, t.device) for t in targets] == [
        ("onnxruntime", "onnxruntime", ""),
        ("pi", "onnxruntime", "ssh://pi@10.0.0.7"),
    ]
    assert "device" not in targets[1].step.config


@pytest.mark.parametrize(
    ("entry", "said"),
    [
        ('name = "onnxruntime"', 'label "onnxruntime" is given twice'),
        ('name = "null"\nlabel = "../up"', 'label = "../up"'),
        ('name = "null"\ndevice = 7', "device = 7"),
    ],
)
def test_labels_are_checked(write, entry, said):
    with pytest.raises(ConfigError) as error:
        load_project(write(GOOD + f"[[targets]]\n{entry}\n")).targets  # noqa: B018
    assert said in str(error.value)


def test_labels_may_come_from_a_file(write, tmp_path):
    (tmp_path / "labels.txt").write_text("a\nb\n\n")
    (tmp_path / "labels.json").write_text('["c"]')
    assert load_project(write(GOOD.replace('["zero", "one"]', '"labels.txt"'))).labels == ("a", "b")
    assert load_project(write(GOOD.replace('["zero", "one"]', '"labels.json"'))).labels == ("c",)


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("quality_drop", "quality_dorp", '"quality_drop"'),
        ("[model]\nsource", "[model]\nsorce", '"source"'),
        ("schema = 1", "schema = 2", "schema 1"),
        ("[[targets]]", "[[target]]", '"targets"'),
        ('name = "onnxruntime"', "", 'name = "..."'),
        ('metrics = ["top-1"]', "metrics = []", "at least one"),
        ("${DATA_FOLDER}", "${NOT_SET}", "export NOT_SET"),
        ('["zero", "one"]', '"missing.txt"', "one label per line"),
        ("quality_drop = 0.01", 'quality_drop = "a"', "reference"),
        ("quality_drop = 0.01", "latency_percentile = 94", "50, 90, 95 or 99"),
        ("schema = 1", "schema = ", "line"),
        ("[budget]", "[search]\nthreads = [0]\n[budget]", "1 or larger"),
        ("[budget]", '[search]\nobjective = "speed"\n[budget]', "latency"),
    ],
)
def test_mistakes_name_their_fix(write, old, new, said):
    with pytest.raises(ConfigError) as caught:
        load_project(write(GOOD.replace(old, new))).targets  # noqa: B018
    assert said in caught.value.hint
    assert caught.value.exit_code == 2


def test_a_missing_file_is_said(tmp_path):
    with pytest.raises(ConfigError, match="no project file"):
        load_project(tmp_path)


def test_a_damaged_label_file_is_said(write, tmp_path):
    (tmp_path / "labels.json").write_text('["c"')
    with pytest.raises(ConfigError, match="labels: cannot read"):
        load_project(write(GOOD.replace('["zero", "one"]', '"labels.json"')))


def test_recipe_names_a_scheme(write) -> None:
    recipe = '[[recipes]]\ntitle = "7 bits"\n[[recipes.passes]]\nname = "static-int8"\nscheme = "onnxruntime-u8s7"\n'
    project = load_project(write(GOOD + recipe))
    (step,) = project.recipes[0].passes
    assert registry.describe(registry.make("passes", step)).config["scheme"]["weight_bits"] == 7
