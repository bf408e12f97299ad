"""Schemes are data: found by name, taken by `static-int8`, and consistent."""

from __future__ import annotations

import numpy as np
import pytest

from edgewright.core.codec import decode, encode
from edgewright.core.recipe import StepSpec
from edgewright.core.target import Scheme
from edgewright.engine import registry
from edgewright.errors import ConfigError
from edgewright.graph.schemes import find, names

RUNTIMES = ("onnxruntime", "openvino", "tensorrt", "qnn", "litert", "coreml", "executorch", "generic")


def test_every_runtime_has_schemes_and_names_tell_it() -> None:
    assert {name.split("-")[0] for name in names()} == set(RUNTIMES)
    assert len(set(names())) == len(names())
    assert all(find(name).name == name for name in names())


def test_unknown_name_lists_near_ones() -> None:
    with pytest.raises(ConfigError, match='"onnxruntime-u8s9"') as error:
        find("onnxruntime-u8s9")
    assert "onnxruntime-u8s8" in error.value.hint
    with pytest.raises(ConfigError, match="qqq") as error:
        find("qqq")
    assert all(name in error.value.hint for name in names())


@pytest.mark.parametrize("name", names())
def test_survives_plain_values(name: str) -> None:
    assert decode(Scheme, encode(find(name)), "test") == find(name)


@pytest.mark.parametrize("name", names())
def test_is_consistent(name: str) -> None:
    scheme = find(name)
    info = np.iinfo(scheme.activation)
    assert not set(scheme.quantized) & set(scheme.shared)
    assert set(scheme.outputs) <= set(scheme.quantized)
    assert set(scheme.fixed_outputs) <= set(scheme.quantized)
    assert all(scale > 0 and info.min <= zero <= info.max for scale, zero in scheme.fixed_outputs.values())
    assert scheme.opset >= (21 if info.bits == 16 else 13)
    assert scheme.bias in ("int32", "float32")


def test_static_int8_takes_a_name_and_holds_the_scheme() -> None:
    named = registry.make("passes", StepSpec("static-int8", {"scheme": "onnxruntime-u8s7"}))
    spelled = registry.make("passes", StepSpec("static-int8", {"scheme": encode(find("onnxruntime-u8s7"))}))
    assert named == spelled
    assert registry.describe(named).config["scheme"]["weight_bits"] == 7
    with pytest.raises(ConfigError, match="unknown scheme"):
        registry.make("passes", StepSpec("static-int8", {"scheme": "onnxruntime-x"}))
