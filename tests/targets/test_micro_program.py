"""The generated program: its data byte for byte, its operators, and the program itself, compiled and run.

There is no package with TensorFlow Lite Micro's C++ sources. So the program is compiled against declarations of the
interface it uses (`tflm_host`) and linked with the interpreter and kernels inside the Python package: the same code
that a board runs, built for this machine. Not proven here: that it builds with a board's own tool chain.
"""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("tflite_micro")

from edgewright.formats.tflite.names import OPERATORS
from edgewright.formats.tflite.reader import parse
from edgewright.runtimes.tflm import TflmRunner
from edgewright.targets._micro import program
from edgewright.targets._micro.arena import predict
from edgewright.targets._micro.kernels import KERNELS
from edgewright.targets._micro.layout import BOARD, Build
from edgewright.testing import _micro_models as models

HOST = Path(__file__).parent / "tflm_host"
HEADERS = ("micro/micro_interpreter", "micro/micro_log", "micro/micro_mutable_op_resolver", "micro/system_setup")
PARSERS = {"AveragePool2D": "Pool", "MaxPool2D": "Pool", "L2Pool2D": "Pool", "CumSum": "Cumsum"} | dict.fromkeys(
    ("Mean", "Sum", "ReduceMax", "ReduceMin"), "Reducer"
)
STRICT = ["-std=c++17", "-Wall", "-Wextra", "-Werror", "-O1"]
SHIPPED = Build(pointer=8, compression=True)
"""The package's code with the allocator that boards use, which keeps no records."""
RUN = """
import ctypes, sys
ctypes.CDLL(sys.argv[1], ctypes.RTLD_GLOBAL)
sys.exit(ctypes.CDLL(sys.argv[2])._Z15edgewright_mainv())
"""
needs_compiler = pytest.mark.skipif(shutil.which("g++") is None, reason="no g++ here")


@pytest.fixture(scope="module")
def content() -> bytes:
    return models.ds_cnn(blocks=1, channels=16)


def written(content: bytes, out: Path) -> int:
    graph = parse(content)
    program.write(graph, content, predict(graph, BOARD).total, out)
    return predict(graph, SHIPPED).total


def test_array_is_the_file(content: bytes, tmp_path: Path) -> None:
    written(content, tmp_path)
    text = (tmp_path / "model_data.cc").read_text()
    found = bytes(int(byte, 16) for byte in re.findall(r"0x([0-9a-f]{2}),", text))
    assert found == content
    assert f"_len = {len(content)};" in text
    assert "alignas(16)" in text


def test_resolver_lists_the_operators_used_and_no_others(content: bytes, tmp_path: Path) -> None:
    written(content, tmp_path)
    text = (tmp_path / "main.cc").read_text()
    used = {op.op for op in parse(content).operators}
    added = re.findall(r"resolver\.Add(\w+)\(\)", text)
    assert sorted(added) == sorted(KERNELS[op].add for op in used)
    assert f"MicroMutableOpResolver<{len(used)}>" in text
    assert (tmp_path / "ops.txt").read_text().split()[::2] == sorted(used)


def host_tree(folder: Path) -> Path:
    tree = folder / "host"
    for name in HEADERS:
        header = tree / "tensorflow" / "lite" / f"{name}.h"
        header.parent.mkdir(parents=True, exist_ok=True)
        header.write_text('#include "tflm_host.h"\n')
    schema = tree / "tensorflow" / "lite" / "schema" / "schema_generated.h"
    schema.parent.mkdir(parents=True)
    schema.write_text('#include "tflm_host.h"\n')
    lines = (
        f"EDGEWRIGHT_KERNEL({k.add}, {OPERATORS.index(op)}, {op}, Parse{PARSERS.get(k.add, k.add)})"
        for op, k in KERNELS.items()
    )
    (tree / "kernels.inc").write_text("\n".join(lines) + "\n")
    return tree


def compiled(folder: Path, *defines: str) -> Path:
    made = folder / "program.so"
    where = ["-I", str(folder), "-I", str(host_tree(folder)), "-I", str(HOST)]
    sources = [str(folder / "main.cc"), str(folder / "model_data.cc")]
    options = [*STRICT, "-fPIC", "-shared", *where, *defines, "-D", "main=edgewright_main"]
    done = subprocess.run(["g++", *options, *sources, "-o", str(made)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return made


def run(made: Path) -> subprocess.CompletedProcess[str]:
    import tflite_micro

    library = Path(tflite_micro.__file__).parent / "python" / "tflite_micro" / "_runtime.so"
    return subprocess.run(
        [sys.executable, "-c", RUN, str(library), str(made)], capture_output=True, text=True, check=False, timeout=60
    )


@needs_compiler
@pytest.mark.slow
def test_program_runs_and_answers_what_the_interpreter_answers(content: bytes, tmp_path: Path) -> None:
    need = written(content, tmp_path)
    done = run(compiled(tmp_path, f"-DEDGEWRIGHT_ARENA_SIZE={need}"))
    assert done.returncode == 0, done.stderr
    runner = TflmRunner(content, "model.tflite")
    answer = runner.run({"0": np.zeros((1, 49, 10, 1), np.int8)})["0"]
    assert [int(line) for line in done.stderr.split()] == answer.ravel().tolist()


@needs_compiler
@pytest.mark.slow
def test_program_says_when_its_arena_is_too_small(content: bytes, tmp_path: Path) -> None:
    """The prediction holds for the allocator that boards use: five percent less do not suffice."""
    need = written(content, tmp_path)
    done = run(compiled(tmp_path, f"-DEDGEWRIGHT_ARENA_SIZE={int(need * 0.95)}"))
    assert done.returncode == 3
    assert "too small" in done.stderr
