from pathlib import Path

import numpy as np
import pytest
from tokenizers import Tokenizer, models, pre_tokenizers

from edgewright.core.tensors import TensorSpec
from edgewright.errors import ConfigError, DataError
from edgewright.pipeline import Preprocess


@pytest.fixture
def root(tmp_path):
    tokenizer = Tokenizer(models.WordLevel({"[pad]": 0, "[unk]": 1, "where": 2, "is": 3, "my": 4, "card": 5}, "[unk]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.enable_padding(length=20)
    (tmp_path / "text").mkdir()
    tokenizer.save(str(tmp_path / "text" / "tokenizer.json"))
    return tmp_path


def test_own_length(root):
    prepared = Preprocess.from_spec([{"op": "tokenise", "file": "text/tokenizer.json"}], root)("where is the card")
    assert prepared.tensors["input_ids"].tolist() == [2, 3, 1, 5]
    assert prepared.tensors["attention_mask"].tolist() == [1, 1, 1, 1]
    assert prepared.tensors["input_ids"].dtype == np.int64


def test_fixed_length_fills_and_cuts(root):
    op = {"op": "tokenise", "file": "text/tokenizer.json", "length": 3, "pad": 7, "dtype": "int32", "types": "types"}
    preprocess = Preprocess.from_spec([op], root)
    short, long = preprocess("card"), preprocess("where is my card")
    assert short.tensors["input_ids"].tolist() == [5, 7, 7]
    assert short.tensors["attention_mask"].tolist() == [1, 0, 0]
    assert short.tensors["types"].tolist() == [0, 0, 0]
    assert long.tensors["input_ids"].tolist() == [2, 3, 4]
    assert long.tensors["input_ids"].dtype == np.int32


def test_longest_length(root):
    op = {"op": "tokenise", "file": "text/tokenizer.json", "max_length": 2, "mask": "", "ids": "tokens"}
    prepared = Preprocess.from_spec([op], root)("where is my card")
    assert {name: a.tolist() for name, a in prepared.tensors.items()} == {"tokens": [2, 3]}


def test_names_are_held_against_the_model(root):
    inputs = [TensorSpec("ids", "int64", ("batch", "length"))]
    preprocess = Preprocess.from_spec([{"op": "tokenise", "file": "text/tokenizer.json"}], root, inputs)
    with pytest.raises(DataError, match="ids: int64"):
        preprocess("card")


def test_files_can_move(root, tmp_path):
    preprocess = Preprocess.from_spec([{"op": "tokenise", "file": "text/tokenizer.json", "length": 4}], root)
    assert preprocess.resources() == {"text/tokenizer.json": root / "text" / "tokenizer.json"}
    elsewhere = tmp_path / "bundle"
    (elsewhere / "resources").mkdir(parents=True)
    (root / "text" / "tokenizer.json").rename(elsewhere / "resources" / "t.json")
    moved = preprocess.with_resources({"text/tokenizer.json": "resources/t.json"}, elsewhere)
    assert moved.spec == ({"op": "tokenise", "file": "resources/t.json", "length": 4},)
    assert moved("my card").tensors["input_ids"].tolist() == [4, 5, 0, 0]


def test_errors(root):
    with pytest.raises(DataError, match="no tokenizer file"):
        Preprocess.from_spec([{"op": "tokenise", "file": "gone.json"}], root)("card")
    (root / "bad.json").write_text("{}")
    with pytest.raises(DataError, match="is no tokenizer"):
        Preprocess.from_spec([{"op": "tokenise", "file": "bad.json"}], root)("card")
    with pytest.raises(DataError, match="takes a string"):
        Preprocess.from_spec([{"op": "tokenise", "file": "text/tokenizer.json"}], root)(np.zeros(3))
    with pytest.raises(ConfigError, match="int64"):
        Preprocess.from_spec([{"op": "tokenise", "file": "a", "dtype": "float32"}], root)


def test_paths_may_name_variables(root, monkeypatch):
    monkeypatch.setenv("TEXTS", str(root / "text"))
    preprocess = Preprocess.from_spec([{"op": "tokenise", "file": "${TEXTS}/tokenizer.json"}], Path("/elsewhere"))
    assert preprocess("card").tensors["input_ids"].tolist() == [5]
    monkeypatch.delenv("TEXTS")
    with pytest.raises(ConfigError, match="not set"):
        Preprocess.from_spec([{"op": "tokenise", "file": "${TEXTS}/tokenizer.json"}], root)
