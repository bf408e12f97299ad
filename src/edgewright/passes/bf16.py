"""BF16: computed by the runtime in bfloat16 where the processor has it; the file stays float32."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import ClassVar

from edgewright.core.codec import decode_stored, encode_json
from edgewright.core.step import Context
from edgewright.core.target import Plan
from edgewright.errors import Corrupt

HINT = "inference_precision"


@dataclass(frozen=True, slots=True)
class Bf16:
    """Writes the hint {"inference_precision": "bf16"} into the plan; the target turns it into its runtime's setting."""

    name: ClassVar[str] = "bf16"
    version: ClassVar[int] = 1
    requires: ClassVar[tuple[str, ...]] = ("onnx-ir",)

    def run(self, inputs: Mapping[str, Path], out: Path, context: Context) -> None:
        from edgewright.graph.load import PLAN_FILE, load, save

        save(load(inputs["model"]), out)
        plan = _stored_plan(inputs["model"] / PLAN_FILE)
        hinted = replace(plan, hints={**plan.hints, HINT: "bf16"})
        (out / PLAN_FILE).write_bytes(encode_json(hinted))


def _stored_plan(path: Path) -> Plan:
    """Returns the plan of a model, an empty one where there is none.

    Raises:
        Corrupt: The file is damaged.
    """
    if not path.is_file():
        return Plan("float")
    try:
        return decode_stored(Plan, path.read_bytes())
    except ValueError as error:
        raise Corrupt(f"{path}: {error}", hint="remove it and run again") from error


plugin = Bf16
