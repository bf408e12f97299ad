"""Plans of quantised models: read, shown, compared, and applied to another scheme."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from edgewright.core.codec import decode_stored, encode_json
from edgewright.core.target import Plan, TensorPlan
from edgewright.errors import ConfigError, Corrupt, UsageError

if TYPE_CHECKING:
    from edgewright.graph.schemes.lint import Finding


@dataclass(frozen=True, slots=True)
class Difference:
    """One entry in which two plans differ.

    Attributes:
        name: Of the tensor, or of the operator that one keeps in float.
        what: `type`, `scale`, `zero point`, `axis`, `quantised` or `kept float`.
        first: What the first plan says.
        second: What the second one says.
    """

    name: str
    what: str
    first: str
    second: str


@dataclass(frozen=True, slots=True)
class Shown:
    """A plan, held against a scheme where one was named.

    Attributes:
        plan: As read.
        findings: Rules of the scheme that the model breaks, as text.
        predicted: What becomes of the operators on the scheme's runtime: kind -> how many.
    """

    plan: Plan
    findings: tuple[str, ...] = ()
    predicted: Mapping[str, int] | None = None


@dataclass(frozen=True, slots=True)
class Replanned:
    """What `apply_plan` wrote.

    Attributes:
        model: Path of the ONNX file.
        plan: Path of the plan beside it.
        scheme: Name of the scheme it obeys.
        quantised: How many tensors are quantised.
        kept_float: Operator -> why it stays float.
    """

    model: str
    plan: str
    scheme: str
    quantised: int
    kept_float: Mapping[str, str]


def read(path: Path) -> Plan:
    """Returns the plan of a `.json` file, of a model folder that holds one, or of the quantisers in an ONNX model.

    Raises:
        UsageError: The model has no quantisers.
        SourceError: No such file, or not ONNX.
        Corrupt: It is damaged.
    """
    from edgewright.graph.load import PLAN_FILE, load
    from edgewright.graph.qdq import read_plan

    file = path / PLAN_FILE if path.is_dir() and (path / PLAN_FILE).is_file() else path
    if file.suffix == ".json":
        return _stored(file)
    plan = read_plan(load(path).graph)
    if not plan.tensors:
        raise UsageError(
            f"{path}: the model has no quantisers", hint="quantise it, e.g. `edgewright apply --pass static-int8(...)`"
        )
    return plan


def _stored(file: Path) -> Plan:
    try:
        return decode_stored(Plan, file.read_bytes())
    except FileNotFoundError as error:
        raise UsageError(f"{file}: no such file", hint="give a plan.json, a model folder or an ONNX file") from error
    except ValueError as error:
        raise Corrupt(f"{file}: not a plan: {error}", hint="quantise the model again") from error


def show(path: Path, scheme: str = "") -> Shown:
    """Returns the plan of a model; with the name of a scheme, also what breaks its rules and what will be fused.

    Raises:
        UsageError: There is no plan, or no model to hold against the scheme.
        ConfigError: The scheme is unknown.
    """
    plan = read(path)
    if not scheme:
        return Shown(plan)
    from edgewright.graph.load import load
    from edgewright.graph.names import name_nodes
    from edgewright.graph.schemes import find
    from edgewright.graph.schemes.lint import lint
    from edgewright.graph.schemes.predict import PREDICTED, predict
    from edgewright.graph.shapes import infer_shapes

    wanted = find(scheme)
    if path.suffix == ".json":
        raise UsageError(f"{path}: a plan alone cannot be held against a scheme", hint="give the model")
    model = infer_shapes(load(path))
    name_nodes(model.graph)
    kept = plan.kept_float if plan.scheme != "as given" else {}
    findings: tuple[Finding, ...] = lint(model.graph, wanted, kept)
    kinds = predict(model.graph, wanted).values() if scheme.split("-", maxsplit=1)[0] in PREDICTED else None
    counts = None if kinds is None else {kind: list(kinds).count(kind) for kind in sorted(set(kinds))}
    return Shown(plan, tuple(map(str, findings)), counts)


def diff(first: Plan, second: Plan) -> tuple[Difference, ...]:
    """Returns every entry in which two plans differ, tensors first."""
    one, two = ({t.tensor: t for t in plan.tensors} for plan in (first, second))
    found: list[Difference] = []
    for name in dict.fromkeys([*one, *two]):
        found += _differences(name, one.get(name), two.get(name))
    for name in dict.fromkeys([*first.kept_float, *second.kept_float]):
        ends = [plan.kept_float.get(name, "quantised") for plan in (first, second)]
        if (name in first.kept_float) != (name in second.kept_float):
            found.append(Difference(name, "kept float", *ends))
    return tuple(found)


def _differences(name: str, one: TensorPlan | None, two: TensorPlan | None) -> list[Difference]:
    if one is None or two is None:
        said = [f"{t.dtype}" if t is not None else "float" for t in (one, two)]
        return [Difference(name, "quantised", *said)]
    pairs = (
        ("type", one.dtype, two.dtype),
        ("scale", _numbers(one.scale), _numbers(two.scale)) if one.scale != two.scale else ("scale", "", ""),
        ("zero point", _numbers(one.zero_point), _numbers(two.zero_point)),
        ("axis", str(one.axis), str(two.axis)),
    )
    return [Difference(name, what, a, b) for what, a, b in pairs if a != b]


def _numbers(values: tuple[float, ...] | tuple[int, ...]) -> str:
    low, high = min(values), max(values)
    return f"{low:.9g}" if len(values) == 1 else f"{low:.6g} to {high:.6g}, {len(values)} channels"


def apply_plan(path: Path, scheme: str, out: Path, plan: Path | None = None) -> Replanned:
    """Plans a model anew by the rules of another scheme, with the ranges of its own plan or of another file's.

    Args:
        path: A model with quantisers; or a float model, with `plan`.
        scheme: Name of the scheme.
        out: Model folder to write.
        plan: Where the ranges come from, if not from the model itself.

    Raises:
        UsageError: No plan, or `out` is not a folder.
        ConfigError: The scheme is unknown, or the plan is of another model.
        StepFailed: The result would break the scheme.
    """
    from edgewright.graph.load import PLAN_FILE, load, save
    from edgewright.graph.replan import replan
    from edgewright.graph.schemes import find

    wanted = find(scheme)
    if out.suffix or (out.exists() and not out.is_dir()):
        raise UsageError(f"{out}: not a folder", hint="name a folder for the model and its plan")
    known = read(plan or path)
    if not known.tensors:
        raise ConfigError(f"{plan or path}: the plan is empty", hint="take the plan of a quantised model")
    model, made = replan(load(path), known, wanted)
    file = save(model, out)
    (out / PLAN_FILE).write_bytes(encode_json(made))
    return Replanned(str(file), str(out / PLAN_FILE), scheme, len(made.tensors), made.kept_float)
