"""The loop: it learns, it repeats itself, it goes on after a kill with the same weights, and says what is wrong."""

from __future__ import annotations

import subprocess
import sys
import textwrap
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx_ir as ir
import pytest
import torch
from torch import Tensor, nn

from edgewright.errors import ConfigError, DataError, StepFailed
from edgewright.graph.bridge import write_back
from edgewright.training.examples import Examples
from edgewright.training.loop import Batch, fit
from edgewright.training.networks import open_network
from edgewright.training.settings import Fit, Regime
from edgewright.training.supervised import supervised

Make = Callable[..., Any]
REGIME = Regime(3, 16, 0.02, Fit(validation=0.25))


def trained(model: ir.Model, examples: Examples, regime: Regime, context: Any, **options: Any) -> Any:
    """Trains `model` in place and returns the history."""
    network = open_network(model)
    names = [str(v.name) for v in model.graph.outputs]
    history = fit(network, examples, supervised("cross-entropy", network, names, examples), regime, context, **options)
    write_back(network, model)
    return history


def weights(model: ir.Model) -> dict[str, Any]:
    return {name: v.const_value.numpy() for name, v in model.graph.initializers.items() if v.const_value is not None}


def same(one: ir.Model, other: ir.Model) -> bool:
    first, second = weights(one), weights(other)
    return first.keys() == second.keys() and all(np.array_equal(first[name], second[name]) for name in first)


@pytest.mark.parametrize("optimiser", ["adamw", "adam", "sgd"])
def test_it_learns(blobs: Make, convolutional: Make, context: Any, optimiser: str) -> None:
    rate = 0.1 if optimiser == "sgd" else 0.02
    regime = Regime(6, 16, rate, Fit(optimiser=optimiser, validation=0.25))
    history = trained(convolutional(), blobs(), regime, context)
    assert history.start < 0.7
    assert history.epochs[history.best].score > 0.9
    assert history.epochs[-1].loss < history.epochs[0].loss / 2
    assert (history.samples, history.held_out, history.accelerator, history.title) == (72, 24, "cpu", "top-1")


def test_batch_norm_learns_scale_and_statistics(blobs: Make, convolutional: Make, context: Any) -> None:
    model, before = convolutional(), weights(convolutional())
    trained(model, blobs(), REGIME, context)
    after = weights(model)
    assert all(not np.array_equal(before[name], after[name]) for name in before)
    frozen = convolutional()
    trained(frozen, blobs(), replace(REGIME, fit=replace(REGIME.fit, batch_norm="frozen")), context, name="frozen")
    same_still = {name for name in before if np.array_equal(before[name], weights(frozen)[name])}
    assert same_still == {"norm.mean", "norm.variance"}


def test_the_same_seed_gives_the_same_weights(blobs: Make, convolutional: Make, context: Any, tmp_path: Path) -> None:
    fitted = replace(REGIME, fit=replace(REGIME.fit, augment=({"op": "noise"}, {"op": "flip"})))
    runs = []
    for index, seed in enumerate((5, 5, 6)):
        context.seed, context.scratch = seed, tmp_path / str(index)
        context.scratch.mkdir()
        model = convolutional()
        trained(model, blobs(), fitted, context)
        runs.append(model)
    assert same(runs[0], runs[1])
    assert not same(runs[0], runs[2])


class _Killed(BaseException):
    """Ends a run where a kill would."""


@pytest.mark.parametrize("moment", [1, 10, 13])
def test_a_stopped_run_gives_the_weights_of_one_that_was_not(
    blobs: Make, convolutional: Make, context: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, moment: int
) -> None:
    regime = replace(REGIME, epochs=3, fit=replace(REGIME.fit, augment=({"op": "noise"},)))
    whole, stopped, calls = convolutional(), convolutional(), [0]
    expected = trained(whole, blobs(), regime, context)
    context.scratch = tmp_path / "stopped"
    context.scratch.mkdir()
    step = torch.optim.AdamW.step

    def dying(self: Any, *args: Any, **named: Any) -> Any:
        calls[0] += 1
        if calls[0] == moment:
            raise _Killed
        return step(self, *args, **named)

    with monkeypatch.context() as patched:
        patched.setattr(torch.optim.AdamW, "step", dying)
        with pytest.raises(_Killed):
            trained(stopped, blobs(), regime, context)
    stopped = convolutional()
    assert trained(stopped, blobs(), regime, context) == expected
    assert same(whole, stopped)


_RUNS = """
    import importlib.util, os, signal, sys, time
    from pathlib import Path
    import onnx_ir as ir, torch
    def loaded(path):
        spec = importlib.util.spec_from_file_location(Path(path).stem, path)
        module = importlib.util.module_from_spec(spec)
        sys.modules[spec.name] = module
        spec.loader.exec_module(module)
        return module
    torch.set_num_threads(1)
    torch.optim.AdamW([torch.nn.Parameter(torch.ones(1))])  # its imports, once for all
    here = sys.argv[1]
    made, test = loaded(here + "/conftest.py"), loaded(here + "/test_training_loop.py")
    def start(folder):
        if process := os.fork():
            return process
        model = made._convolutional()
        settings = test.Fit(validation=0.25, augment=({"op": "noise"},), clip_norm=1.0)
        test.trained(model, made._blobs(200), test.Regime(16, 16, 0.02, settings), made.Told(folder, 3))
        ir.save(model, folder / "done.onnx")
        os._exit(0)
    def written(folder):
        path = folder / "training.pt"
        return path.stat().st_mtime_ns if path.is_file() else 0
    whole, killed = map(Path, sys.argv[2:])
    assert os.waitpid(start(whole), 0)[1] == 0
    for _ in range(3):
        before, process = written(killed), start(killed)
        while written(killed) == before:
            time.sleep(0.001)
        time.sleep(0.005)
        os.kill(process, signal.SIGKILL)
        assert os.waitpid(process, 0)[1] == signal.SIGKILL
        assert not (killed / "done.onnx").is_file()
    assert os.waitpid(start(killed), 0)[1] == 0
"""


@pytest.mark.slow
def test_kill_9_and_resume_gives_the_same_weights(tmp_path: Path) -> None:
    """Killed three times, each a moment after a checkpoint."""
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    for folder in (whole, killed):
        folder.mkdir()
    here = str(Path(__file__).parent)
    command = [sys.executable, "-c", textwrap.dedent(_RUNS), here, str(whole), str(killed)]
    subprocess.run(command, check=True, timeout=300)
    assert same(ir.load(whole / "done.onnx"), ir.load(killed / "done.onnx"))


def test_a_finished_training_is_not_repeated(blobs: Make, convolutional: Make, context: Any) -> None:
    first = trained(convolutional(), blobs(), REGIME, context)
    context.notes.clear()
    assert trained(convolutional(), blobs(), REGIME, context) == first
    assert not context.notes


class _Fixed:
    """An objective whose scores are given."""

    title = "-loss"

    def __init__(self, scores: list[float]) -> None:
        self.scores = iter(scores)
        self.seen: list[Tensor] = []

    def loss(self, network: nn.Module, batch: Batch) -> Tensor:
        assert torch.is_grad_enabled()
        assert network.training
        self.seen.append(batch.rows)
        (logits,) = network(*batch.inputs)
        assert isinstance(logits, Tensor)
        return logits.square().mean()

    def score(self, network: nn.Module, batch: Batch) -> tuple[float, int]:
        assert not torch.is_grad_enabled()
        assert not network.training
        return next(self.scores) * len(batch.rows), len(batch.rows)


def _network_after(epochs: int, blobs: Make, convolutional: Make, context: Any) -> dict[str, Tensor]:
    network = open_network(convolutional())
    constant = Fit(validation=0.1, schedule="constant", warmup=0.0)
    fit(network, blobs(40), _Fixed(list(range(9))), Regime(epochs, 40, 0.01, constant), context, name=str(epochs))
    return network.state_dict()


def test_the_best_epoch_is_kept_and_patience_ends_it(blobs: Make, convolutional: Make, context: Any) -> None:
    network = open_network(convolutional())
    objective = _Fixed([0.0, 1.0, 3.0, 2.0, 2.0, 9.0])
    settings = Fit(validation=0.1, schedule="constant", warmup=0.0, patience=2)
    history = fit(network, blobs(40), objective, Regime(9, 40, 0.01, settings), context)
    assert (history.best, len(history.epochs), history.start) == (1, 4, 0.0)
    assert history.stopped == "no better -loss in 2 epochs"
    expected = _network_after(2, blobs, convolutional, context)
    assert all(torch.equal(value, expected[name]) for name, value in network.state_dict().items())


def test_what_never_gets_better_is_left_as_it_was(blobs: Make, convolutional: Make, context: Any) -> None:
    model, before = convolutional(), weights(convolutional())
    network = open_network(model)
    history = fit(network, blobs(40), _Fixed([5.0, 1.0, 1.0]), Regime(2, 40, 0.01, Fit()), context)
    write_back(network, model)
    assert history.best == -1
    assert all(np.array_equal(before[name], value) for name, value in weights(model).items())


def test_the_start_may_be_kept_out_of_it(blobs: Make, convolutional: Make, context: Any) -> None:
    objective = _Fixed([5.0, 1.0, 2.0, 1.0])
    options: dict[str, Any] = {"keep_start": False}
    history = fit(open_network(convolutional()), blobs(40), objective, Regime(3, 40, 0.01, Fit()), context, **options)
    assert (history.start, history.best) == (5.0, 1)


def test_every_sample_is_seen_once_an_epoch(blobs: Make, convolutional: Make, context: Any) -> None:
    objective = _Fixed([0.0] * 20)
    fit(open_network(convolutional()), blobs(45), objective, Regime(2, 16, 0.01, Fit(validation=0.1)), context)
    assert [len(rows) for rows in objective.seen] == [14, 14, 13] * 2
    epochs = [torch.cat(objective.seen[:3]), torch.cat(objective.seen[3:])]
    assert epochs[0].tolist() != epochs[1].tolist()
    assert set(epochs[0].tolist()) == set(epochs[1].tolist())
    assert len(set(epochs[0].tolist())) == 41


def test_zeros_stay_where_a_quarter_is_zero(blobs: Make, convolutional: Make, context: Any) -> None:
    for keep in (True, False):
        model = convolutional()
        stored = model.graph.initializers["conv.weight"]
        pruned = np.where(np.arange(144).reshape(8, 2, 3, 3) % 4 < 2, 0, weights(model)["conv.weight"])
        stored.const_value = ir.tensor(pruned, name="conv.weight")
        settings = replace(REGIME.fit, keep_zeros=keep, momentum=0.9, optimiser="sgd")
        trained(model, blobs(), replace(REGIME, fit=settings), context, name=str(keep))
        after = weights(model)["conv.weight"]
        assert ((after == 0) == (pruned == 0)).all() == keep


def test_progress_says_where_it_is(blobs: Make, convolutional: Make, context: Any) -> None:
    trained(convolutional(), blobs(), REGIME, context)
    fractions = [fraction for fraction, _ in context.notes]
    assert fractions == sorted(fractions)
    assert fractions[-1] == 1.0
    note = context.notes[-1][1]
    assert note.startswith("epoch 3 of 3, loss ")
    assert ", top-1 " in note
    assert note.endswith("%")


def test_a_loss_that_is_not_finite_names_epoch_and_step(blobs: Make, convolutional: Make, context: Any) -> None:
    settings = Fit(optimiser="sgd", momentum=0.0, warmup=0.0, validation=0.0)
    with pytest.raises(
        StepFailed, match=r"the loss is (nan|inf) at step \d of epoch 1 \(learning_rate = 1e\+30\)"
    ) as e:
        trained(convolutional(), blobs(), Regime(2, 16, 1e30, settings), context)
    assert "lower the learning rate, such as 1e+29" in e.value.hint


class _Greedy(_Fixed):
    def loss(self, network: nn.Module, batch: Batch) -> Tensor:
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB")


def test_too_little_memory_says_a_smaller_batch(blobs: Make, convolutional: Make, context: Any) -> None:
    with pytest.raises(StepFailed, match=r"not enough memory to train with batches of 16: CUDA out of") as error:
        fit(open_network(convolutional()), blobs(), _Greedy([0.0] * 9), REGIME, context)
    assert "such as 8" in error.value.hint


def test_batches_of_one_cannot_teach_batch_norm(blobs: Make, convolutional: Make, context: Any) -> None:
    with pytest.raises(ConfigError, match="from batches of one sample"):
        trained(convolutional(), blobs(8), Regime(1, 1, 0.01, Fit()), context)
    trained(convolutional(), blobs(8), Regime(1, 1, 0.01, Fit(batch_norm="frozen")), context)


def test_too_few_samples_to_hold_some_out(blobs: Make, convolutional: Make, context: Any) -> None:
    with pytest.raises(DataError, match=r"1 sample\(s\) leave none to train on"):
        trained(convolutional(), blobs(1), Regime(1, 4, 0.01, Fit(validation=0.9)), context)


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_a_gpu_that_is_not_there_is_refused(blobs: Make, convolutional: Make, context: Any) -> None:
    with pytest.raises(ConfigError, match="PyTorch sees no GPU"):
        trained(convolutional(), blobs(), replace(REGIME, fit=Fit(accelerator="cuda")), context)
    with pytest.raises(ConfigError, match="needs a GPU"):
        trained(convolutional(), blobs(), replace(REGIME, fit=Fit(precision="fp16")), context)


def test_half_precision_where_it_is_asked_for(blobs: Make, convolutional: Make, context: Any) -> None:
    model = convolutional()
    history = trained(model, blobs(), replace(REGIME, fit=Fit(precision="bf16", validation=0.25)), context)
    assert history.epochs[-1].loss < history.epochs[0].loss
    assert {value.dtype for value in weights(model).values()} == {np.dtype(np.float32)}


def test_groups_of_parameters_have_rates_of_their_own(blobs: Make, convolutional: Make, context: Any) -> None:
    model, before = convolutional(), weights(convolutional())
    trained(
        model, blobs(), REGIME, context, groups=lambda net: [{"params": [net.get_parameter("head.bias")], "lr": 1.0}]
    )
    changed = {name for name, value in weights(model).items() if not np.array_equal(before[name], value)}
    assert changed == {"head.bias", "norm.mean", "norm.variance"}


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_a_gpu_learns_too(blobs: Make, convolutional: Make, context: Any) -> None:
    history = trained(convolutional(), blobs(), Regime(8, 16, 0.02, Fit(validation=0.25)), context)
    assert history.accelerator == torch.cuda.get_device_name()
    assert history.epochs[history.best].score > 0.9
