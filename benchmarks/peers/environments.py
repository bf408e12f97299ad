"""Peers that cannot share our environment run in one of their own, made on first use."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from pathlib import Path

HOME = Path(__file__).resolve().parents[2] / "build" / "peers"
PACKAGES = {
    "litert": ("litert-torch==0.10.0", "ai-edge-quantizer==0.10.0", "ai-edge-litert==2.3.0"),
    "olive": ("olive-ai==0.13.0", "onnxruntime==1.31.1", "onnx==1.23.2", "requests"),
    "neural-compressor": (
        "neural-compressor==2.6",
        "onnx<1.17",
        "onnxruntime==1.31.1",
        "numpy<2",
        "setuptools<80",
        "six",
    ),
    "torch-pruning": ("torch-pruning==1.6.0", "onnx==1.23.2", "onnxscript", "safetensors"),
}


def python_of(name: str) -> Path:
    """Returns the interpreter of a peer's environment, which is made if need be.

    Raises:
        subprocess.CalledProcessError: It cannot be installed here.
    """
    folder = HOME / name
    python, ready = folder / "bin" / "python", folder / ".ready"
    if not ready.exists():
        subprocess.run([sys.executable, "-m", "venv", "--clear", str(folder)], check=True)
        for packages in (("torch==2.13.0",), PACKAGES[name]):
            subprocess.run(
                [str(python), "-m", "pip", "install", "--quiet", *packages], check=True, stderr=subprocess.DEVNULL
            )
        ready.touch()
    return python


def call(name: str, *arguments: str) -> None:
    """Runs `NAME_script.py` of this folder with the peer's interpreter.

    Raises:
        RuntimeError: It failed; the message is the end of what it printed.
    """
    script = Path(__file__).with_name(f"{name.replace('-', '_')}_script.py")
    environment = {**os.environ, "OLIVE_DISABLE_TELEMETRY": "1", "HF_HUB_OFFLINE": "1"}
    command = [str(python_of(name)), str(script), *arguments]
    with tempfile.TemporaryDirectory() as folder:  # both leave files where they are started
        done = subprocess.run(command, check=False, capture_output=True, text=True, env=environment, cwd=folder)
    if done.returncode:
        raise RuntimeError((done.stderr or done.stdout).strip()[-300:])
