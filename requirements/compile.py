"""Resolves `lock.txt`, `dev.txt`, `targets.txt` and the toolchains again: exact versions, hashes, no index named.

Always asks PyPI itself: a mirror may lack files of other platforms, and their hashes.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parent.parent
EXTRAS = ("build", "image", "audio", "text", "onnxruntime", "openvino", "litert", "micro", "tune")
OPTIONS = (
    "--generate-hashes",
    "--allow-unsafe",
    "--strip-extras",
    "--no-emit-index-url",
    "--no-emit-find-links",
    "--no-emit-trusted-host",
    "--no-emit-options",
    "--quiet",
)
_STAND_IN = ("--unsafe-package=tensorflow", "--no-allow-unsafe")
FORBIDDEN = ("torch==", "nvidia-", "triton==", "http://", "https://", "file:")


def compile_one(out: str, *arguments: str) -> None:
    """Runs pip-compile and refuses a lock that names an index or a framework that goes in first."""
    environment = {k: v for k, v in os.environ.items() if not k.startswith("PIP_") or k == "PIP_CERT"}
    options = [*OPTIONS, "--output-file", f"requirements/{out}"]
    command = [sys.executable, "-m", "piptools", "compile", *options, *arguments]
    subprocess.run(command, cwd=ROOT, check=True, env={**environment, "PIP_CONFIG_FILE": os.devnull})
    lines = (ROOT / "requirements" / out).read_text().splitlines()
    bad = [line for line in lines if line.startswith(FORBIDDEN)]
    if bad:
        raise SystemExit(f"requirements/{out} must not hold {bad}")


def compile_toolchain(name: str) -> None:
    """Resolves one toolchain; the facts above its pins stay."""
    target = ROOT / "src" / "edgewright" / "toolchains" / f"{name}.txt"
    facts = [line for line in target.read_text().splitlines() if line.startswith("# ")]
    # tf-keras asks for the full tensorflow beside tensorflow-cpu: installing takes no dependency into account
    compile_one("toolchain.tmp", "--no-annotate", *_STAND_IN, f"requirements/toolchains/{name}.in")
    made = ROOT / "requirements" / "toolchain.tmp"
    pins = [line for line in made.read_text().splitlines() if not line.startswith("#")]
    target.write_text("\n".join([*facts, *pins]) + "\n")
    made.unlink()


def main() -> None:
    """Compiles what the product needs, the tools beside it, then the toolchains."""
    extras = [f"--extra={name}" for name in EXTRAS]
    compile_one("lock.txt", *extras, "pyproject.toml", "requirements/runtime.in")
    compile_one("dev.txt", "requirements/dev.in")
    compile_one("targets.txt", "requirements/targets.in")
    for source in sorted((ROOT / "requirements" / "toolchains").glob("*.in")):
        compile_toolchain(source.stem)


if __name__ == "__main__":
    main()
