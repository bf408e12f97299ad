import io
import json
import zipfile

import cv2
import numpy as np
import pytest
import soundfile

from edgewright.data import data_spec, open_spec
from edgewright.errors import ConfigError, DataError


def samples(root, table, labels=()):
    return list(open_spec(data_spec(root, {"test": table}, labels=labels)).dataset("test"))


def ids(root, table, labels=()):
    return [sample.id for sample in samples(root, table, labels)]


@pytest.fixture
def archive(tmp_path):
    x = np.arange(60, dtype=np.int16).reshape(20, 3)
    np.savez_compressed(tmp_path / "a.npz", x=x, y=np.arange(20) % 4, names=[f"clip{i}" for i in range(20)])
    np.savez(tmp_path / "stored.npz", x=np.asfortranarray(x), y=np.arange(20) % 4)
    return tmp_path


class TestNpz:
    @pytest.mark.parametrize("name", ["a.npz", "stored.npz"])
    def test_rows(self, archive, name):
        found = samples(archive, {"reader": "npz", "path": name, "rows": "2:5"})
        assert [s.id for s in found] == ["2", "3", "4"]
        assert found[0].value.tolist() == [6, 7, 8]
        assert found[0].value.dtype == np.int16
        assert [s.label for s in found] == [2, 3, 0]
        assert type(found[0].label) is int

    def test_stored_arrays_are_mapped_not_read(self, archive):
        source = open_spec(data_spec(archive, {"test": {"reader": "npz", "path": "stored.npz"}})).dataset("test").source
        assert isinstance(source.arrays["x"], np.memmap)

    def test_large_compressed_arrays_are_unpacked_to_disk(self, archive, monkeypatch):
        monkeypatch.setattr("edgewright.data.npz.IN_MEMORY_BYTES", 10)
        source = open_spec(data_spec(archive, {"test": {"reader": "npz", "path": "a.npz"}})).dataset("test").source
        assert isinstance(source.arrays["x"], np.memmap)
        assert [s.value.tolist() for s in source][19] == [57, 58, 59]

    def test_names_no_labels_and_several_values(self, archive):
        found = samples(archive, {"reader": "npz", "path": "a.npz", "ids": "names", "label": "", "value": ["x", "y"]})
        assert found[3].id == "clip3"
        assert found[3].label is None
        assert found[3].value["x"].tolist() == [9, 10, 11]
        assert found[3].value["y"] == 3

    def test_strings(self, tmp_path):
        np.savez(tmp_path / "t.npz", x=np.array(["one", "two words"]), y=np.array([0, 1]))
        assert [s.value for s in samples(tmp_path, {"reader": "npz", "path": "t.npz"})] == ["one", "two words"]

    def test_shuffled_slices_are_stable_and_disjoint(self, archive):
        table = {"reader": "npz", "path": "a.npz", "shuffle": 3}
        first, second = (ids(archive, {**table, "rows": rows}) for rows in ("0:8", "8:20"))
        assert first == ids(archive, {**table, "rows": "0:8"})
        assert not set(first) & set(second)
        assert sorted(map(int, first + second)) == list(range(20))
        assert first != sorted(first, key=int)

    @pytest.mark.parametrize(
        ("fields", "message", "hint"),
        [
            ({"path": "gone.npz"}, "does not exist", "path"),
            ({"value": "z"}, "no array 'z'", "x, y, names"),
            ({"rows": "0:21"}, "beyond the 20 samples", "20"),
            ({"rows": "5:5"}, "no samples", "rows"),
        ],
    )
    def test_data_errors(self, archive, fields, message, hint):
        with pytest.raises(DataError, match=message) as caught:
            samples(archive, {"reader": "npz", "path": "a.npz", **fields})
        assert hint in caught.value.hint

    @pytest.mark.parametrize("rows", ["1-5", "0:10:0", "0:5, 3:8", "3", "a:b"])
    def test_malformed_rows(self, archive, rows):
        with pytest.raises(ConfigError, match="rows"):
            samples(archive, {"reader": "npz", "path": "a.npz", "rows": rows})

    def test_several_slices(self, archive):
        table = {"reader": "npz", "path": "a.npz", "rows": "0:2, ::10, -1:"}
        with pytest.raises(ConfigError, match="twice"):
            ids(archive, table)
        assert ids(archive, {**table, "rows": "1:3, ::10, -1:"}) == ["1", "2", "0", "10", "19"]

    def test_broken_archives(self, archive):
        data = (archive / "a.npz").read_bytes()
        (archive / "cut.npz").write_bytes(data[: len(data) // 2])
        (archive / "text.npz").write_text("hello")
        np.savez(archive / "objects.npz", x=np.array([{}, {}]), y=np.zeros(2))
        np.savez(archive / "uneven.npz", x=np.zeros(3), y=np.zeros(2))
        np.savez(archive / "scalar.npz", x=np.float32(3), y=np.zeros(2))
        for name in ("cut", "text", "objects", "uneven", "scalar"):
            with pytest.raises(DataError) as caught:
                samples(archive, {"reader": "npz", "path": f"{name}.npz"})
            assert caught.value.hint

    def test_damage_inside_is_noticed(self, archive):
        raw = bytearray((archive / "a.npz").read_bytes())
        with zipfile.ZipFile(io.BytesIO(bytes(raw))) as z:
            start = z.getinfo("x.npy").header_offset + 60
        raw[start : start + 8] = b"\0" * 8
        (archive / "bad.npz").write_bytes(bytes(raw))
        with pytest.raises(DataError, match="cannot read"):
            samples(archive, {"reader": "npz", "path": "bad.npz"})


@pytest.fixture
def photos(tmp_path):
    for name in ("cat/b.png", "cat/a.png", "dog/c.PNG"):
        path = tmp_path / "photos" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        cv2.imwrite(str(path.with_suffix(".png")), np.full((4, 6, 3), ord(path.stem), np.uint8))
    (tmp_path / "photos" / "notes.txt").write_text("no image")
    return tmp_path


class TestImages:
    def test_sub_folders_are_classes(self, photos):
        data = open_spec(data_spec(photos, {"test": {"reader": "images", "path": "photos"}}))
        found = list(data.dataset("test"))
        assert [(s.id, s.label) for s in found] == [("cat/a.png", 0), ("cat/b.png", 0), ("dog/c.png", 1)]
        assert data.labels == ("cat", "dog")
        assert data.has_labels("test")
        assert found[0].value == (photos / "photos" / "cat" / "a.png").read_bytes()

    def test_the_projects_labels_decide_the_index(self, photos):
        found = samples(photos, {"reader": "images", "path": "photos"}, ["bird", "dog", "cat"])
        assert [s.label for s in found] == [2, 2, 1]
        with pytest.raises(DataError, match="folder dog is not among"):
            samples(photos, {"reader": "images", "path": "photos"}, ["cat"])

    def test_without_labels(self, photos):
        data = open_spec(data_spec(photos, {"test": {"reader": "images", "path": "photos/cat"}}))
        assert [s.label for s in data.dataset("test")] == [None, None]
        assert not data.has_labels("test")
        assert data.labels == ()
        assert samples(photos, {"reader": "images", "path": "photos", "label": "none"})[0].label is None

    def test_loose_files_beside_class_folders(self, photos):
        cv2.imwrite(str(photos / "photos" / "loose.png"), np.zeros((4, 4, 3), np.uint8))
        with pytest.raises(DataError, match="beside the class folders"):
            samples(photos, {"reader": "images", "path": "photos"})

    def test_empty_folder(self, tmp_path):
        (tmp_path / "none").mkdir()
        with pytest.raises(DataError, match="no such files"):
            samples(tmp_path, {"reader": "images", "path": "none"})

    def coco(self, root, **changes):
        content = {
            "images": [{"id": 7, "file_name": "dog/c.png"}, {"id": 8, "file_name": "cat/a.png"}],
            "annotations": [
                {"image_id": 7, "category_id": 18, "bbox": [1, 2, 3, 1.5], "iscrowd": 1},
                {"image_id": 7, "category_id": 17, "bbox": [0, 0, 2, 2]},
            ],
            "categories": [{"id": 17, "name": "cat"}, {"id": 18, "name": "dog"}],
        }
        (root / "boxes.json").write_text(json.dumps({**content, **changes}))
        return {"reader": "images", "path": "photos", "annotations": "boxes.json"}

    def test_annotations(self, photos):
        found = samples(photos, self.coco(photos), ["dog", "cat"])
        assert [s.id for s in found] == ["dog/c.png", "cat/a.png"]
        expected = {"boxes": [[1, 2, 4, 3.5], [0, 0, 2, 2]], "classes": [0, 1], "crowd": [True, False]}
        assert found[0].label == expected
        assert found[1].label == {"boxes": [], "classes": [], "crowd": []}
        assert samples(photos, self.coco(photos))[0].label["classes"] == [18, 17]

    @pytest.mark.parametrize(
        ("changes", "message"),
        [
            ({"categories": [{"id": 17, "name": "cow"}, {"id": 18, "name": "dog"}]}, "cow"),
            ({"categories": [{"id": 17, "name": "cat"}]}, "18"),
            ({"annotations": [{"image_id": 99, "category_id": 17, "bbox": [0, 0, 1, 1]}]}, "99"),
            ({"annotations": [{"image_id": 7, "category_id": 17, "bbox": [0, 0, -1, 1]}]}, "box"),
            ({"annotations": [{"image_id": 7, "category_id": 17, "bbox": [0, 0, float("nan"), 1]}]}, "box"),
            ({"annotations": [{"image_id": 7, "category_id": 17}]}, "bbox"),
            ({"images": 3}, "complete"),
        ],
    )
    def test_annotations_that_are_wrong(self, photos, changes, message):
        with pytest.raises(DataError, match=message):
            samples(photos, self.coco(photos, **changes), ["dog", "cat"])

    def test_an_annotated_image_that_is_missing(self, photos):
        table = self.coco(photos, images=[{"id": 7, "file_name": "gone.png"}])
        with pytest.raises(DataError, match=r"gone\.png"):
            samples(photos, table, ["dog", "cat"])
        (photos / "boxes.json").write_text("{")
        with pytest.raises(DataError, match="cannot read"):
            samples(photos, table)


def test_sounds(tmp_path):
    for name in ("yes/1.wav", "no/2.flac"):
        (tmp_path / name).parent.mkdir()
        soundfile.write(tmp_path / name, np.zeros(160, np.float32), 16000)
    data = open_spec(
        data_spec(
            tmp_path, {"test": {"reader": "wav", "path": "."}}, preprocess=[{"op": "decode", "sample_rate": 8000}]
        )
    )
    assert data.labels == ("no", "yes")
    ((found, _, tensors),) = data.batches("test", 4)
    assert [(s.id, s.label) for s in found] == [("no/2.flac", 0), ("yes/1.wav", 1)]
    assert tensors[""].shape == (2, 80)


class TestText:
    @pytest.fixture
    def root(self, tmp_path):
        text = 'text,label\n"Where, is\nmy card?",lost\n\nHello,greeting\n"He said ""hi""",greeting\r\nÜber,2\n'
        (tmp_path / "a.csv").write_text(text, encoding="utf-8-sig", newline="")
        (tmp_path / "b.tsv").write_text("query\tkind\none, two\t0\n")
        (tmp_path / "c.txt").write_text("first\n\nsecond line\n")
        return tmp_path

    def test_csv(self, root):
        found = samples(root, {"reader": "text", "path": "a.csv"}, ["greeting", "lost", "other"])
        assert [s.value for s in found] == ["Where, is\nmy card?", "Hello", 'He said "hi"', "Über"]
        assert [s.label for s in found] == [1, 0, 0, 2]

    def test_any_order(self, root):
        found = samples(root, {"reader": "text", "path": "a.csv", "rows": "::-1"}, ["greeting", "lost", "other"])
        assert [s.id for s in found] == ["3", "2", "1", "0"]
        assert found[0].value == "Über"

    def test_tsv_and_plain_lines(self, root):
        found = samples(root, {"reader": "text", "path": "b.tsv", "value": "query", "label": "kind"})
        assert [(s.value, s.label) for s in found] == [("one, two", 0)]
        plain = samples(root, {"reader": "text", "path": "c.txt"})
        assert [(s.value, s.label) for s in plain] == [("first", None), ("second line", None)]
        assert samples(root, {"reader": "text", "path": "b.tsv", "value": "query", "label": ""})[0].label is None

    def test_errors(self, root):
        with pytest.raises(DataError, match="no column 'label'") as caught:
            samples(root, {"reader": "text", "path": "b.tsv", "value": "query"})
        assert 'label = ""' in caught.value.hint
        with pytest.raises(DataError, match="'lost' is a name"):
            samples(root, {"reader": "text", "path": "a.csv"})
        with pytest.raises(DataError, match="not among") as caught:
            samples(root, {"reader": "text", "path": "a.csv"}, ["greetings", "lots", "other"])
        assert caught.value.hint == 'did you mean "lots"?'
        (root / "d.csv").write_text("text,label\nhello, there,0\n")
        with pytest.raises(DataError, match="3 fields"):
            samples(root, {"reader": "text", "path": "d.csv"})
        (root / "e.csv").write_bytes(b"text,label\n\xff\xfe,0\n")
        with pytest.raises(DataError, match="cannot read"):
            samples(root, {"reader": "text", "path": "e.csv"})


WINDOWS = {"reader": "csv-windows", "path": "s/one.csv", "values": ["y", "x"], "window": 4}


class TestCsvWindows:
    @pytest.fixture
    def root(self, tmp_path):
        rows = "".join(f"{i},{i * 10},{'run' if i > 4 else 'walk'}\n" for i in range(10))
        (tmp_path / "s").mkdir()
        (tmp_path / "s" / "one.csv").write_text("x, y,state\n" + rows)
        (tmp_path / "s" / "two.csv").write_text("y,x,state\n1,2,walk\n3,4,walk\n")
        return tmp_path

    def test_windows(self, root):
        found = samples(root, WINDOWS)
        assert [s.id for s in found] == ["one.csv:0", "one.csv:4"]
        assert found[1].value.tolist() == [[40, 4], [50, 5], [60, 6], [70, 7]]
        assert found[1].value.dtype == np.float32
        assert found[1].label is None

    def test_hop_and_labels(self, root):
        labels = ["walk", "run"]
        found = samples(root, {**WINDOWS, "hop": 2, "label": "state"}, labels)
        assert [(s.id, s.label) for s in found] == [
            ("one.csv:0", 0),
            ("one.csv:2", 1),
            ("one.csv:4", 1),
            ("one.csv:6", 1),
        ]
        majority = samples(root, {**WINDOWS, "hop": 2, "label": "state", "label_at": "majority"}, labels)
        assert [s.label for s in majority] == [0, 0, 1, 1]

    def test_windows_never_span_files(self, root):
        found = ids(root, {**WINDOWS, "path": "s", "window": 2, "rows": "4:6"})
        assert found == ["one.csv:8", "two.csv:0"]

    @pytest.mark.parametrize(
        ("content", "message"),
        [
            ("x,y\n1,a\n", "line 2"),
            ("x,y\n1,2\n1,nan\n", "line 3.*not finite"),
            ("x,y\n1\n", "1 fields"),
            ("x,z\n1,2\n", "no column 'y'"),
            ("x,y\n", "no rows"),
        ],
    )
    def test_errors(self, root, content, message):
        (root / "bad.csv").write_text(content)
        with pytest.raises(DataError, match=message):
            samples(root, {**WINDOWS, "path": "bad.csv"})

    def test_shuffled_overlapping_windows_would_leak(self, root):
        with pytest.raises(ConfigError, match="leak"):
            samples(root, {**WINDOWS, "hop": 2, "shuffle": 0})


class TestTables:
    def test_an_unknown_reader_or_key_is_refused(self, archive):
        with pytest.raises(ConfigError, match="unknown reader 'npy'") as caught:
            samples(archive, {"reader": "npy", "path": "a.npz"})
        assert caught.value.hint == 'did you mean "npz"?'
        with pytest.raises(ConfigError, match='unknown key "row"') as caught:
            samples(archive, {"reader": "npz", "path": "a.npz", "row": "0:3"})
        assert caught.value.hint == 'did you mean "rows"?'
        with pytest.raises(ConfigError, match='"reader" is missing'):
            samples(archive, {"path": "a.npz"})

    def test_variables_in_paths(self, archive, monkeypatch, tmp_path):
        monkeypatch.setenv("BENCH", str(archive))
        assert len(samples(tmp_path / "elsewhere", {"reader": "npz", "path": "${BENCH}/a.npz"})) == 20
        monkeypatch.delenv("BENCH")
        with pytest.raises(ConfigError, match="not set"):
            samples(archive, {"reader": "npz", "path": "${BENCH}/a.npz"})
