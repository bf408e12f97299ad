"""The conformance suite of passes: what every pass must do, built in or third-party.

```python
@pytest.mark.parametrize("check", edgewright.testing.passes.checks("my-pass"), ids=str)
def test_conformance(check, tmp_path):
    check.run(tmp_path)
```

A pass that loses precision on purpose says how much in `TOLERANCE`; a third-party one in a class attribute
`tolerance`, the largest difference allowed, relative to the largest output of the original. One that trains or prunes
has the class attribute `trains = True`: its outputs must be finite and nothing more. A pass is given what it `needs`:
data (calibration samples, the same with labels as `train`), statistics, the float model, a teacher, costs.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx_ir as ir

from edgewright.core.codec import decode_stored
from edgewright.core.recipe import StepSpec
from edgewright.core.target import Plan
from edgewright.data import save_spec
from edgewright.data.spec import data_spec
from edgewright.engine import registry
from edgewright.errors import EdgewrightError
from edgewright.graph.load import MODEL_FILE, PLAN_FILE, load, tensor_specs
from edgewright.graph.shapes import infer_shapes
from edgewright.graph.statistics import gather, write_statistics
from edgewright.passes._infer import open_infer
from edgewright.testing._pass_models import CASES, Case, Feed

EXACT = 1e-5
TOLERANCE: Mapping[str, float] = {
    "fp16": 5e-3,
    "dynamic-int8": 0.05,
    "static-int8": 0.06,
    "bias-correction": 0.08,
    "adaround": 0.06,
    "weights-only": 0.01,
}
NOT_MODEL_TO_MODEL = ("calibrate", "sensitivity")
SCHEME = {
    "name": "conformance",
    "activation": "uint8",
    "activation_symmetric": False,
    "weight": "int8",
    "weight_symmetric": True,
    "weight_per_channel": True,
    "weight_bits": 7,
    "quantized": ["Conv", "MatMul", "Gemm", "Add", "Mul", "Sigmoid", "GlobalAveragePool"],
    "shared": ["MaxPool", "Flatten", "Reshape"],
    "bias": "int32",
    "outputs": ["Conv", "MatMul", "Gemm"],
}
CONFIG: Mapping[str, Mapping[str, Any]] = {
    "static-int8": {"scheme": SCHEME},
    "adaround": {"steps": 4},
    "weights-only": {"bits": 8},
    "student": {"network": "resnet8-0.25"},
    "fine-tune": {"epochs": 1, "batch": 4, "fit": {"validation": 0.0}},
    "distill": {"epochs": 1, "batch": 4, "fit": {"validation": 0.0}},
    "qat": {"epochs": 1, "batch": 4, "fit": {"validation": 0.0}},
    "prune": {"macs": 0.8, "align": 1, "batch": 4},
}


@dataclass(frozen=True, slots=True)
class Check:
    """One requirement on one pass and one model.

    Attributes:
        name: Of the pass.
        title: What is required.
        case: The model.
        body: Takes the pass's name, the model and an empty folder; raises AssertionError.
    """

    name: str
    title: str
    case: Case
    body: Callable[[str, Case, Path], None]

    def run(self, folder: Path) -> None:
        """Runs the check.

        Raises:
            AssertionError: The pass does not do it.
        """
        self.body(self.name, self.case, folder)

    def __str__(self) -> str:
        return f"{self.name}: {self.title}: {self.case}"


def checks(name: str = "") -> tuple[Check, ...]:
    """Returns the checks of one pass, or of every pass found."""
    bodies = {
        "writes valid ONNX": check_valid,
        "keeps inputs and outputs": check_interface,
        "stays within its tolerance": check_numerics,
        "is idempotent or refuses": check_again,
        "writes a plan that can be read": check_plan,
        "gives the same bytes again": check_bytes,
    }
    names = [name] if name else [n for n in registry.names("passes") if n not in NOT_MODEL_TO_MODEL]
    return tuple(Check(n, title, case, body) for n in names for case in CASES for title, body in bodies.items())


def check_valid(name: str, case: Case, folder: Path) -> None:
    """The result passes ONNX's checker with full shape inference."""
    for _, out in _applied(name, case, folder):
        onnx.checker.check_model(str(out / MODEL_FILE), full_check=True)


def check_interface(name: str, case: Case, folder: Path) -> None:
    """Names and dtypes of inputs and outputs, and their number of axes, stay."""
    for source, out in _applied(name, case, folder):
        before, after = tensor_specs(load(source)), tensor_specs(load(out))
        for old, new in zip(before, after, strict=True):
            assert [(t.name, t.dtype, len(t.shape)) for t in old] == [(t.name, t.dtype, len(t.shape)) for t in new]


def check_numerics(name: str, case: Case, folder: Path) -> None:
    """On seeded inputs the outputs differ by no more than the tolerance, relative to the largest output.

    Those of a pass that trains are finite.
    """
    for source, out in _applied(name, case, folder):
        trains = getattr(registry.load("passes", name), "trains", False)
        allowed = getattr(registry.load("passes", name), "tolerance", TOLERANCE.get(name, EXACT))
        before, after = open_infer(load(source)), open_infer(load(out))
        for feed in case.feeds():
            expected, got = before(feed), after(feed)
            for key, value in expected.items():
                assert np.isfinite(got[key]).all(), f"{key} is not finite"
                if trains:
                    continue
                worst = np.abs(got[key] - value).max() / max(np.abs(value).max(), 1e-6)
                assert worst <= allowed, f"{key} differs by {worst:.2e} of its largest value, allowed {allowed:.0e}"


def check_again(name: str, case: Case, folder: Path) -> None:
    """Applied to its own result a pass changes nothing, or refuses with a hint."""
    for _, out in _applied(name, case, folder / "first"):
        try:
            again = _run(name, case, out, folder / "second")
        except EdgewrightError as error:
            _require_hint(error)
            return
        first, second = _operators(out), _operators(again)
        assert first == second, f"the second time turned {first} into {second}"


def check_plan(name: str, case: Case, folder: Path) -> None:
    """`plan.json`, where there is one, decodes; its tensors have as many zero points as scales, and reasons."""
    for _, out in _applied(name, case, folder):
        if not (out / PLAN_FILE).is_file():
            return
        plan = decode_stored(Plan, (out / PLAN_FILE).read_bytes())
        json.loads((out / PLAN_FILE).read_text())
        for tensor in plan.tensors:
            assert len(tensor.scale) == len(tensor.zero_point), tensor
            assert all(scale > 0 for scale in tensor.scale), tensor
            assert tensor.reason, tensor


def check_bytes(name: str, case: Case, folder: Path) -> None:
    """Two runs on the same input write the same bytes."""
    one = [_bytes(out) for _, out in _applied(name, case, folder / "one")]
    two = [_bytes(out) for _, out in _applied(name, case, folder / "two")]
    assert one == two


def statistics_of(model: Path, feeds: Sequence[Feed], folder: Path, bins: int = 512, channels: bool = False) -> Path:
    """Writes the statistics of `model` over `feeds` into `folder`, as the step `calibrate` does, and returns it."""
    loaded = infer_shapes(load(model))
    batches = [([index], feed) for index, feed in enumerate(feeds)]
    write_statistics(gather(open_infer, loaded, batches, bins=bins, channels=channels), folder)
    return folder


def data_of(model: Path, feeds: Sequence[Feed], folder: Path) -> Path:
    """Writes `feeds`, batches of any size, as the calibration split of a `data.json` in `folder`, and returns it.

    The split `train` has the same samples with labels, classes of the model's first output in turn.
    """
    specs, outputs = tensor_specs(load(model))
    folder.mkdir(parents=True, exist_ok=True)
    arrays = {spec.name: np.concatenate([feed[spec.name] for feed in feeds]) for spec in specs}
    count, classes = len(next(iter(arrays.values()))), outputs[0].shape[-1]
    arrays["label of sample"] = np.arange(count) % (classes if isinstance(classes, int) else 2)
    np.savez(folder / "samples.npz", allow_pickle=False, **arrays)
    names = specs[0].name if len(specs) == 1 else [spec.name for spec in specs]
    split = {"reader": "npz", "path": "samples.npz", "value": names, "label": ""}
    splits = {"calibration": split, "train": {**split, "label": "label of sample"}}
    save_spec(data_spec(folder, splits, inputs=specs), folder / "data.json")
    return folder / "data.json"


@dataclass(slots=True)
class _Context:
    scratch: Path
    seed: int = 0

    def progress(self, fraction: float, note: str = "") -> None:
        assert 0 <= fraction <= 1, f"progress {fraction} ({note})"


def _applied(name: str, case: Case, folder: Path) -> Iterator[tuple[Path, Path]]:
    """Yields (source, result); nothing when the pass refuses the model with a hint."""
    source = folder / "source"
    source.mkdir(parents=True)
    ir.save(ir.from_proto(case.build()), source / MODEL_FILE)
    try:
        out = _run(name, case, _start(name, case, source, folder), folder)
    except EdgewrightError as error:
        _require_hint(error)
        return
    yield source, out


def _start(name: str, case: Case, source: Path, folder: Path) -> Path:
    """Returns the model to apply a pass to: the quantised one for a pass that repairs it by the float one."""
    if "float" not in getattr(registry.load("passes", name), "needs", ()):
        return source
    return _run("static-int8", case, source, folder / "quantised")


def _require_hint(error: EdgewrightError) -> None:
    if not error.hint:
        raise AssertionError(f"refused without a hint: {error.message}")


def _run(name: str, case: Case, source: Path, folder: Path) -> Path:
    step = registry.make("passes", StepSpec(name, CONFIG.get(name, {})))
    wants = getattr(type(step), "wants", lambda config: getattr(type(step), "needs", ()))
    inputs = {"model": source, **_needed(wants(CONFIG.get(name, {})), case, source, folder)}
    out, scratch = folder / "out", folder / "scratch"
    out.mkdir(parents=True)
    scratch.mkdir()
    step.run(inputs, out, _Context(scratch))
    return out


def _needed(needs: Sequence[str], case: Case, source: Path, folder: Path) -> dict[str, Path]:
    """Makes what a pass asks for beside the model."""
    makers: Mapping[str, Callable[[], Path]] = {
        "statistics": lambda: statistics_of(source, case.feeds(), folder / "statistics"),
        "data": lambda: data_of(source, case.feeds(), folder / "data"),
        "float": lambda: _float_of(case, folder / "float"),
        "teacher": lambda: _float_of(case, folder / "teacher"),
    }
    return {name: makers[name]() for name in needs if name not in ("code", "student")}


def _float_of(case: Case, folder: Path) -> Path:
    folder.mkdir(parents=True)
    ir.save(ir.from_proto(case.build()), folder / MODEL_FILE)
    return folder


def _operators(folder: Path) -> list[str]:
    return [node.op_type for node in load(folder).graph]


def _bytes(folder: Path) -> dict[str, bytes]:
    return {p.relative_to(folder).as_posix(): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}
