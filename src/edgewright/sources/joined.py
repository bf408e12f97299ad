"""Two ONNX files joined into one, and the result compared with running them one after the other."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edgewright.core.tensors import TensorSpec
from edgewright.errors import SourceError, UsageError

_SAMPLES = 4
_LEAST_SNR_DB = 60.0


@dataclass(frozen=True, slots=True)
class JoinReport:
    """What came out.

    Attributes:
        path: The ONNX file written.
        opset: Of the joined model.
        inputs: In the graph's order.
        outputs: In the graph's order.
        renamed: Name in the second model -> its name now, where it had to change.
        compared_samples: Random inputs on which both were run.
        largest_difference: Between the joined model and running the two in turn.
        snr_db: Of the worst output; None when every element is equal.
    """

    path: str
    opset: int
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    renamed: Mapping[str, str]
    compared_samples: int
    largest_difference: float
    snr_db: float | None


def parse_connections(texts: list[str]) -> dict[str, str]:
    """Returns output -> input from texts of the form `output=input` or `output:input`.

    Tensor names may hold colons: then `=` separates.

    Raises:
        UsageError: A text has another form, or an output is named twice.
    """
    found: dict[str, str] = {}
    for text in texts:
        mark = "=" if "=" in text else ":"
        output, _, taken = text.partition(mark)
        if not output or not taken or text.count(mark) != 1:
            raise UsageError(
                f'connection "{text}" is not output:input', hint="e.g. --connect features:x; or features=x"
            )
        if output in found:
            raise UsageError(f'output "{output}" is connected twice', hint="connect each output once")
        found[output] = taken
    return found


def join_files(first: Path, second: Path, connect: Mapping[str, str], out: Path, *, seed: int = 0) -> JoinReport:
    """Joins two ONNX files; nothing is written to `out` before the result has been checked and compared.

    Args:
        first: Runs first.
        second: Takes what `connect` says from the first.
        connect: Output of the first -> input of the second; empty puts them side by side.
        out: A path ending in `.onnx`, or a folder that gets `model.onnx`.
        seed: Of the random inputs of the comparison.

    Raises:
        SourceError: A file cannot be read, or the tensors do not fit.
        StepFailed: An opset could not be raised, or the joined model computes something else.
        ToolchainMissing: ONNX Runtime, which compares, is not installed.
    """
    from edgewright.graph import check, load, merge, opset

    merged = merge.merge(load.load(first), load.load(second), connect)
    _check_destination(out, first, second)
    with tempfile.TemporaryDirectory(prefix="edgewright-merge-") as name:
        path = load.save(merged.model, Path(name))
        check.check_file(path)
        model = load.load(path)
        inputs, outputs = load.tensor_specs(model)
        difference = _compared(first, second, connect, merged.names, path, inputs, seed)
        written = _publish(path, out)
    renamed = {old: new for old, new in merged.names.items() if old != new and old not in connect.values()}
    return JoinReport(str(written), opset.opset(model), inputs, outputs, renamed, *difference)


def _compared(
    first: Path,
    second: Path,
    connect: Mapping[str, str],
    names: Mapping[str, str],
    joined: Path,
    inputs: tuple[TensorSpec, ...],
    seed: int,
) -> tuple[int, float, float | None]:
    from edgewright.graph import load
    from edgewright.sources import _feeds, _verify

    takes = [[spec.name for spec in load.tensor_specs(load.load(path))[0]] for path in (first, second)]
    one, other = (_verify.onnxruntime_evaluator(load.model_file(path)) for path in (first, second))

    def chained(feed: Mapping[str, Any]) -> Mapping[str, Any]:
        early = one({name: feed[name] for name in takes[0]})
        wired = {sink: early[source] for source, sink in connect.items()}
        late = other({name: wired[name] if name in wired else feed[names[name]] for name in takes[1]})
        left = {name: value for name, value in early.items() if name not in connect}
        return {**left, **{names[name]: value for name, value in late.items()}}

    feeds = _feeds.make_feeds(None, inputs, _SAMPLES, seed)
    difference = _verify.compare(chained, _verify.onnxruntime_evaluator(joined), feeds.batches)
    _verify.check_difference(difference, _LEAST_SNR_DB, "the two models run in turn")
    return difference.samples, difference.largest, difference.snr_db


def _check_destination(out: Path, *sources: Path) -> None:
    for source in sources:
        if out.resolve() == source.resolve():
            raise UsageError(f"{out} is one of the models to join", hint="write the result to another path")
    if out.exists() and out.suffix != ".onnx" and not out.is_dir():
        raise UsageError(f"{out} is a file that does not end in .onnx", hint="give a folder or a path ending in .onnx")


def _publish(path: Path, out: Path) -> Path:
    """Copies the checked model to its place; the ONNX file comes last, so a broken-off copy is never taken for it."""
    from edgewright.graph import load

    data = path.parent / load.DATA_FILE
    if data.exists() and out.suffix == ".onnx":
        raise SourceError(
            f"{out}: the joined weights are too large for one file",
            hint="give a folder: it gets model.onnx and its data",
        )
    target = out if out.suffix == ".onnx" else out / load.MODEL_FILE
    target.parent.mkdir(parents=True, exist_ok=True)
    if data.exists():
        shutil.copyfile(data, target.parent / load.DATA_FILE)
    partial = target.with_name(f"{target.name}.partial")
    shutil.copyfile(path, partial)
    return partial.replace(target)
