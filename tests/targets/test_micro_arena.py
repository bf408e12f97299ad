"""The arena predicted without running, against the interpreter's own account and the smallest arena it opens in."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

pytest.importorskip("tflite_micro")

from edgewright.formats.tflite.reader import parse
from edgewright.runtimes import tflm
from edgewright.targets._micro import arena
from edgewright.targets._micro.arena import Prediction, predict
from edgewright.targets._micro.kernels import KERNELS
from edgewright.targets._micro.layout import BOARD, HOST, Build, alignment_of, size_of
from edgewright.targets._micro.planner import Buffer, height, plan
from edgewright.testing import _micro_models as models

NETWORKS = {
    "ds-cnn": models.ds_cnn,
    "mobilenet": models.mobilenet,
    "autoencoder": models.autoencoder,
    "resnet-8": models.resnet8,
}
LIMIT = 0.05


def measured(content: bytes) -> tflm.Arena:
    return tflm.TflmRunner(content, "model.tflite").arena()


def agree(found: Prediction, real: tflm.Arena) -> None:
    assert abs(found.used - real.total) / real.total <= LIMIT
    assert found.head == real.head, "the planner is reproduced, not estimated"


@pytest.mark.parametrize("make", NETWORKS.values(), ids=NETWORKS)
def test_known_networks(make: Callable[[], bytes]) -> None:
    content = make()
    found, real = predict(parse(content), HOST), measured(content)
    agree(found, real)
    assert found.tail == real.tail


@pytest.mark.parametrize("make", [models.ds_cnn, models.autoencoder], ids=["tensors decide", "planning decides"])
def test_smallest_arena_that_opens(make: Callable[[], bytes]) -> None:
    """Opening a model needs room for planning too, which is more than it uses afterwards in a small network."""
    content = make()
    found = predict(parse(content), HOST)
    assert opens(content, found.total + 16)
    assert not opens(content, int(found.total * (1 - LIMIT)))


def opens(content: bytes, size: int) -> bool:
    from tflite_micro import runtime as module

    made, _ = tflm._heard(partial(tflm._make, module, content, size))
    return not isinstance(made, Exception)


@st.composite
def networks(draw: st.DrawFn) -> bytes:
    side, channels = draw(st.integers(8, 24)), draw(st.sampled_from([1, 3, 8]))
    net = models.Int8Net((1, side, side + draw(st.integers(0, 5)), channels))
    for _ in range(draw(st.integers(1, 6))):
        before = net.last
        kind = draw(st.sampled_from(["conv", "wide", "depthwise", "pool", "max", "add", "reduce", "pad", "concat"]))
        if kind in ("conv", "wide"):
            net.conv(draw(st.integers(1, 40)), (1, 1) if kind == "wide" else (3, 3), draw(st.sampled_from([1, 2])))
        elif kind == "depthwise":
            net.depthwise(stride=draw(st.sampled_from([1, 2])))
        elif kind in ("pool", "max") and min(net.shape()[1:3]) >= 2:
            net.pool("MAX_POOL_2D" if kind == "max" else "AVERAGE_POOL_2D")
        elif kind == "add":
            net.conv(net.shape()[3])
            net.add(before)
        elif kind == "concat":
            models.concatenate(net, before)
        elif kind == "pad":
            models.pad(net)
        elif kind == "reduce":
            models.reduce(net, draw(st.sampled_from(["MEAN", "SUM", "REDUCE_MAX"])))
    net.flatten()
    net.dense(draw(st.integers(1, 20)), per_channel=draw(st.booleans()))
    if draw(st.booleans()):
        net.softmax()
    return net.finish()


RANDOM: dict[str, Any] = {"deadline": None, "suppress_health_check": [HealthCheck.too_slow]}


@settings(max_examples=12, **RANDOM)
@given(networks())
def test_random_networks(content: bytes) -> None:
    agree(predict(parse(content), HOST), measured(content))


@pytest.mark.slow
@settings(max_examples=200, **RANDOM)
@given(networks())
def test_many_random_networks(content: bytes) -> None:
    agree(predict(parse(content), HOST), measured(content))


@pytest.mark.bench
def test_published_keyword_spotting_model(bench: Any) -> None:
    content = (bench / "kws" / "kws01_ref_model_int8.tflite").read_bytes()
    found, real = predict(parse(content), HOST), measured(content)
    assert (found.head, found.tail) == (real.head, real.tail) == (16000, 8272)


@pytest.mark.parametrize(
    ("fields", "wide", "narrow"),
    [("2p i", 24, 12), ("6p i p", 64, 32), ("b 2p", 24, 12), ("d i", 16, 16), ("2b", 2, 2), ("i 2c", 12, 4)],
)
def test_sizes_of_structs(fields: str, wide: int, narrow: int) -> None:
    assert (size_of(fields, HOST), size_of(fields, BOARD)) == (wide, narrow)


def test_structs_are_those_of_a_compiler(tmp_path: Any) -> None:
    """The rule of `size_of` is the C compiler's: held against ctypes, which asks it."""
    import ctypes

    kinds = {"b": ctypes.c_int8, "h": ctypes.c_int16, "i": ctypes.c_int32, "f": ctypes.c_float, "p": ctypes.c_void_p}
    for fields in ("b 2p h i f 10i", "9i 2p 3i 2i", "5p b 3p", "2b i b", "h b p b"):
        names = [(f"f{n}", kinds[kind]) for n, kind in enumerate(spelled(fields))]
        made = type("Made", (ctypes.Structure,), {"_fields_": names})
        wide = Build(pointer=ctypes.sizeof(ctypes.c_void_p))
        assert size_of(fields, wide) == ctypes.sizeof(made)
        assert alignment_of(fields, wide) == ctypes.alignment(made)


def spelled(fields: str) -> str:
    return "".join(part[-1] * int(part[:-1] or 1) for part in fields.split())


BUFFERS = st.lists(st.tuples(st.integers(1, 40), st.integers(0, 8), st.integers(0, 4)), min_size=1, max_size=14).map(
    lambda found: [Buffer(str(n), 16 * size, first, first + more) for n, (size, first, more) in enumerate(found)]
)


@given(BUFFERS)
def test_plan_never_overlaps(buffers: list[Buffer]) -> None:
    placed = plan(buffers)
    assert [b.name for b in placed] == [b.name for b in buffers]
    for one in placed:
        for other in placed:
            if one is not other and one.lives_with(other):
                assert one.end <= other.offset or other.end <= one.offset
    assert height(placed) <= sum(b.size for b in buffers)
    steps = range(14)
    assert height(placed) >= max(sum(b.size for b in buffers if b.first <= step <= b.last) for step in steps)


@pytest.mark.skipif(shutil.which("g++") is None, reason="no g++ here")
def test_sizes_on_the_board_are_those_of_a_32_bit_compiler(tmp_path: Any) -> None:
    """Every struct of the tables, declared in C++ and measured by a compiler for 32-bit pointers."""
    kinds = {"b": "bool", "h": "short", "i": "int", "f": "float", "d": "alignas(8) double", "p": "void*"}
    used = {arena.EVAL_TENSOR, arena.NODE, arena.TENSOR, arena.AFFINE, arena.SUBGRAPH, arena.ALLOCATION_INFO}
    used |= {fields for kernel in KERNELS.values() for fields in (kernel.data, kernel.options) if fields}
    lines = []
    for number, fields in enumerate(sorted(used)):
        kept = [kind for kind in spelled(fields) if kind != "c"]
        body = " ".join(f"{kinds[kind]} f{at};" for at, kind in enumerate(kept))
        lines.append(f"struct S{number} {{ {body} }};")
        lines.append(f'static_assert(sizeof(S{number}) == {size_of(fields, BOARD)}, "{fields}");')
    assert len(lines) > 60
    source = tmp_path / "sizes.cc"
    source.write_text("\n".join(lines))
    done = subprocess.run(["g++", "-m32", "-fsyntax-only", str(source)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
