"""Imports a framework, or says how to install it."""

from __future__ import annotations

import importlib
import importlib.util
import sys
from collections.abc import Mapping
from importlib.metadata import PackageNotFoundError, version
from typing import Any

from edgewright.errors import ToolchainMissing


def require(module: str, extra: str) -> Any:
    """Imports `module` at its top level.

    Args:
        module: Absolute name; several runtimes share their name with the framework they open.
        extra: The extra of Edgewright that installs it.

    Raises:
        ToolchainMissing: It is not installed, or its native library cannot be loaded.
    """
    try:
        importlib.import_module(module.partition(".")[0])
        return importlib.import_module(module)
    except ImportError as error:
        raise ToolchainMissing(
            f"{module} cannot be imported: {error}", hint=f'pip install "edgewright[{extra}]"'
        ) from error


BUILDS: Mapping[str, tuple[str, ...]] = {"onnxruntime": ("onnxruntime-gpu", "onnxruntime-openvino")}
"""Distributions that give the same module as the first one and take its place."""


def installed_version(distribution: str) -> str | None:
    """Returns the version of `distribution`, or of another build of it; None where there is none."""
    for name in (distribution, *BUILDS.get(distribution, ())):
        try:
            return version(name)
        except PackageNotFoundError:
            continue
    return None


def require_openvino() -> Any:
    """Imports OpenVINO without its telemetry.

    `import openvino` reports to a public analytics service unless the package `openvino_telemetry` is missing, in
    which case OpenVINO falls back on a stub that does nothing. Blocking that import is the only switch that works
    without writing into the user's home.

    Raises:
        ToolchainMissing: It is not installed.
    """
    if "openvino_telemetry" not in sys.modules:
        sys.modules["openvino_telemetry"] = None  # type: ignore[assignment]
    return require("openvino", "openvino")
