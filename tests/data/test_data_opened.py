import json
import os
import tracemalloc

import numpy as np
import pytest

from edgewright.core.tensors import TensorSpec
from edgewright.data import check_data, data_digest, data_spec, open_data, open_spec, read_labels, save_spec
from edgewright.errors import ConfigError, Corrupt, DataError


@pytest.fixture
def root(tmp_path):
    rng = np.random.default_rng(0)
    x = rng.integers(0, 255, (100, 4, 4), np.uint8)
    np.savez(tmp_path / "a.npz", x=x, y=np.arange(100) % 10, z=x.astype(np.float32))
    return tmp_path


def spec(root, splits=None, **fields):
    splits = splits or {"calibration": {"rows": "0:20"}, "tune": {"rows": "20:60"}, "test": {"rows": "60:100"}}
    return data_spec(root, {"reader": "npz", "path": "a.npz", **splits}, **fields)


INPUT = TensorSpec("image", "float32", ("batch", 4, 4))
CAST = [{"op": "cast", "dtype": "float32"}]


def test_a_spec_survives_the_file(root):
    written = spec(root, preprocess=CAST, postprocess=[{"op": "softmax"}], labels=list("abcdefghij"), inputs=[INPUT])
    save_spec(written, root / "data.json")
    data = open_data(root / "data.json")
    assert data.splits == ("calibration", "tune", "test")
    assert data.spec.inputs == (INPUT,)
    assert data.labels == tuple("abcdefghij")
    assert data_digest(data.spec) == data_digest(written)
    decision = data.postprocess({"o": np.arange(10.0)}, data.prepare(next(iter(data.dataset("test")))))
    assert decision.indices[0] == 9


def test_batches(root):
    save_spec(spec(root, preprocess=CAST), root / "data.json")
    data = open_data(root / "data.json", [INPUT])
    sizes = [len(samples) for samples, _, _ in data.batches("tune", 16)]
    assert sizes == [16, 16, 8]
    samples, prepared, tensors = next(data.batches("tune", 16))
    assert tensors["image"].shape == (16, 4, 4)
    assert [s.id for s in samples[:2]] == ["20", "21"]
    assert np.array_equal(tensors["image"][3], prepared[3].tensors["image"])
    assert sum(len(s) for s, _, _ in data.batches("tune", 16, limit=20)) == 20
    assert list(data.batches("tune", 16, limit=0)) == []


def test_iterating_twice_gives_the_same(root):
    data = open_spec(spec(root))
    assert [s.id for s in data.dataset("tune")] == [s.id for s in data.dataset("tune")]


def test_a_split_that_is_missing(root):
    with pytest.raises(ConfigError, match='no split "test"') as caught:
        open_spec(spec(root, {"tune": {}})).dataset("test")
    assert "[data.test]" in caught.value.hint


def test_defaults_and_another_reader(root):
    made = data_spec(
        root,
        {"reader": "npz", "path": "a", "args": {"a": 1, "b": 1}, "tune": {"args": {"b": 2}}, "test": {"reader": "wav"}},
    )
    assert made.splits["tune"] == {"reader": "npz", "path": "a", "args": {"a": 1, "b": 2}}
    assert made.splits["test"] == {"reader": "wav"}
    with pytest.raises(ConfigError, match=r"\[data\.test\]: expected a table"):
        data_spec(root, {"test": 3})


def test_bad_files(root):
    (root / "data.json").write_text("{")
    with pytest.raises(Corrupt):
        open_data(root / "data.json")
    with pytest.raises(Corrupt):
        open_data(root / "gone.json")
    (root / "data.json").write_text(json.dumps({"root": str(root), "splits": {}, "schema": 99}))
    with pytest.raises(Corrupt, match="99"):
        open_data(root / "data.json")


def test_errors_name_the_sample(root):
    data = open_spec(spec(root, inputs=[INPUT]))
    with pytest.raises(DataError, match="sample 20: the model input image is float32") as caught:
        next(data.batches("tune", 4))
    assert "cast" in caught.value.hint
    values = np.zeros((3, 2), np.float32)
    values[1, 1] = np.nan
    np.savez(root / "nan.npz", x=values, y=np.zeros(3))
    bad = open_spec(data_spec(root, {"test": {"reader": "npz", "path": "nan.npz", "label": ""}}))
    with pytest.raises(DataError, match=r"sample 1: the data holds nan at \[1\]"):
        list(bad.batches("test", 2))


def test_samples_of_different_shapes_do_not_stack(root):
    (root / "texts.txt").write_text("a\nb\n")
    (root / "uneven.py").write_text("import numpy as np\ndef f():\n    return [(np.zeros(3), 0), (np.zeros(4), 0)]\n")
    data = open_spec(data_spec(root, {"test": {"reader": "function", "function": "uneven:f"}}))
    with pytest.raises(DataError, match=r"samples 0 and 1 give \[3\] and \[4\]"):
        next(data.batches("test", 2))
    assert len(list(data.batches("test", 1))) == 2


@pytest.mark.parametrize(
    ("y", "labels", "message"),
    [
        ([0, 1, 3], ["a", "b", "c"], r"sample 2: the label 3 is out of range \(0\.\.2\)"),
        ([0, -1, 1], [], r"sample 1: the label -1 is out of range"),
        ([0.5, np.nan, 1.0], [], "sample 1: the label is nan"),
    ],
)
def test_labels_that_cannot_be(root, y, labels, message):
    np.savez(root / "l.npz", x=np.zeros((3, 2)), y=np.array(y))
    data = open_spec(data_spec(root, {"test": {"reader": "npz", "path": "l.npz"}}, labels=labels))
    with pytest.raises(DataError, match=message):
        list(data.dataset("test"))


def test_labels_of_masks_and_boxes(root):
    (root / "labelled.py").write_text(
        "import numpy as np\n"
        "def masks(top):\n    return [(np.zeros(2), np.array([[0, 255], [1, top]]))]\n"
        "def boxes(top):\n    return [(np.zeros(2), {'boxes': [[0, 0, 1, 1]], 'classes': [top], 'crowd': [False]})]\n"
    )
    for name in ("masks", "boxes"):
        for top, fits in ((1, True), (2, False)):
            table = {"reader": "function", "function": f"labelled:{name}", "args": {"top": top}}
            data = open_spec(data_spec(root, {"test": table}, labels=["a", "b"]))
            if fits:
                assert len(list(data.dataset("test"))) == 1
            else:
                with pytest.raises(DataError, match="label 2 is out of range"):
                    list(data.dataset("test"))


def test_label_files(root):
    (root / "l.txt").write_text("cat\n dog \n\n")
    (root / "l.json").write_text('["cat", "dog"]')
    assert read_labels("l.txt", root) == read_labels("l.json", root) == read_labels(["cat", "dog"], root)
    (root / "bad.json").write_text('{"a": 1}')
    for bad in ("bad.json", "gone.txt", ["a", "a"]):
        with pytest.raises(ConfigError, match="labels"):
            read_labels(bad, root)


class TestOverlap:
    def test_disjoint_splits_pass(self, root):
        assert check_data(open_spec(spec(root))) == ()

    def test_rows(self, root):
        with pytest.raises(DataError, match=r"tune and test share 5 sample\(s\): rows 55, 56, 57 of") as caught:
            check_data(open_spec(spec(root, {"tune": {"rows": "20:60"}, "test": {"rows": "55:100"}})))
        assert "[data.test]" in caught.value.hint

    def test_the_same_split_twice_with_different_shuffles(self, root):
        with pytest.raises(DataError, match="share"):
            check_data(
                open_spec(
                    spec(root, {"tune": {"rows": "0:50", "shuffle": 0}, "test": {"rows": "50:100", "shuffle": 1}})
                )
            )
        both = {"tune": {"rows": "0:50", "shuffle": 1}, "test": {"rows": "50:100", "shuffle": 1}}
        assert check_data(open_spec(spec(root, both))) == ()

    def test_a_link_to_the_same_file(self, root):
        (root / "link.npz").symlink_to(root / "a.npz")
        with pytest.raises(DataError, match="share 100"):
            check_data(open_spec(spec(root, {"tune": {}, "test": {"path": "link.npz"}})))

    def test_a_copy_is_found_by_content(self, root):
        (root / "copy.npz").write_bytes((root / "a.npz").read_bytes())
        with pytest.raises(DataError, match="the same content: 0 = 0"):
            check_data(open_spec(spec(root, {"tune": {}, "test": {"path": "copy.npz"}})))

    def test_a_few_repetitions_are_a_warning(self, root):
        x = np.load(root / "a.npz")["x"].copy()
        x[70] = x[3]
        np.savez(root / "b.npz", x=x, y=np.zeros(100, int))
        (warning,) = check_data(
            open_spec(spec(root, {"path": "b.npz", "tune": {"rows": ":50"}, "test": {"rows": "50:"}}))
        )
        assert warning == "tune and test share 1 sample(s) of the same content: 3 = 70"

    def test_image_files(self, root):
        for folder in ("a", "b"):
            (root / "img" / folder).mkdir(parents=True)
            (root / "img" / folder / "1.png").write_bytes(folder.encode())
        table = {"reader": "images", "path": "img", "label": "none"}
        with pytest.raises(DataError, match=r"share 1 .*a/1\.png"):
            check_data(open_spec(data_spec(root, {**table, "tune": {"rows": "0:1"}, "test": {}})), prepared=0)

    def test_windows_that_share_rows(self, root):
        (root / "s.csv").write_text("v\n" + "\n".join(map(str, range(20))) + "\n")
        table = {"reader": "csv-windows", "path": "s.csv", "values": ["v"], "window": 4, "hop": 2}
        with pytest.raises(DataError, match="rows 8, 9"):
            check_data(open_spec(data_spec(root, {**table, "tune": {"rows": "0:4"}, "test": {"rows": "4:"}})))
        apart = data_spec(root, {**table, "tune": {"rows": "0:4"}, "test": {"rows": "5:"}})
        assert check_data(open_spec(apart)) == ()

    def test_samples_are_held_against_the_model(self, root):
        with pytest.raises(DataError, match="sample 0"):
            check_data(open_spec(spec(root, inputs=[INPUT])))

    def test_class_folders_that_differ(self, root):
        for split, folder in (("tune", "a"), ("test", "b")):
            (root / split / folder).mkdir(parents=True)
            (root / split / folder / f"{split}.png").write_bytes(split.encode())
        table = {"reader": "images", "tune": {"path": "tune"}, "test": {"path": "test"}}
        with pytest.raises(DataError, match="different class folders: a, b"):
            check_data(open_spec(data_spec(root, table)))


class TestDigest:
    def test_it_follows_files_spec_and_code(self, root):
        first = data_digest(spec(root))
        assert data_digest(spec(root)) == first
        assert data_digest(spec(root, preprocess=CAST)) != first
        os.utime(root / "a.npz", ns=(1, 1))
        assert data_digest(spec(root)) != first

    def test_by_content_a_fresh_copy_is_the_same_and_a_changed_one_is_not(self, root):
        first = data_digest(spec(root), by_content=True)
        assert first != data_digest(spec(root))
        content = (root / "a.npz").read_bytes()
        (root / "a.npz").unlink()
        (root / "a.npz").write_bytes(content)
        os.utime(root / "a.npz", ns=(1, 1))
        assert data_digest(spec(root), by_content=True) == first
        (root / "a.npz").write_bytes(content + b" ")
        assert data_digest(spec(root), by_content=True) != first
        (root / "a.npz").unlink()
        with pytest.raises(DataError, match="cannot read"):
            data_digest(spec(root), by_content=True)

    def test_code(self, root):
        (root / "mine.py").write_text("def f():\n    return []\n")
        made = data_spec(root, {"test": {"reader": "function", "function": "mine:f"}})
        first = data_digest(made)
        (root / "mine.py").write_text("def f():\n    return [1]\n")
        assert data_digest(made) != first
        raised = data_spec(root, {"test": {"reader": "function", "function": "mine:f", "version": 2}})
        assert data_digest(raised) != data_digest(made)

    def test_files_of_operations(self, root):
        (root / "t.json").write_text("{}")
        made = spec(root, preprocess=[{"op": "tokenise", "file": "t.json"}])
        first = data_digest(made)
        (root / "t.json").write_text("{ }")
        assert data_digest(made) != first

    def test_a_missing_file(self, root):
        with pytest.raises(DataError, match="gone"):
            data_digest(spec(root, {"test": {"path": "gone.npz"}}))


@pytest.mark.parametrize("compressed", [False, True])
def test_data_larger_than_memory_stream(tmp_path, compressed, monkeypatch):
    monkeypatch.setattr("edgewright.data.npz.IN_MEMORY_BYTES", 2**20)
    size = 32 * 2**20
    (np.savez_compressed if compressed else np.savez)(
        tmp_path / "big.npz", x=np.zeros((512, size // 512), np.uint8), y=np.zeros(512, int)
    )
    data = open_spec(data_spec(tmp_path, {"test": {"reader": "npz", "path": "big.npz"}}))
    tracemalloc.start()
    count = sum(len(samples) for samples, _, _ in data.batches("test", 8))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert count == 512
    assert peak < size / 8


@pytest.mark.slow
def test_series_larger_than_memory_stream(tmp_path):
    rows = 20000
    (tmp_path / "s.csv").write_text("a,b\n" + "".join(f"{i}.5,{i}.25\n" for i in range(rows)))
    table = {"reader": "csv-windows", "path": "s.csv", "values": ["a", "b"], "window": 100}
    tracemalloc.start()
    for sample in open_spec(data_spec(tmp_path, {"test": table})).dataset("test"):
        last = sample
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert last.value[-1].tolist() == [rows - 0.5, rows - 0.75]
    assert peak < rows * 2 * 4  # the series as float32 would not fit


def test_spread_takes_samples_evenly_without_reading_the_rest(root):
    split = open_spec(spec(root)).dataset("tune")
    assert [s.id for s in split.spread(4)] == ["20", "30", "40", "50"]
    assert len(split.spread(1000)) == 40
