"""Step `parity`: an artifact beside a reference, layer by layer, on samples of the project."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from numpy.typing import NDArray

from edgewright.core.codec import encode_json
from edgewright.core.parity import Parity
from edgewright.core.step import Context

if TYPE_CHECKING:
    from edgewright.core.tensors import TensorSpec

Feed = Mapping[str, NDArray[Any]]
Feeds = Callable[["tuple[TensorSpec, ...]"], Iterable[Feed]]
PARITY_FILE = "parity.json"


@dataclass(frozen=True, slots=True)
class ParityStep:
    """Compares inner tensors. Inputs: `reference` and `artifact` (model or artifact folders), `data`.

    Writes `parity.json` (`core.parity.Parity`).

    Attributes:
        split: Where samples come from.
        samples: How many.
        local: Also run each layer on the reference's values.
    """

    split: str = "tune"
    samples: int = 16
    local: bool = True

    name: ClassVar[str] = "parity"
    version: ClassVar[int] = 1
    requires: ClassVar[tuple[str, ...]] = ("onnx", "onnx-ir", "onnxruntime", "openvino", "ai-edge-litert")

    def run(self, inputs: Mapping[str, Path], out: Path, context: Context) -> None:
        """Writes the comparison.

        Raises:
            DataError: The split is empty, or does not fit the models.
            ToolchainMissing: A runtime is not installed.
        """
        found = compare(
            inputs["reference"],
            inputs["artifact"],
            split_feeds(inputs["data"], self.split, self.samples),
            local=self.local,
            conditions={"samples": f"the {self.split} split"},
            progress=lambda done, note: context.progress(min(done / self.samples, 1.0), note),
        )
        (out / PARITY_FILE).write_bytes(encode_json(found))


def compare(
    reference: Path,
    candidate: Path,
    samples: Feeds,
    *,
    local: bool = True,
    conditions: Mapping[str, str] | None = None,
    progress: Callable[[float, str], None] | None = None,
) -> Parity:
    """Runs two models on the same samples through their real runtimes and compares every layer.

    Args:
        reference: What counts as right: an .onnx or .tflite file, a hub model or artifact folder, or an .ewb bundle.
        candidate: What is judged: the same kinds.
        samples: Gives batches for the reference's inputs; see `split_feeds`, `given_feeds` and `random_feeds`.
        local: Also run each layer of the candidate on the reference's values, where its runtime can.
        conditions: Added to those of the result, e.g. which split.
        progress: Told the number of the batch.

    Raises:
        SourceError: A model cannot be read.
        DataError: The models or the samples do not fit each other.
        ToolchainMissing: A runtime is not installed.
    """
    from dataclasses import replace

    from edgewright.measure.layers.comparing import compare_sides
    from edgewright.measure.layers.opening import open_side

    with tempfile.TemporaryDirectory(prefix="edgewright-parity-") as name, ExitStack() as stack:
        folder = Path(name)
        one = stack.enter_context(open_side(reference, folder / "reference"))
        other = stack.enter_context(open_side(candidate, folder / "candidate"))
        found = compare_sides(one, other, samples(one.inputs), local=local, progress=progress)
    return replace(found, conditions={**(conditions or {}), **found.conditions})


def split_feeds(data: Path, split: str, count: int) -> Feeds:
    """Returns what gives `count` prepared samples of a split of a `data.json`."""

    def feeds(inputs: tuple[TensorSpec, ...]) -> Iterator[Feed]:
        from edgewright.data import open_data

        first = inputs[0].shape[0] if inputs and inputs[0].shape else 1
        size = first if isinstance(first, int) else 1
        for samples, _, feed in open_data(data, inputs).batches(split, size, count):
            if len(samples) == size:
                yield {spec.name: feed[spec.name] for spec in inputs}

    return feeds


def given_feeds(arrays: Mapping[str, NDArray[Any]], count: int) -> Feeds:
    """Returns what gives up to `count` batches cut from arrays with a batch axis, by input name or in order.

    Raises:
        DataError: (when called) An input has no array.
    """

    def feeds(inputs: tuple[TensorSpec, ...]) -> Iterator[Feed]:
        from edgewright.errors import DataError

        named = {s.name: arrays[s.name] for s in inputs if s.name in arrays}
        if len(named) != len(inputs):
            if len(arrays) != len(inputs):
                wanted = ", ".join(s.name for s in inputs)
                raise DataError(f"arrays {sorted(arrays)} given, the reference takes {wanted}", hint="name them so")
            named = dict(zip([s.name for s in inputs], arrays.values(), strict=True))
        first = inputs[0].shape[0] if inputs[0].shape else 1
        size = first if isinstance(first, int) else 1
        total = min(len(array) for array in named.values())
        for start in range(0, min(total - size + 1, count * size), size):
            yield {s.name: named[s.name][start : start + size].astype(s.dtype) for s in inputs}

    return feeds


def random_feeds(count: int, seed: int = 0) -> Feeds:
    """Returns what gives `count` seeded random samples: for a first look only."""

    def feeds(inputs: tuple[TensorSpec, ...]) -> Iterator[Feed]:
        from edgewright.sources._feeds import make_feeds

        yield from make_feeds(None, inputs, count, seed).batches

    return feeds


plugin = ParityStep
