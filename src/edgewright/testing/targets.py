"""The conformance suite of targets and their runtimes: what every `Target` must do, built in or third-party.

```python
@pytest.mark.parametrize("check", edgewright.testing.targets.checks("my-target"), ids=str)
def test_conformance(check, tmp_path):
    check.run(tmp_path)
```
"""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from importlib.metadata import packages_distributions, version
from pathlib import Path
from typing import Any

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from edgewright.core.codec import encode_json
from edgewright.core.target import Artifact, Runner, RunOptions
from edgewright.engine import registry, toolchain
from edgewright.errors import Corrupt, DataError, StepFailed, ToolchainMissing
from edgewright.runtimes import find_runtime, load_artifact, open_runner
from edgewright.testing._target_claims import check_schemes_and_precisions, has_integers, integers
from edgewright.testing._target_models import CASES, Case, one_sided_conv, quantized_conv, unknown_operator
from edgewright.testing._target_proof import check_proof, check_refused_to_open, require_described, runs_here
from edgewright.testing._target_tools import (
    Feed,
    QuietContext,
    compiled,
    expecting,
    feed_for,
    make,
    reference,
    specs,
    without,
)

__all__ = [
    "CASES",
    "Case",
    "Check",
    "QuietContext",
    "checks",
    "compiled",
    "discovered",
    "expecting",
    "feed_for",
    "make",
    "reference",
    "runs_here",
]

ZEROS = "null"
"""The runtime that answers zeros: it is held to shapes and dtypes, not to values or precisions."""


@dataclass(frozen=True, slots=True)
class Check:
    """One requirement on one target.

    Attributes:
        target: Name of the target.
        title: What is required.
        body: Takes the target's name and an empty folder; raises AssertionError.
    """

    target: str
    title: str
    body: Callable[[str, Path], None]

    def __str__(self) -> str:
        return f"{self.target}-{self.title}"

    def run(self, folder: Path) -> None:
        """Carries the check out in the empty `folder`."""
        self.body(self.target, folder)


def discovered() -> tuple[str, ...]:
    """Returns the names of all targets, built-in and third-party."""
    return registry.names("targets")


def checks(target: str) -> tuple[Check, ...]:
    """Returns every check for `target`.

    Where its artifacts cannot be opened on this machine (its `elsewhere` says why), checks that run one make way for
    checks of what it proves instead.
    """
    runs = runs_here(target)
    per_case = (
        Check(target, f"{title}[{case}]", _bound(body, case))
        for case in CASES
        for title, body in (_RUNNING if runs else _PROVING).items()
    )
    left_out = {check_refused_to_open.__name__} if runs else _OPENING
    single = ((name, body) for name, body in _SINGLE.items() if name not in left_out)
    return (*per_case, *(Check(target, name.removeprefix("check_"), body) for name, body in single))


def _bound(body: Callable[[str, Case, Path], None], case: Case) -> Callable[[str, Path], None]:
    def check(target: str, folder: Path) -> None:
        if not refused_as_allowed(target, case):
            body(target, case, folder)

    return check


def refused_as_allowed(target: str, case: Case) -> bool:
    """Returns whether `target` refuses `case` for the free axis, or the kind of integers, that it may refuse it for."""
    allowed = [word for word in (case.free_axis, case.integers, case.zero_points) if word]
    reasons = make(target).refuses(ir.from_proto(case.build())) if allowed else ()
    return bool(reasons) and all(any(word in reason for word in allowed) for reason in reasons)


def check_parity(target: str, case: Case, folder: Path) -> None:
    """The artifact answers what the reference evaluator answers, for one sample and for a batch."""
    proto = case.build()
    with open_runner(compiled(target, proto, folder)) as runner:
        dynamic = any(spec.shape[0] == "batch" for spec in runner.inputs)
        for batch in (1, 3) if dynamic else (1,):
            feed = feed_for(proto, batch=batch)
            _compare(runner, feed, reference(proto, feed), case.tolerance, values=make(target).runtime != ZEROS)


def _compare(runner: Runner, feed: Feed, expected: list[NDArray[Any]], tolerance: float, *, values: bool) -> None:
    found = runner.run(feed)
    assert list(found) == [spec.name for spec in runner.outputs]
    for spec, want in zip(runner.outputs, expected, strict=True):
        got = found[spec.name]
        assert (got.dtype, got.shape) == (want.dtype, want.shape), str(spec)
        if values:
            np.testing.assert_allclose(got, want, rtol=0, atol=tolerance, err_msg=str(spec))


def check_description(target: str, case: Case, folder: Path) -> None:
    """`artifact.json` says everything that is needed to run the artifact elsewhere."""
    proto = case.build()
    artifact = load_artifact(compiled(target, proto, folder))
    runtime = find_runtime(artifact.runtime)
    assert artifact.target == target == make(target).name
    assert artifact.runtime == make(target).runtime
    if runs_here(target):
        assert version(runtime.distribution).startswith(artifact.runtime_version.split("+")[0])
    assert artifact.runtime_range
    assert (artifact.inputs, artifact.outputs) == specs(proto)
    assert artifact.precision
    files = (path for path in (folder / "artifact").rglob("*") if path.is_file())
    written = {str(path.relative_to(folder / "artifact")) for path in files}
    assert written == {*artifact.files, *artifact.extras, "artifact.json"}, "files that ship are not all listed"


def check_placement(target: str, case: Case, folder: Path) -> None:
    """Placement covers every node that runs, names real sources, and its shares add up."""
    proto = case.build()
    path = compiled(target, proto, folder)
    placement = load_artifact(path).placement
    with open_runner(path, RunOptions(profile=True)) as runner:
        for _ in range(3):
            runner.run(feed_for(proto))
        times = runner.operator_times()
    assert times
    assert {time.node for time in times} <= {node.node for node in placement}
    require_described(placement)
    shares = [node.share for node in placement if node.share is not None]
    assert not shares or abs(sum(shares) - 1) < 0.02


def check_inputs_are_validated(target: str, folder: Path) -> None:
    """Wrong names, dtypes and shapes are refused with what was expected."""
    proto = next(case for case in CASES if case.name == "several-inputs").build()
    feed = dict(feed_for(proto, batch=2))
    with open_runner(compiled(target, proto, folder)) as runner:
        wrong: dict[str, Feed] = {
            "gate": {"query": feed["query"]},
            "surplus": {**feed, "surplus": feed["gate"]},
            "float64": {**feed, "gate": feed["gate"].astype(np.float64)},
            "[2, 7]": {**feed, "gate": np.zeros((2, 7), np.float32)},
            "[12]": {**feed, "gate": feed["gate"].ravel()},
            "batch = 2": {**feed, "gate": np.zeros((3, 6), np.float32)},
        }
        for word, inputs in wrong.items():
            with expecting(DataError, word):
                runner.run(inputs)
        runner.run(feed)


def check_determinism(target: str, folder: Path) -> None:
    """Compiling twice gives the same bytes, but for the measured shares in `artifact.json`."""
    proto = integers(target, quantized_conv)
    first, second = (compiled(target, proto, folder / name, anew=True) for name in ("first", "second"))
    for name in load_artifact(first).files:
        assert (first / name).read_bytes() == (second / name).read_bytes(), name
    assert _timeless(load_artifact(first)) == _timeless(load_artifact(second))


def _timeless(artifact: Artifact) -> Artifact:
    nodes = (replace(node, share=None, note="" if node.planned else node.note) for node in artifact.placement)
    return replace(artifact, placement=tuple(sorted(nodes, key=lambda node: node.node)))


def check_refusals(target: str, folder: Path) -> None:
    """Models that run are accepted; an unknown operator is refused and its node is named, without compiling.

    A model with a free axis beside the batch may be refused too, naming that axis, and one that computes in integers
    of 64 bits, naming that type; one with zero points where all have to be symmetric, saying so.
    """
    step = make(target)
    for case in CASES:
        assert refused_as_allowed(target, case) or step.refuses(ir.from_proto(case.build())) == (), case.name
    reasons = step.refuses(ir.from_proto(unknown_operator()))
    assert any("y_node" in reason and "Frobnicate" in reason for reason in reasons), reasons
    assert not any("r_node" in reason for reason in reasons), reasons


def check_missing_toolchain(target: str, folder: Path) -> None:
    """Without its library, both compiling and opening say what to install."""
    runtime = find_runtime(make(target).runtime)
    own = toolchain.distributions_of(make(target).extra)
    if runtime.distribution == "edgewright" or (not runs_here(target) and runtime.distribution not in own):
        return  # a runtime that pip does not install here is refused by `check_refused_to_open`
    path = compiled(target, integers(target, quantized_conv), folder / "present")
    with without(runtime.distribution):
        named = _extra_named_when_opening(path)
        assert named == make(target).extra or runtime.distribution in toolchain.distributions_of(named), named
        with expecting(ToolchainMissing, f"edgewright[{make(target).extra}]"):
            compiled(target, integers(target, quantized_conv), folder / "absent", anew=True)


def _extra_named_when_opening(artifact: Path) -> str:
    """Returns the extra that a runtime names when its library is missing; several targets may share a runtime."""
    try:
        with open_runner(artifact):
            raise AssertionError("opened without its library")
    except ToolchainMissing as error:
        hint = error.hint
    found = re.search(r"edgewright\[([^\]]+)\]", hint)
    assert found, hint
    return found.group(1)


def check_imports_are_lazy(target: str, folder: Path) -> None:
    """Importing and describing the target imports neither its framework nor onnx."""
    runtime = find_runtime(make(target).runtime)
    owned = [name for name, owners in packages_distributions().items() if runtime.distribution in owners]
    banned = {*owned, "onnx", "onnx_ir"} - {"edgewright"}
    code = (
        f"import sys; from edgewright.engine import registry; t = registry.load('targets', {target!r})();"
        f"from edgewright.runtimes import find_runtime; find_runtime(t.runtime);"
        f"print(*sorted({banned!r} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "", f"imported too early: {done.stdout}"


def check_open_twice(target: str, folder: Path) -> None:
    """Two runners of one artifact live side by side, and it can be opened again afterwards."""
    proto = integers(target, quantized_conv)
    path, feed = compiled(target, proto, folder), feed_for(proto)
    with open_runner(path) as first, open_runner(path) as second:
        answers = [runner.run(feed)["y"] for runner in (first, second, first)]
    with open_runner(path) as third:
        answers.append(third.run(feed)["y"])
    for answer in answers[1:]:
        np.testing.assert_array_equal(answer, answers[0])


def check_outputs_are_owned(target: str, folder: Path) -> None:
    """A later run does not change what an earlier one returned, nor the inputs it was given."""
    proto = next(case for case in CASES if case.name == "conv-bn-relu").build()
    first, second = feed_for(proto, seed=1), feed_for(proto, seed=2)
    kept = first["x"].copy()
    with open_runner(compiled(target, proto, folder)) as runner:
        answer = runner.run(first)["y"]
        copy = answer.copy()
        runner.run(second)
        np.testing.assert_array_equal(answer, copy)
    np.testing.assert_array_equal(first["x"], kept)


def check_threads_and_profile(target: str, folder: Path) -> None:
    """Two threads give the answers of one; without profiling no operator times are claimed."""
    proto = next(case for case in CASES if case.name == "residual").build()
    path, feed = compiled(target, proto, folder), feed_for(proto)
    with open_runner(path, RunOptions(threads=1)) as one, open_runner(path, RunOptions(threads=2)) as two:
        np.testing.assert_allclose(one.run(feed)["y"], two.run(feed)["y"], atol=1e-5)
        assert one.operator_times() == ()


def check_strict(target: str, folder: Path) -> None:
    """A node that should run in int8 but does not is reported, and `strict` refuses it and says what to do."""
    if make(target).runtime == ZEROS:
        return
    if has_integers(target):
        compiled(target, integers(target, quantized_conv), folder / "good", strict=True)
    loose = load_artifact(compiled(target, integers(target, one_sided_conv), folder / "loose"))
    if not loose.placement and not runs_here(target):
        return
    unplanned = [node for node in loose.placement if not node.planned]
    assert any("c2_node" in node.source for node in unplanned), loose.placement
    with expecting(StepFailed, "c2_node", "strict"):
        compiled(target, integers(target, one_sided_conv), folder / "strict", strict=True)
    assert not (folder / "strict" / "artifact" / "artifact.json").exists()


def check_int8_runs_in_int8(target: str, folder: Path) -> None:
    """Convolutions between quantisers are proven to run in int8; a target without integers owns up to it."""
    if make(target).runtime == ZEROS:
        return
    artifact = load_artifact(compiled(target, integers(target, quantized_conv), folder))
    if not artifact.placement and not runs_here(target):
        assert artifact.precision == "int8"
        return
    if not has_integers(target):
        unplanned = {source for node in artifact.placement if not node.planned for source in node.source}
        assert artifact.precision == "float32"
        assert {"c1_node", "c2_node"} <= unplanned
        return
    precisions = {source: node.precision for node in artifact.placement for source in node.source}
    assert precisions["c1_node"] == precisions["c2_node"] == artifact.precision == "int8"
    assert all(node.planned for node in artifact.placement)


def check_damage(target: str, folder: Path) -> None:
    """A truncated, missing or smuggled file is called corrupt."""
    path = compiled(target, integers(target, quantized_conv), folder)
    artifact = load_artifact(path)
    main = path / artifact.files[0]
    content = main.read_bytes()
    main.write_bytes(content[: len(content) // 2])
    with expecting(Corrupt, artifact.files[0]), open_runner(path):
        pass
    main.unlink()
    with expecting(Corrupt, artifact.files[0]), open_runner(path):
        pass
    (path / "artifact.json").write_bytes(encode_json(replace(artifact, files=("../elsewhere.bin",))))
    with expecting(Corrupt, "../elsewhere.bin"), open_runner(path):
        pass
    (path / "artifact.json").write_text('{"target": ')
    with expecting(Corrupt, "artifact.json"), open_runner(path):
        pass


CaseCheck = Callable[[str, Case, Path], None]
_RUNNING: Mapping[str, CaseCheck] = {
    "parity": check_parity,
    "description": check_description,
    "placement": check_placement,
}
_PROVING: Mapping[str, CaseCheck] = {"proof": check_proof, "description": check_description}
_OPENING = frozenset(
    body.__name__
    for body in (check_inputs_are_validated, check_open_twice, check_outputs_are_owned, check_threads_and_profile)
)
"""Checks that run an artifact."""
_SINGLE: dict[str, Callable[[str, Path], None]] = {
    body.__name__: body
    for body in (
        check_inputs_are_validated,
        check_determinism,
        check_refusals,
        check_missing_toolchain,
        check_imports_are_lazy,
        check_open_twice,
        check_outputs_are_owned,
        check_threads_and_profile,
        check_strict,
        check_int8_runs_in_int8,
        check_damage,
        check_schemes_and_precisions,
        check_refused_to_open,
    )
}
