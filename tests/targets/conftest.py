"""The toolchain that proves what TensorRT reads, installed once for all tests that need it."""

from __future__ import annotations

from pathlib import Path

import pytest

from edgewright.engine import environments
from edgewright.engine.environments import install

TENSORRT = "tensorrt-rtx"


def _checked(item: pytest.Item) -> str:
    """Name of the target that a conformance check is about."""
    case = getattr(item, "callspec", None)
    return getattr(case.params.get("check"), "target", "") if case is not None else ""


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Proving installs a toolchain where there is none: slow, and in one worker, so that it is done once."""
    for item in items:
        if _checked(item) == "tensorrt" or "tensorrt_rtx" in getattr(item, "fixturenames", ()):
            item.add_marker(pytest.mark.slow)
            item.add_marker(pytest.mark.xdist_group(TENSORRT))


@pytest.fixture(autouse=True)
def _proven_with(request: pytest.FixtureRequest) -> None:
    if _checked(request.node) == "tensorrt":
        request.getfixturevalue("tensorrt_rtx")


@pytest.fixture
def tensorrt_rtx(_tensorrt_cache: Path | None, monkeypatch: pytest.MonkeyPatch) -> environments.Environment:
    """The environment of TensorRT-RTX: the user's where it is ready, else one made for these tests."""
    if _tensorrt_cache is not None:
        monkeypatch.setenv("EDGEWRIGHT_CACHE", str(_tensorrt_cache))
    return environments.require(TENSORRT, "the test")


@pytest.fixture(scope="session")
def _tensorrt_cache(tmp_path_factory: pytest.TempPathFactory) -> Path | None:
    if environments.find(TENSORRT) is not None:
        return None
    made = tmp_path_factory.mktemp(TENSORRT)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("EDGEWRIGHT_CACHE", str(made))
        install.install(TENSORRT, lambda fraction, note: None)
    return made
