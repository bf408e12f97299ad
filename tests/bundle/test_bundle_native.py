"""`edgewright verify` names every file of a bundle that is native code, whatever it is called."""

from __future__ import annotations

import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import numpy.linalg
import pytest

from edgewright.bundle import verifying
from edgewright.cli.bundle import _told
from edgewright.core.digest import Digest
from edgewright.runtimes._ort_custom import here


@pytest.mark.skipif(sys.platform == "win32", reason="the module ends in .pyd there")
def test_native_code_is_found_by_its_content_and_shown(tmp_path: Path) -> None:
    library = next(Path(numpy.linalg.__file__).parent.glob("_umath_linalg*.so"))
    (tmp_path / "labels.txt").write_bytes(library.read_bytes())
    (tmp_path / "harmless.so").write_text("not a library")
    files = dict.fromkeys(("labels.txt", "harmless.so"))
    bundle = SimpleNamespace(folder=tmp_path, manifest=SimpleNamespace(files=files))
    found = verifying._native(cast(Any, bundle))
    assert found == {"labels.txt": here()}
    report = verifying.VerifyReport("own.ewb", Digest("sha256:0"), 2, "onnxruntime 1", (), native=found)
    assert f"native code, runs with the caller's rights: labels.txt ({here()})" in _told(report)
