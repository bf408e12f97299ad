"""Starting is cheap: nothing heavy is imported before it is needed."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path

import pytest

from edgewright.engine import registry

HEAVY = (
    "ai_edge_litert", "cv2", "ethosu", "jinja2", "nncf", "onnx", "onnx_ir", "onnxruntime", "onnxscript", "openvino",
    "plotly", "scipy", "soundfile", "sympy", "tflite_micro", "tokenizers", "torch",
)  # fmt: skip
DEVICE_HALF = ("device", "bundle", "runtimes", "pipeline", "store", "core", "errors")
LIST = """
import json, sys
{code}
print(json.dumps(sorted(sys.modules)))
"""


def imported_by(code: str, depth: int = 1) -> set[str]:
    """Modules in sys.modules of a fresh interpreter after `code`, names cut to `depth` parts."""
    found = subprocess.run(
        [sys.executable, "-c", LIST.format(code=code)], capture_output=True, text=True, check=True, timeout=60
    )
    names: list[str] = json.loads(found.stdout.splitlines()[-1])
    return {".".join(name.split(".")[:depth]) for name in names}


def every_module_of(package: str) -> list[str]:
    import edgewright

    root = Path(edgewright.__path__[0])
    files = (root / package).rglob("*.py") if (root / package).is_dir() else [root / f"{package}.py"]
    names = [".".join(("edgewright", *path.relative_to(root).with_suffix("").parts)) for path in files]
    return [name.removesuffix(".__init__") for name in names]


def test_the_check_sees_heavy_imports() -> None:
    assert "sympy" in imported_by("import onnx_ir")


@pytest.mark.sample(3)
@pytest.mark.parametrize("line", ["--help", "optimize --help", "run --help", "targets", "cache path"])
def test_command_line_starts_light(line: str) -> None:
    code = f"""
sys.argv = ["edgewright", *{line.split()!r}]
from edgewright.cli.main import main
try:
    main()
except SystemExit as end:
    assert not end.code, end.code
"""
    assert not imported_by(code) & set(HEAVY)


def test_device_half_imports_nothing_heavy_and_no_builder_package() -> None:
    modules = [name for package in DEVICE_HALF for name in every_module_of(package)]
    assert len(modules) > len(DEVICE_HALF)
    names = imported_by("\n".join(f"import {name}" for name in modules), depth=2)
    assert not {name.split(".")[0] for name in names} & set(HEAVY)
    allowed = {f"edgewright.{name}" for name in DEVICE_HALF}
    assert not {name for name in names if name.startswith("edgewright.")} - allowed


@pytest.mark.sample(3)
@pytest.mark.parametrize("group", registry.GROUPS)
def test_plugins_load_light(group: str) -> None:
    """A second run loads every step to know its key, and runs none."""
    assert len(registry.names(group)) > 1
    code = "from edgewright.engine import registry\n" + "\n".join(
        f"registry.load({group!r}, {name!r})" for name in registry.names(group)
    )
    assert not imported_by(code) & {*HEAVY, "cyclonedx"}
    assert "edgewright.graph" not in imported_by(code, depth=2)


def test_public_package_is_lazy() -> None:
    assert not imported_by("import edgewright") & {*HEAVY, "numpy", "msgspec", "typer", "rich"}


@pytest.mark.slow
def test_help_is_shown_quickly() -> None:
    """Under 300 ms on a quiet machine; the best of ten, and some room for a busy one."""

    def seconds() -> float:
        started = time.perf_counter()
        subprocess.run([Path(sys.executable).with_name("edgewright"), "--help"], capture_output=True, check=True)
        return time.perf_counter() - started

    assert min(seconds() for _ in range(10)) < 0.6
