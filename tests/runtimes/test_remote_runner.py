"""An artifact opened in another process answers as it does in this one; messages are bounded and whole."""

from __future__ import annotations

import io
import json
import os
import signal
import subprocess
import sys
import venv
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from onnx import TensorProto, helper, numpy_helper

from edgewright.core.codec import encode_json
from edgewright.core.target import Artifact, RunOptions
from edgewright.core.tensors import TensorSpec
from edgewright.errors import ConnectionLost, Corrupt, DataError, StepFailed
from edgewright.runtimes import host, open_runner
from edgewright.runtimes._remote import Channel, RemoteRunner, Start, open_remote, other_interpreter, this_interpreter
from edgewright.runtimes._wire import TENSOR_BYTES, pack, parse, unpack
from edgewright.runtimes.null import MAGIC

DTYPES = ["bool", "uint8", "int8", "float16", "float32", "float64", "int64", "uint16", "complex64"]


@settings(deadline=None)
@given(
    st.dictionaries(
        st.text(max_size=5),
        st.sampled_from(DTYPES).flatmap(lambda d: hnp.arrays(d, hnp.array_shapes(min_dims=0, min_side=0, max_dims=4))),
        max_size=4,
    )
)
def test_tensors_come_through_bit_for_bit(tensors: dict[str, Any]) -> None:
    stream = io.BytesIO(b"".join(bytes(piece) for piece in pack({"do": "run"}, tensors)))
    message = parse(stream.readline())
    found = unpack(message, stream.read)
    assert message["do"] == "run"
    assert list(found) == list(tensors)
    for name, array in tensors.items():
        assert (found[name].dtype, found[name].shape) == (array.dtype, array.shape)
        assert found[name].tobytes() == array.tobytes()
    assert stream.read() == b""


def test_views_and_big_endian_arrays_travel_as_their_values() -> None:
    array = np.arange(12, dtype=">f4").reshape(3, 4)[::2, ::-1]
    stream = io.BytesIO(b"".join(bytes(piece) for piece in pack({}, {"x": array})))
    assert (unpack(parse(stream.readline()), stream.read)["x"] == array).all()


@pytest.mark.parametrize(
    "entry",
    [
        {"name": "x", "dtype": "object", "shape": [1]},
        {"name": "x", "dtype": "float32", "shape": [-1]},
        {"name": "x", "dtype": "float32", "shape": [1.5]},
        {"name": "x", "dtype": "float32", "shape": [True]},
        {"name": "x", "dtype": "no such type", "shape": [1]},
        {"name": "x", "dtype": "float32", "shape": [1] * 33},
        {"name": "x", "dtype": "float32", "shape": [TENSOR_BYTES // 4 + 1]},
        {"name": "x", "dtype": "float32", "shape": [TENSOR_BYTES, TENSOR_BYTES]},
        {"dtype": "float32", "shape": [1]},
        "x",
    ],
)
def test_a_description_that_cannot_be_is_refused_before_anything_is_read(entry: Any) -> None:
    def read(size: int) -> bytes:
        raise AssertionError(f"{size} bytes were asked for")

    with pytest.raises(Corrupt):
        unpack({"tensors": [entry]}, read)


@pytest.mark.parametrize("line", [b"", b"{}", b"[]\n", b'{"do": "ru', b"\xff\n"])
def test_a_torn_line_is_refused(line: bytes) -> None:
    with pytest.raises(Corrupt):
        parse(line)


def test_objects_do_not_travel() -> None:
    with pytest.raises(DataError, match='tensor "x" holds object'):
        pack({}, {"x": np.array([{}])})


@pytest.fixture
def null(tmp_path: Path) -> Path:
    folder = tmp_path / "artifact"
    folder.mkdir()
    (folder / "model.null").write_bytes(MAGIC + b"0" * 64)
    inputs, outputs = (TensorSpec("x", "float32", ("n", 2)),), (TensorSpec("y", "float32", ("n", 3)),)
    made = Artifact("null", "null", "0", ">=0", ("model.null",), inputs, outputs, "float32")
    (folder / "artifact.json").write_bytes(encode_json(made))
    return folder


def test_a_conversation_with_tensors(null: Path) -> None:
    requests = [
        *pack({"do": "open", "artifact": str(null)}),
        *pack({"do": "run"}, {"x": np.zeros((5, 7), np.float32)}),
        *pack({"do": "run"}, {"x": np.zeros((5, 2), np.float32)}),
        *pack({"do": "conditions"}),
        *pack({"do": "about", "distributions": ["numpy", "none-such"]}),
    ]
    answers = io.BytesIO()
    assert host.serve(io.BytesIO(b"".join(bytes(r) for r in requests)), answers) == 0
    answers.seek(0)
    opened, refused, ran = (parse(answers.readline()) for _ in range(3))
    assert opened["load_ms"] > 0
    assert refused["error"] == "DataError"  # and it goes on
    assert unpack(ran, answers.read)["y"].shape == (5, 3)
    conditions, about = parse(answers.readline()), parse(answers.readline())
    assert set(conditions) >= {"governor", "temperature_c", "load"}
    assert about["versions"] == {"numpy": np.__version__, "none-such": None}
    assert about["device"]["cores"] >= 1


def test_tensors_that_end_in_the_middle_end_the_host(null: Path) -> None:
    whole = b"".join(bytes(p) for p in pack({"do": "run"}, {"x": np.zeros((5, 2), np.float32)}))
    answers = io.BytesIO()
    assert host.serve(io.BytesIO(whole[:-1]), answers) == 1
    assert json.loads(answers.getvalue())["error"] == "Corrupt"


@pytest.fixture
def matmul(null: Path) -> Path:
    """ONNX Runtime: y = x @ w."""
    weight = np.random.default_rng(0).normal(size=(64, 64)).astype(np.float32)
    value = partial(helper.make_tensor_value_info, elem_type=TensorProto.FLOAT, shape=["n", 64])
    node, held = helper.make_node("MatMul", ["x", "w"], ["y"]), numpy_helper.from_array(weight, "w")
    graph = helper.make_graph([node], "g", [value("x")], [value("y")], [held])
    opsets = [helper.make_opsetid("", 17)]
    onnx.save(helper.make_model(graph, opset_imports=opsets, ir_version=9), null / "model.onnx")
    x, y = (TensorSpec(name, "float32", ("n", 64)) for name in "xy")
    made = Artifact("onnxruntime", "onnxruntime", "1", ">=1", ("model.onnx",), (x,), (y,), "float32")
    (null / "artifact.json").write_bytes(encode_json(made))
    return null


def test_another_process_decides_the_same(matmul: Path) -> None:
    inputs, options = {"x": np.random.default_rng(1).normal(size=(4, 64)).astype("f4")}, RunOptions(2, profile=True)
    with open_runner(matmul) as here, open_remote(matmul, options, this_interpreter()) as there:
        expected, found = here.run(inputs), there.run(inputs)
        assert there.inputs == here.inputs
        with pytest.raises(DataError, match="expected"):
            there.run({"x": np.ones((4, 3), np.float32)})
        assert isinstance(there, RemoteRunner)
        assert 0 < there.run_ms < 60_000
        assert [time.op for time in there.operator_times()].count("MatMul") == 1
    assert {name: a.tobytes() for name, a in found.items()} == {name: a.tobytes() for name, a in expected.items()}


def test_a_process_that_is_killed_is_told_from_one_that_refuses(null: Path, tmp_path: Path) -> None:
    with Channel(this_interpreter(), "it") as channel:
        with pytest.raises(Corrupt, match="it: "):
            channel.ask({"do": "open", "artifact": str(tmp_path)})
        with pytest.raises(ConnectionLost, match="it ended with status 1"):
            channel.ask({"do": "memory"})
    with open_remote(null, RunOptions(), this_interpreter()) as runner:
        assert isinstance(runner, RemoteRunner)
        os.kill(runner._channel._process.pid, signal.SIGKILL)
        with pytest.raises(ConnectionLost, match="ended with status -9"):
            runner.run({"x": np.zeros((1, 2), np.float32)})


def test_a_process_that_does_not_read_is_given_up() -> None:
    start = Start((sys.executable, "-c", "import time; time.sleep(60)"), place="on the moon")
    with (
        Channel(start, "it", answer_seconds=0.3) as channel,
        pytest.raises(ConnectionLost, match="holds it on the moon gave no answer to run within"),
    ):
        channel.ask({"do": "run"}, {"x": np.zeros(1 << 20, np.float32)})


def test_what_a_login_shell_prints_is_left_out() -> None:
    script = f"echo welcome; echo; echo 'last login: today'; exec {sys.executable} -m edgewright.runtimes.host"
    with Channel(Start(("sh", "-c", script)), "it", skip_noise=True) as channel:
        assert channel.ask({"do": "memory"})[0]["peak_memory_bytes"] > 0
    with Channel(Start(("sh", "-c", script)), "it") as channel, pytest.raises(Corrupt, match="not a line of JSON"):
        channel.ask({"do": "memory"})


def test_errors_of_other_kinds_are_step_failures(null: Path) -> None:
    with Channel(this_interpreter(), "it") as channel, pytest.raises(StepFailed, match="KeyError"):
        channel.ask({"do": "nothing known"})


@pytest.mark.slow
def test_an_environment_of_its_own_needs_numpy_and_msgspec_only(tmp_path: Path, null: Path) -> None:
    venv.create(tmp_path / "env", with_pip=False, symlinks=True)
    python = tmp_path / "env" / "bin" / "python"
    asked = [str(python), "-c", "import site; print(site.getsitepackages()[0])"]
    site = Path(subprocess.run(asked, capture_output=True, text=True, check=True).stdout.strip())
    for module in ("numpy", "msgspec"):
        there = Path(str(sys.modules[module].__file__)).parent
        for folder in (there, there.with_name(f"{module}.libs")):
            if folder.is_dir():
                (site / folder.name).symlink_to(folder)
    with open_remote(null, RunOptions(), other_interpreter(python)) as runner:
        assert runner.run({"x": np.zeros((2, 2), np.float32)})["y"].shape == (2, 3)
