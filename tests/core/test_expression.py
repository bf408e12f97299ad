"""Steps as one writes them on a command line."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgewright.core.expression import parse_step, show_step
from edgewright.core.recipe import StepSpec
from edgewright.errors import UsageError

SCALARS = st.one_of(st.booleans(), st.none(), st.integers(-(10**9), 10**9), st.text(max_size=12))
NAMES = st.from_regex(r"[a-z][a-z0-9_-]{0,8}", fullmatch=True).filter(lambda n: n not in ("true", "false", "none"))
VALUES = st.recursive(
    SCALARS, lambda v: st.one_of(st.lists(v, max_size=3), st.dictionaries(NAMES, v, max_size=3)), max_leaves=6
)


@pytest.mark.parametrize(
    ("text", "config"),
    [
        ("clean-up", {}),
        ("clean-up()", {}),
        ("a(scheme=onnxruntime-u8s7, ranges=mse)", {"scheme": "onnxruntime-u8s7", "ranges": "mse"}),
        (
            'a(keep_float=[/head/Conv, @last, "x, y"], percent=99.9)',
            {"keep_float": ["/head/Conv", "@last", "x, y"], "percent": 99.9},
        ),
        (
            'a(channels, limit=none, session={session.x=1, b="1"})',
            {"channels": True, "limit": None, "session": {"session.x": 1, "b": "1"}},
        ),
        ("a(x=-3, y=1e-3, z=[], )", {"x": -3, "y": 0.001, "z": []}),
    ],
)
def test_reads(text: str, config: dict[str, Any]) -> None:
    assert parse_step(text).config == config


@pytest.mark.parametrize(
    "text", ["", "(a=1)", "a(b=", "a(b=1", "a(b=[1, 2)", "a(b==1)", 'a(b="c)', "a b", "a(b=1, b=2)"]
)
def test_refuses_and_shows_the_form(text: str) -> None:
    with pytest.raises(UsageError) as caught:
        parse_step(text)
    assert caught.value.hint


@given(NAMES, st.dictionaries(NAMES, VALUES, max_size=4))
def test_what_is_shown_is_read_back(name: str, config: dict[str, Any]) -> None:
    spec = StepSpec(name, config)
    assert parse_step(show_step(spec)) == spec
