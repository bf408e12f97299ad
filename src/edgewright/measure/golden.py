"""Golden pairs: raw inputs and what the artifact decides about them, kept to prove later copies of it."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from edgewright.bundle.compare import tolerance_for
from edgewright.bundle.decide import decider
from edgewright.bundle.raw import read_raw, write_raw
from edgewright.core.bundle import GoldenPair, PipelineSpec
from edgewright.core.codec import encode_json
from edgewright.core.data import Dataset, Sample
from edgewright.core.decision import decision_to_json
from edgewright.core.step import Context
from edgewright.core.target import RunOptions
from edgewright.errors import DataError
from edgewright.pipeline import Preprocess


@dataclass(frozen=True, slots=True)
class Golden:
    """Takes samples evenly over a split, runs them through the artifact and writes down the decisions.

    Inputs: `artifact` (artifact folder) and `data` (`data.json`). Output folder: `inputs/` with the raw values,
    `golden.json` (list of `GoldenPair`), `pipeline.json` (`PipelineSpec`) and `resources/` with the files that the
    pre- and post-processing read. The decisions are made from the files just written, so what is packed is proven.

    Attributes:
        count: Number of pairs.
        split: Where the samples come from.
        threads: Intra-operator threads.
        tolerance: Largest difference allowed later; None for what the artifact's precision calls for.
        device: Address of the machine that runs the artifact; this one by default.
    """

    count: int = 8
    split: str = "test"
    threads: int = 1
    tolerance: float | None = None
    device: str = ""

    name: ClassVar[str] = "golden"
    version: ClassVar[int] = 1
    requires: ClassVar[tuple[str, ...]] = ("numpy",)

    def run(self, inputs: Mapping[str, Path], out: Path, context: Context) -> None:
        """Writes the golden folder.

        Raises:
            DataError: The split is empty, or a raw value cannot be stored.
            ToolchainMissing: The runtime is not installed.
        """
        from edgewright.data import open_data
        from edgewright.measure.devices import open_on
        from edgewright.runtimes import load_artifact

        data = open_data(inputs["data"])
        spec = _collect_pipeline(json.loads(inputs["data"].read_bytes()), tuple(data.labels), out)
        names = _write_inputs(data.dataset(self.split), self.count, out, self.split)
        tolerance = self.tolerance
        if tolerance is None:
            tolerance = tolerance_for(load_artifact(inputs["artifact"]).precision)
        options = RunOptions(threads=self.threads)
        with open_on(self.device, inputs["artifact"], options, progress=context.progress) as runner:
            decide = decider(spec, out, runner)
            pairs: list[GoldenPair] = []
            for done, name in enumerate(names, start=1):
                decide.reset()
                decision = decision_to_json(decide(read_raw(out / name)))
                pairs.append(GoldenPair(name, decision, tolerance))
                context.progress(done / len(names), name)
        (out / "pipeline.json").write_bytes(encode_json(spec))
        (out / "golden.json").write_bytes(encode_json(pairs))


def _write_inputs(dataset: Dataset, count: int, out: Path, split: str) -> list[str]:
    (out / "inputs").mkdir()
    chosen = spread(len(dataset), count)
    names = [
        f"inputs/{write_raw(sample.value, out / 'inputs', f'{number:04d}')}"
        for number, sample in enumerate(_pick(dataset, chosen))
    ]
    if not names:
        raise DataError(f"the split {split} has no samples", hint="give it samples, or choose another split")
    return names


def spread(length: int, count: int) -> list[int]:
    """Returns up to `count` positions spread evenly over `length`, first included: data is often sorted by class."""
    return sorted({position * length // count for position in range(count)}) if length else []


def _pick(dataset: Dataset, positions: Sequence[int]) -> Iterator[Sample]:
    wanted = set(positions)
    for position, sample in enumerate(dataset):
        if position in wanted:
            yield sample
        if position >= positions[-1]:
            return


def _collect_pipeline(data: Mapping[str, Any], labels: tuple[str, ...], out: Path) -> PipelineSpec:
    """Copies the files that operations read and points the operations at the copies."""
    written = Preprocess.from_spec(data.get("preprocess", ()), Path(data.get("root") or "."))
    taken: dict[str, str] = {}
    for path, source in sorted(written.resources().items()):
        name = re.sub(r"[^A-Za-z0-9_.-]", "_", source.name).lstrip(".")
        if name.lower() in map(str.lower, taken):
            name = f"{len(taken)}-{name}"
        _copy_resource(source, out / "resources" / name)
        taken[name] = path
    places = {path: f"resources/{name}" for name, path in taken.items()}
    return PipelineSpec(
        preprocess=written.with_resources(places, out).spec,
        postprocess=tuple(data.get("postprocess", ())),
        labels=labels,
        resources={name: f"resources/{name}" for name in taken},
    )


def _copy_resource(source: Path, copy: Path) -> None:
    if not source.is_file():
        raise DataError(f"{source}: an operation reads this file, and it is not there", hint="correct its `file`")
    copy.parent.mkdir(exist_ok=True)
    shutil.copyfile(source, copy)


plugin = Golden
