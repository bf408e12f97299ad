"""What a target claims of processors: schemes and precisions, and the integers it takes."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import onnx

from edgewright.core.measurement import Device
from edgewright.testing._target_tools import make

DEVICES = tuple(
    Device("local", machine, machine, 4, isa, 8 << 30, "test")
    for machine, isa in (
        ("x86_64", ("avx2",)),
        ("x86_64", ("avx2", "avx512f", "avx512_vnni", "avx512_bf16", "amx_int8", "amx_bf16")),
        ("aarch64", ("asimddp", "i8mm", "bf16")),
    )
)


def integers(target: str, model: Callable[..., onnx.ModelProto]) -> onnx.ModelProto:
    """Returns a quantised model as `target` takes them: symmetric where its own schemes are."""
    schemes = make(target).schemes(DEVICES[0])
    return model(symmetric=bool(schemes) and all(scheme.activation_symmetric for scheme in schemes))


def has_integers(target: str) -> bool:
    """Returns whether `target` computes in integers on any device: it has a scheme then."""
    return any(make(target).schemes(device) for device in DEVICES)


def check_schemes_and_precisions(target: str, folder: Path) -> None:
    """Schemes are well-formed and named apart; float32 is always available; a refusal has its reason."""
    step = make(target)
    for device in DEVICES:
        schemes = step.schemes(device)
        assert len({scheme.name for scheme in schemes}) == len(schemes)
        for scheme in schemes:
            assert {scheme.activation, scheme.weight} <= {"int8", "uint8"}
            assert scheme.weight_bits in (7, 8)
            assert scheme.quantized
            assert not set(scheme.quantized) & set(scheme.shared)
        precisions = step.precisions(device)
        assert precisions["float32"] == ""
        assert set(precisions) <= {"float32", "bfloat16", "float16", "int8"}
        assert not (schemes and precisions.get("int8")), "INT8 has schemes and is called not worth it"
