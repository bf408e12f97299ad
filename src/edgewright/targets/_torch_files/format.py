"""What targets that write PyTorch's own files have in common; light to import."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from edgewright.core.step import Context
from edgewright.runtimes._require import require

if TYPE_CHECKING:
    from edgewright.targets._torch_files.make import Exporter


def precisions() -> dict[str, str]:
    """Returns the precisions of `Target.precisions`."""
    slow = "PyTorch has few kernels in {} for this kind of processor"
    whole = "PyTorch has no integer kernels that a plain file could name; it computes quantisers in float"
    return {"float32": "", **{name: slow.format(name) for name in ("float16", "bfloat16")}, "int8": whole}


def write(
    target: str,
    file: Path,
    content: Callable[[Exporter], bytes],
    inputs: Mapping[str, Path],
    context: Context,
    *,
    batch: int,
    strict: bool,
) -> None:
    """Writes `file` and the `artifact.json` beside it.

    Args:
        target: Its name.
        file: Where to.
        content: What makes the bytes of the file.
        inputs: Of the target's step.
        context: Of the target's step.
        batch: Size of a free batch axis.
        strict: Fail when a node does not run as planned.

    Raises:
        ToolchainMissing: PyTorch is not installed.
        ConfigError: `batch` is below 1.
        StepFailed: The model cannot be exported; or `strict` and a node does not run as planned.
    """
    require("torch", "torch")
    from edgewright.targets._torch_files.proof import describe, read

    hub, exporter = read(inputs["model"], target, batch)
    operators = exporter.operators()
    file.write_bytes(content(exporter))
    context.progress(0.5, "proving placement")
    describe(target, file, hub, operators, batch=batch, data=inputs.get("data"), strict=strict)
