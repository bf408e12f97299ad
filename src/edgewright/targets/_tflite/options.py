"""What the compiler is asked for, and what it gives."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Options:
    """How to compile.

    Attributes:
        batch: Size of a symbolic leading axis: a TensorFlow Lite file has fixed sizes.
        integer_only: `int8` or `uint8` makes the file take and give integers of that type, and every operator compute
            in integers; empty leaves both to the model.
        weights: `float32`, or `float16` to store the constants of float operators in half the size.
        channels_last: The file takes images as [N, H, W, C], whatever the model takes; None decides by what saves a
            transposition.
        metadata: Entries of the file's metadata, by name.
        hybrid: Keep int8 weights beside float activations: an operator of a dynamically quantised model quantises these
            as it runs, others compute in float on the weights unpacked. Otherwise such weights are stored as floats.
    """

    batch: int = 1
    integer_only: str = ""
    weights: str = "float32"
    channels_last: bool | None = True
    metadata: Mapping[str, bytes] = field(default_factory=dict)
    hybrid: bool = True


@dataclass(frozen=True, slots=True)
class Border:
    """How a tensor of the file stands to the input or output of the model it serves.

    Attributes:
        perm: Axes of the model's tensor in the order of the file's; empty for the same order.
        dtype: NumPy's name of the file's type.
        scale: Of the file's integers; 0 for a tensor that is not quantised.
        zero_point: Of the file's integers.
    """

    perm: tuple[int, ...] = ()
    dtype: str = "float32"
    scale: float = 0.0
    zero_point: int = 0


@dataclass(frozen=True, slots=True)
class Compiled:
    """A TensorFlow Lite file and where its parts come from.

    Attributes:
        content: The file.
        trace: Per operator of the file, names of the nodes of the model that went into it.
        values: Tensor of the file -> (value of the model, its axes in the file's order; empty where they agree).
        inputs: Name -> border, for the inputs that differ from the model's.
        outputs: Likewise.
        notes: Node -> why it computes in float between integers, or what was done where the plan's numbers could not be
            said directly.
    """

    content: bytes
    trace: tuple[tuple[str, ...], ...]
    values: Mapping[str, tuple[str, tuple[int, ...]]]
    inputs: Mapping[str, Border] = field(default_factory=dict)
    outputs: Mapping[str, Border] = field(default_factory=dict)
    notes: Mapping[str, str] = field(default_factory=dict)
