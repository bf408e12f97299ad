"""What to do about a cause, as a command one can run."""

from __future__ import annotations

import json
import shlex
from collections.abc import Mapping, Sequence
from typing import Any

from edgewright.core.expression import show_step
from edgewright.core.recipe import StepSpec
from edgewright.measure.why.evidence import Evidence

SAFE_SCHEME = "onnxruntime-u8s8-pairs"
"""Cannot saturate on any processor, at the speed of 8 bits and never coarser than weights of 7 bits."""
_NARROW = {"onnxruntime-u8s8": SAFE_SCHEME}


def apply(evidence: Evidence, passes: Sequence[StepSpec], *, project: str = "", artifact: bool = False) -> str:
    """Returns the command that makes the candidate again from the reference with other passes."""
    words = ["edgewright", "apply", evidence.paths["reference"], "-o", fixed(evidence.paths["candidate"])]
    for spec in passes:
        words += ["--pass", show_step(spec)]
    given = project or evidence.paths.get("project", "")
    words += ["--project", given] if given else []
    words += ["--compile", "onnxruntime"] if artifact else []
    return shlex.join(words)


def amend(project: str, changes: Mapping[str, Any], copied: Mapping[str, str] | None = None) -> str:
    """Returns the command that writes a project file with some keys changed."""
    words = ["edgewright", "amend", project, "-o", fixed(project)]
    for key, value in changes.items():
        words += ["--set", f"{key}={json.dumps(value)}"]
    for key, source in (copied or {}).items():
        words += ["--copy", f"{key}={source}"]
    return shlex.join(words)


def fixed(path: str) -> str:
    """Returns where the repaired one goes: beside the other, since relative paths start there."""
    stem, dot, suffix = path.rstrip("/").rpartition(".")
    if dot and suffix == "toml":
        return f"{stem}-fixed.toml"
    return f"{stem if dot and '/' not in suffix else path.rstrip('/')}-fixed"


def quantised(evidence: Evidence, *, keep_float: Sequence[str] = (), even: bool = False) -> tuple[StepSpec, ...]:
    """Returns the passes of a sound quantisation of the same kind as the candidate's.

    Args:
        evidence: For the scheme.
        keep_float: Nodes to leave in float.
        even: Even out the channels first.
    """
    config: dict[str, Any] = {"scheme": scheme(evidence)}
    if keep_float:
        config["keep_float"] = list(keep_float)
    before = (StepSpec("clean-up"), StepSpec("equalise")) if even else (StepSpec("clean-up"),)
    return (*before, StepSpec("static-int8", config))


def scheme(evidence: Evidence) -> str:
    """Returns the candidate's scheme, or the one that is right on every processor where it saturates here."""
    given = evidence.scheme if evidence.scheme not in ("", "as given") else SAFE_SCHEME
    return given if evidence.safe_8_bits else _NARROW.get(given, given)


def again(evidence: Evidence) -> str:
    """Returns the command that makes the same kind of candidate again."""
    if evidence.quantised:
        return apply(evidence, quantised(evidence))
    return apply(evidence, (StepSpec("clean-up"), *((StepSpec("fp16"),) if evidence.half else ())))
