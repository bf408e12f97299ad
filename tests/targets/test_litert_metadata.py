"""Class names and normalisation inside the .tflite file, read back independently of how they were written."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("flatbuffers")

from edgewright.core.codec import encode_json
from edgewright.core.tensors import TensorSpec
from edgewright.data.spec import DataSpec
from edgewright.formats.tflite.flat import Table, root
from edgewright.pipeline.preprocess import Preprocess
from edgewright.targets import _litert_metadata as metadata
from edgewright.targets._litert_metadata import ENTRY, Facts, Pixels, facts, flatbuffer, packed, pixels
from edgewright.targets._tflite.runtime_version import least_runtime, least_runtime_entry

INPUTS = (TensorSpec("image", "float32", ("batch", 3, 8, 8)),)
OUTPUTS = (TensorSpec("scores", "float32", ("batch", 3)), TensorSpec("features", "float32", ("batch", 5)))
LABELS = ("ant", "bee", "wasp")
CHAIN: tuple[Mapping[str, Any], ...] = (
    {"op": "decode"},
    {"op": "resize", "size": (8, 8)},
    {"op": "normalise", "scale": 1 / 255, "mean": (0.5, 0.4, 0.3), "std": (0.2, 0.25, 0.5)},
    {"op": "layout", "order": "chw"},
)


def test_normalisation_is_that_of_the_pipeline() -> None:
    found = pixels(CHAIN)
    assert found is not None
    assert found.colour == "rgb"
    image = np.random.default_rng(1).integers(0, 256, (8, 8, 3)).astype(np.uint8)
    wanted = Preprocess.from_spec(CHAIN, Path(), INPUTS)(image).tensors["image"]
    got = (image - np.asarray(found.mean)) / np.asarray(found.std)
    np.testing.assert_allclose(got.transpose(2, 0, 1), np.asarray(wanted).reshape(3, 8, 8), atol=1e-5)


def test_channel_order_is_that_of_the_model() -> None:
    found = pixels([CHAIN[0], {"op": "normalise", "mean": (1.0, 2.0, 3.0)}, {"op": "channel-order", "order": "bgr"}])
    assert found == Pixels("bgr", (3.0, 2.0, 1.0), (1.0, 1.0, 1.0))
    assert pixels([{"op": "decode", "color": "gray"}]) == Pixels("gray", (0.0,), (1.0,))


@pytest.mark.parametrize(
    "tables",
    [
        [],
        [{"op": "tokenise", "file": "t.json"}],
        [{"op": "decode", "sample_rate": 16000}, {"op": "mfcc"}],
        [{"op": "decode"}, {"op": "scale", "by": "max"}],
        [{"op": "decode"}, {"op": "scale", "by": 0.0}],
        [{"op": "decode"}, {"op": "normalise", "on": "left"}],
    ],
)
def test_what_the_format_cannot_say_is_left_out(tables: list[Mapping[str, Any]]) -> None:
    assert pixels(tables) is None


def test_facts_come_from_the_projects_data(tmp_path: Path) -> None:
    spec = DataSpec(str(tmp_path), {"tune": {"reader": "images"}}, CHAIN, (), LABELS)
    (tmp_path / "data.json").write_bytes(encode_json(spec))
    found = facts(INPUTS, OUTPUTS, tmp_path / "data.json")
    assert (found.labels, found.pixels) == (LABELS, pixels(CHAIN))
    assert facts(INPUTS * 2, OUTPUTS, tmp_path / "data.json").pixels is None
    assert facts(INPUTS, OUTPUTS, None) == Facts(INPUTS, OUTPUTS)


def test_the_flatbuffer_follows_the_schema() -> None:
    """Slots by number, as metadata_schema.fbs declares them."""
    given = Facts(INPUTS, OUTPUTS, LABELS, Pixels("rgb", (1.0, 2.0, 3.0), (4.0, 5.0, 6.0)))
    top = root(flatbuffer(given), b"M001")
    assert top.text(7) == "1.0.0"
    (graph,) = top.tables(3)
    (image,), (scores, features) = graph.tables(2), graph.tables(3)
    assert [t.text(0) for t in (image, scores, features)] == ["image", "scores", "features"]
    content = image.table(3)
    assert content is not None
    assert content.scalar(0, "B") == 2, "ImageProperties"
    assert _table(content, 1).scalar(0, "b") == 1, "RGB"
    (unit,) = image.tables(4)
    assert unit.scalar(0, "B") == 1, "NormalizationOptions"
    numbers = _table(unit, 1)
    assert [list(_floats(numbers, slot)) for slot in (0, 1)] == [[1, 2, 3], [4, 5, 6]]
    (file,) = scores.tables(6)
    assert (file.text(0), file.scalar(2, "b")) == ("labels.txt", 2), "TENSOR_AXIS_LABELS"
    assert features.tables(6) == ()


def _table(of: Table, slot: int) -> Table:
    found = of.table(slot)
    assert found is not None
    return found


def _floats(of: Table, slot: int) -> Any:
    found = of.array(slot, "float32")
    assert found is not None
    return found


def test_labels_are_a_zip_behind_the_file() -> None:
    given = Facts(INPUTS, OUTPUTS, LABELS)
    content = b"TFL3" * 50
    made = packed(content, given)
    assert made == packed(content, given), "the same bytes every time"
    assert made.startswith(content)
    with zipfile.ZipFile(io.BytesIO(made)) as archive:
        assert archive.namelist() == ["labels.txt"]
        assert archive.read("labels.txt").decode().splitlines() == list(LABELS)
        assert archive.testzip() is None


def test_nothing_to_say_adds_nothing() -> None:
    assert metadata.entries(Facts(INPUTS, OUTPUTS)) == {}
    other = Facts(INPUTS, OUTPUTS, ("one", "two"))
    assert metadata.entries(other) == {}, "no output has two classes"
    assert packed(b"TFL3", other) == b"TFL3"
    assert set(metadata.entries(Facts(INPUTS, OUTPUTS, LABELS))) == {ENTRY}


def test_oldest_runtime_is_that_of_the_newest_operator() -> None:
    assert least_runtime([]) == "2.3.0"
    assert least_runtime([("CONV_2D", 3), ("ADD", 2)]) == "2.3.0"
    assert least_runtime([("CONV_2D", 3), ("GELU", 1), ("ADD", 3)]) == "2.9.0"
    assert least_runtime([("RELU_0_TO_1", 1), ("GELU", 1)]) == "2.10.0"
    assert least_runtime_entry([("GELU", 1)]) == b"2.9.0" + bytes(11)
