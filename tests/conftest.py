"""What every test may ask for."""

from __future__ import annotations

import os
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from hypothesis import settings

os.environ.setdefault("OMP_NUM_THREADS", "1")  # tests run one per core; threads of PyTorch would only wait for others

ON_CI = os.environ.get("CI", "").lower() in ("1", "true", "yes")
_MAY_SKIP = ("the schemes tried are those of x86", "speaks about x86 on Linux", "needs a GPU", "there is a GPU")
"""Reasons that hold on CI too: tests about one kind of processor, or about a GPU."""


settings.register_profile("quick", max_examples=25)
"""For the fast tests alone: fewer examples where a test names no number; all of them run with the slow tests."""


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "sample(every): of the cases of a family all but every n-th are slow")
    if "not slow" in (config.option.markexpr or ""):
        settings.load_profile("quick")


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Makes most cases of a large family slow, before `-m` chooses: the sample that stays spreads over all of them."""
    seen: Counter[str] = Counter()
    for item in items:
        mark = item.get_closest_marker("sample")
        if mark is None:
            continue
        family = item.nodeid.partition("[")[0]
        if seen[family] % mark.args[0]:
            item.add_marker(pytest.mark.slow)
        seen[family] += 1


def pytest_terminal_summary(terminalreporter: Any) -> None:
    """On CI nothing is skipped in silence: a missing compiler, browser or library is an error there."""
    skipped = [_reason(report) for report in terminalreporter.stats.get("skipped", [])]
    wrong = sorted({reason for reason in skipped if not any(known in reason for known in _MAY_SKIP)})
    if ON_CI and wrong:
        terminalreporter.section("skipped on CI")
        terminalreporter.line("\n".join(wrong))
        terminalreporter._session.exitstatus = pytest.ExitCode.TESTS_FAILED


def _reason(report: Any) -> str:
    where = report.longrepr
    return str(where[2]) if isinstance(where, tuple) else str(where)


@pytest.fixture(autouse=True)
def _the_same_numbers_in_any_order(request: pytest.FixtureRequest) -> None:
    """A test sees the same random numbers whatever ran before it: `RNG` of its module begins anew."""
    generator = getattr(getattr(request, "module", None), "RNG", None)
    if hasattr(generator, "bit_generator"):
        first = _FIRST.setdefault(request.module.__name__, generator.bit_generator.state)
        generator.bit_generator.state = first


_FIRST: dict[str, Any] = {}
"""Module -> state of its generator before its first test."""


@pytest.fixture(scope="session")
def bench() -> Path:
    """The folder of benchmark data; without it the test is skipped here and fails where CI is set."""
    named = os.environ.get("EDGEWRIGHT_BENCH", "")
    folder = Path(named)
    if named and (folder / "README.md").is_file():
        return folder
    reason = f"benchmark data not found: EDGEWRIGHT_BENCH={named!r}"
    if ON_CI:
        pytest.fail(reason + " (on CI the data must be there)")
    pytest.skip(reason)
