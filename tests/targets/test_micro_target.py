"""The target as a whole: boards that are too small, what is written, and the accelerator."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import onnx_ir as ir
import pytest

pytest.importorskip("tflite_micro")

from edgewright.errors import ConfigError, StepFailed
from edgewright.formats.tflite.reader import parse, read_tflite
from edgewright.runtimes import load_artifact
from edgewright.runtimes.tflm import TflmRunner
from edgewright.targets._micro import picture
from edgewright.targets._micro.arena import predict
from edgewright.targets._micro.boards import ACCELERATORS, BOARDS, KIB, chosen, find
from edgewright.targets._micro.fit import PROGRAM_RAM, Fit
from edgewright.targets._micro.flash import estimate
from edgewright.targets._micro.foresee import Foreseen, foresee
from edgewright.targets._micro.layout import BOARD, HOST
from edgewright.targets.micro import MicroTarget
from edgewright.testing import _micro_models as models
from edgewright.testing import targets as suite

CASES = {case.name: case for case in suite.CASES}


def made(name: str, folder: Path, **config: Any) -> Path:
    return suite.compiled("micro", CASES[name].build(), folder, **config)


def test_boards_are_distinct_and_smallest_first_choice_exists() -> None:
    names = [board.name for board in BOARDS]
    assert len(set(names)) == len(names)
    assert all(board.ethos_u in ("", *ACCELERATORS) for board in BOARDS)
    smallest = find("cortex-m4-64k")
    assert (smallest.ram_bytes, smallest.flash_bytes) == (64 * KIB, 256 * KIB)


def test_unknown_board_suggests_the_near_one() -> None:
    with pytest.raises(ConfigError, match='unknown board "nrf5284"') as found:
        find("nrf5284")
    assert "nrf52840" in found.value.hint


def test_own_figures_replace_those_of_a_board() -> None:
    board = chosen("nrf52840", 100, 0)
    assert board is not None
    assert (board.ram_bytes, board.flash_bytes) == (100 * KIB, 1024 * KIB)
    assert chosen("", 0, 0) is None
    own = chosen("", 32, 128)
    assert own is not None
    assert own.ram_bytes == 32 * KIB
    for figures in ((32, 0), (-1, 5)):
        with pytest.raises(ConfigError):
            chosen("", *figures)


def test_a_model_that_does_not_fit_is_told_with_figures_and_tensors() -> None:
    content = models.mobilenet()
    graph = parse(content)
    arena, flash = predict(graph, BOARD), estimate(graph, len(content))
    small = Fit(find("cortex-m4-64k"), arena, flash).problems()
    assert len(small) == 2
    assert f"{arena.total / KIB:.1f} KB predicted" in small[0]
    assert "conv_2d" in small[0]
    assert f"model {len(content) / KIB:.1f} KB" in small[1]
    assert Fit(find("stm32h743zi"), arena, flash).problems() == ()


def test_fit_is_decided_at_the_byte() -> None:
    graph = parse(models.ds_cnn())
    arena, flash = predict(graph, BOARD), estimate(graph, 40000)
    need = arena.total + PROGRAM_RAM
    board = chosen("", -(-need // KIB), 512)
    assert board is not None
    assert not Fit(board, arena, flash, board.ram_bytes - need).problems()
    assert Fit(board, arena, flash, board.ram_bytes - need + 1).problems()


def test_refused_before_anything_is_made() -> None:
    graph = ir.from_proto(CASES["residual"].build())
    assert MicroTarget(board="cortex-m4-64k").refuses(graph) == ()
    reasons = MicroTarget(ram_kb=1, flash_kb=20).refuses(graph)
    assert len(reasons) == 2
    assert all(reason.startswith("even in int8 it does not fit") for reason in reasons)


def test_compiling_for_a_board_too_small_fails_with_the_same_sentence(tmp_path: Path) -> None:
    with pytest.raises(StepFailed, match="does not fit a board of 20 KB flash and 4 KB RAM"):
        made("residual", tmp_path, ram_kb=4, flash_kb=20)
    assert not (tmp_path / "artifact" / "model.tflite").exists()


def test_what_is_written(tmp_path: Path) -> None:
    path = made("quantized-conv", tmp_path, board="nrf52840")
    artifact, memory = load_artifact(path), json.loads((path / "memory.json").read_bytes())
    assert artifact.files == ("model.tflite",)
    assert {"main.cc", "model_data.cc", "model_data.h", "ops.txt", "arena.svg", "memory.json"} == set(artifact.extras)
    real = TflmRunner((path / "model.tflite").read_bytes(), "model.tflite").arena()
    assert memory["measured"] == {"total": real.total, "head": real.head, "tail": real.tail}
    assert abs(memory["error"]) < 0.05
    assert memory["board"]["problems"] == []
    assert memory["board"]["ram_needed"] < memory["board"]["ram_bytes"]
    assert memory["flash"]["estimated"] is True
    assert memory["predicted"]["board"]["total"] < memory["predicted"]["here"]["total"]
    assert sum(one["bytes"] for one in memory["peak"]) <= memory["predicted"]["board"]["head"]


def test_picture_shows_every_tensor_once() -> None:
    graph = parse(models.resnet8())
    arena = predict(graph, BOARD)
    drawn = picture.draw(graph, arena)
    assert drawn.count("<rect") == len(arena.buffers)
    assert f"{arena.head:,} bytes" in drawn
    import xml.etree.ElementTree as Tree

    assert Tree.fromstring(drawn).tag.endswith("svg")


@pytest.mark.parametrize("name", ["conv-bn-relu", "depthwise", "perceptron", "residual", "quantized-conv"])
def test_foreseen_from_the_onnx_model(name: str, tmp_path: Path) -> None:
    """Before quantising: the arena of the int8 form, from the float graph."""
    found = foresee(ir.from_proto(CASES[name].build()), 1, HOST)
    assert isinstance(found, Foreseen)
    if name == "quantized-conv":
        content = (made(name, tmp_path) / "model.tflite").read_bytes()
        real = TflmRunner(content, "model.tflite").arena().total
        assert abs(found.arena.used - real) / real < 0.05
        assert abs(found.flash.model - len(content)) / len(content) < 0.05


@pytest.mark.bench
@pytest.mark.slow
def test_foreseen_for_keyword_spotting(bench: Path) -> None:
    """From the float model, before it is quantised, against the published int8 file in the interpreter."""
    from edgewright.graph.load import load

    found = foresee(load(bench / "kws" / "kws01_ref_model_float32.onnx"), 1, HOST)
    published = bench / "kws" / "kws01_ref_model_int8.tflite"
    real = TflmRunner(published.read_bytes(), published.name).arena().total
    assert isinstance(found, Foreseen)
    assert abs(found.arena.used - real) / real < 0.05


def test_wrong_settings_are_told() -> None:
    graph = ir.from_proto(CASES["residual"].build())
    with pytest.raises(ConfigError, match="unknown board"):
        MicroTarget(board="toaster").refuses(graph)


@pytest.mark.parametrize("config", [{"integer_only": "int4"}, {"batch": 0}, {"accelerator": "ethos-u9"}], ids=str)
def test_wrong_settings_stop_the_step(config: dict[str, Any], tmp_path: Path) -> None:
    with pytest.raises(ConfigError):
        made("quantized-conv", tmp_path, **config)


@pytest.mark.slow
@pytest.mark.parametrize("accelerator", ["ethos-u55-32", "ethos-u55-256", "ethos-u65-256", "ethos-u85-256"])
def test_vela(accelerator: str, tmp_path: Path) -> None:
    pytest.importorskip("ethosu.vela")
    from edgewright.targets._micro.vela import accelerate

    model = tmp_path / "model.tflite"
    model.write_bytes(models.ds_cnn(blocks=2))
    found = accelerate(model, accelerator, tmp_path)
    assert found.predicted
    assert found.npu_operators > 0
    assert found.npu_share == 1.0
    assert found.cycles > 0
    assert found.milliseconds == pytest.approx(found.cycles / found.clock_mhz / 1e3, rel=0.02)
    assert 0 < found.sram_bytes < 64 * KIB
    assert found.macs > 0
    custom = {op.op for op in read_tflite(tmp_path / found.file).operators}
    assert "CUSTOM ethos-u" in custom


@pytest.mark.slow
def test_vela_output_is_kept_with_the_artifact(tmp_path: Path) -> None:
    pytest.importorskip("ethosu.vela")
    path = made("quantized-conv", tmp_path, board="corstone-300-u55-128")
    memory = json.loads((path / "memory.json").read_bytes())
    assert memory["accelerator"]["predicted"] is True
    assert memory["accelerator"]["accelerator"] == "ethos-u55-128"
    assert memory["accelerator"]["file"] in load_artifact(path).extras


def test_a_model_for_servers_is_refused_without_compiling(monkeypatch: pytest.MonkeyPatch) -> None:
    from edgewright.targets._micro import refusal

    monkeypatch.setattr(refusal, "LARGEST", 100)
    monkeypatch.setattr(refusal, "foresee", lambda model, batch: pytest.fail("compiled"))
    reasons = MicroTarget().refuses(ir.from_proto(CASES["residual"].build()))
    assert len(reasons) == 1
    assert "no microcontroller stores that" in reasons[0]
