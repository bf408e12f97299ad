from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgewright.core.codec import decode, decode_stored, encode, encode_json
from edgewright.core.digest import canonical_json, digest_json
from edgewright.errors import ConfigError


@dataclass(frozen=True, slots=True)
class Inner:
    size: tuple[int, int] = (1, 2)
    name: str = ""


@dataclass(frozen=True, slots=True)
class Outer:
    title: str
    inner: Inner = field(default_factory=Inner)
    many: tuple[Inner, ...] = ()
    named: Mapping[str, Inner] = field(default_factory=dict)
    maybe: Inner | None = None


def test_unknown_key_suggests_the_near_one():
    with pytest.raises(ConfigError) as caught:
        decode(Outer, {"titel": "x"}, "file")
    assert 'unknown key "titel"' in caught.value.message
    assert '"title"' in caught.value.hint


@pytest.mark.parametrize(
    ("data", "place"),
    [
        ({"title": "x", "inner": {"sise": [1, 2]}}, "file.inner"),
        ({"title": "x", "many": [{}, {"nam": ""}]}, "file.many[1]"),
        ({"title": "x", "named": {"a": {"nam": ""}}}, "file.named.a"),
        ({"title": "x", "maybe": {"nam": ""}}, "file.maybe"),
    ],
)
def test_unknown_keys_are_found_at_every_depth(data, place):
    with pytest.raises(ConfigError, match="unknown key") as caught:
        decode(Outer, data, "file")
    assert caught.value.message.startswith(place + ":")


@pytest.mark.parametrize("data", [{}, {"title": 3}, {"title": "x", "inner": {"size": [1]}}, {"title": "x", "many": 1}])
def test_missing_and_wrong_values_are_refused(data):
    with pytest.raises(ConfigError):
        decode(Outer, data, "file")


names = st.text(max_size=5)
inners = st.builds(Inner, st.tuples(st.integers(-99, 99), st.integers(-99, 99)), names)
outers = st.builds(
    Outer, names, inners, st.lists(inners, max_size=3).map(tuple), st.dictionaries(names, inners, max_size=2)
)


@given(outers)
def test_round_trip(value):
    assert decode(Outer, encode(value), "x") == value
    assert decode_stored(Outer, encode_json(value)) == value


@given(st.dictionaries(st.text(max_size=4), st.integers(), max_size=6))
def test_canonical_json_does_not_depend_on_order(value):
    turned = dict(reversed(list(value.items())))
    assert canonical_json(value) == canonical_json(turned)
    assert digest_json(value) == digest_json(turned)


def test_canonical_json_refuses_nan():
    with pytest.raises(ValueError, match="JSON"):
        canonical_json({"x": float("nan")})


def test_paths_are_written_as_text_and_what_has_no_plain_form_is_refused() -> None:
    assert encode({"model": Path("a/b")}) == {"model": str(Path("a/b"))}
    with pytest.raises((TypeError, NotImplementedError)):
        encode(object())
