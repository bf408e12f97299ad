"""What passes look at: every sample of a split, whatever batch a model is fixed to."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx_ir as ir
import pytest

from edgewright.data import data_spec, save_spec
from edgewright.passes._feeds import feeds_of


def model(batch: int | str) -> ir.Model:
    x = ir.Value(name="x", shape=ir.Shape([batch, 3]), type=ir.TensorType(ir.DataType.FLOAT))
    node = ir.Node("", "Relu", [x])
    node.outputs[0].name, node.outputs[0].type, node.outputs[0].shape = "y", x.type, x.shape
    return ir.Model(ir.Graph([x], [node.outputs[0]], nodes=[node], opset_imports={"": 21}), ir_version=10)


def data(folder: Path, samples: int) -> Path:
    values = np.arange(samples, dtype=np.float32)[:, None] + np.zeros(3, np.float32)
    np.savez(folder / "samples.npz", x=values)
    table = {"reader": "npz", "path": "samples.npz", "value": "x", "label": "", "calibration": {}}
    save_spec(data_spec(folder, table), folder / "data.json")
    return folder / "data.json"


def seen(file: Path, batch: int | str, limit: int | None = None) -> list[list[int]]:
    found = []
    for count, feed in feeds_of(model(batch), file, limit=limit):
        assert feed["x"].shape == (count, 3)
        assert feed["x"].dtype == np.float32
        found.append([int(row[0]) for row in feed["x"]])
    return found


@pytest.mark.parametrize(("samples", "size"), [(1, 1), (1, 4), (3, 4), (4, 4), (5, 4), (9, 4), (2, 5)])
def test_every_sample_is_seen_in_whole_batches(tmp_path: Path, samples: int, size: int) -> None:
    batches = seen(data(tmp_path, samples), size)
    assert all(len(batch) == size for batch in batches)
    flat = [value for batch in batches for value in batch]
    assert flat[:samples] == list(range(samples))
    assert len(flat) - samples < size, "no more is repeated than it takes"
    repeated = flat[samples:]
    assert repeated == [index % samples for index in range(len(repeated))]


def test_a_free_batch_axis_takes_one_sample_at_a_time(tmp_path: Path) -> None:
    file = data(tmp_path, 5)
    assert seen(file, "batch") == [[0], [1], [2], [3], [4]]
    assert seen(file, 2, limit=3) == [[0, 1], [2, 0]]
