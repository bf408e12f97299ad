"""Source `keras`: a `.keras` or `.h5` file through tf2onnx, in the environment of the toolchain `tensorflow`."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from edgewright.core.step import Context
from edgewright.errors import SourceError
from edgewright.sources import _tensorflow
from edgewright.sources._keras_files import ADVICE

if TYPE_CHECKING:
    from edgewright.sources._keras_files import KerasFile

_NAMED = re.compile(
    r"(?:Unknown (?:layer|object|activation function)|Could not (?:locate|find) (?:class|function)):? '?([\w>.]+)"
)
_MOST_UNROLLED = 64
"""Steps of a recurrent layer that become as many copies of its operators."""


@dataclass(frozen=True, slots=True)
class KerasSource:
    """Imports a model saved by Keras 3 or 2, in inference mode; inputs keep their own names and layout (NHWC).

    `run` takes inputs["model"] (the file); it writes `model.onnx` and `import.json`. The file is untrusted: Lambda
    layers, custom objects and anything else that runs code are refused by name. The reference of the comparison is
    the model itself in Keras, on random inputs.

    Attributes:
        opset: 13 to 18.
        samples: Batches to compare on.
        least_snr_db: Smallest signal-to-noise ratio between the Keras model and the import, in dB.
    """

    name: ClassVar[str] = "keras"
    version: ClassVar[int] = 1
    requires: ClassVar[tuple[str, ...]] = _tensorflow.REQUIRES
    toolchain: ClassVar[str] = _tensorflow.TOOLCHAIN

    opset: int = 18
    samples: int = 16
    least_snr_db: float = 60.0

    def run(self, inputs: Mapping[str, Path], out: Path, context: Context) -> None:
        """Imports the file.

        Raises:
            SourceError: No such file, weights alone, a custom object, or something that runs code.
            Corrupt: The file is damaged.
            StepFailed: tf2onnx does not convert it, or the import computes something else.
        """
        from edgewright.sources import _keras_files

        file = _keras_files.examine(inputs["model"])
        _tensorflow.start()
        context.progress(0.2, "looked through")
        function = _function(_load(file), file)
        context.progress(0.3, "read")
        _tensorflow.write_import(function, _tensorflow.Wish(self.opset, self.samples, self.least_snr_db), out, context)


def _load(file: KerasFile) -> Any:
    """Reads the model with the Keras that wrote it; the two differ in what layers take."""
    if file.keras >= 3:
        import keras
    else:
        import tf_keras as keras
    try:
        return keras.models.load_model(file.path, compile=False, safe_mode=True)
    except Exception as error:  # Keras raises many kinds
        text = " ".join(str(error).split())
        named = _NAMED.search(text)
        what = f'a custom object, "{named.group(1)}"' if named else f"{type(error).__name__}: {text[:500]}"
        raise SourceError(f"{file.path}: Keras {keras.__version__} cannot read it: {what}", hint=ADVICE) from error


def _unroll(model: Any) -> None:
    """Writes short GRU and SimpleRNN step after step: tf2onnx would make a loop of them, which few targets take.

    An LSTM it knows, and so it does the GRU of Keras 2.
    """
    for layer in getattr(model, "layers", ()):
        parts = (layer, getattr(layer, "forward_layer", None), getattr(layer, "backward_layer", None))
        for part in parts if 0 < _steps(layer) <= _MOST_UNROLLED else ():
            if type(part).__name__ in ("GRU", "SimpleRNN"):
                setattr(part, "unroll", True)  # noqa: B010 - the type checker knows no Keras layer
        _unroll(layer)


def _steps(layer: Any) -> int:
    """Returns how many steps a recurrent layer takes; 0 where that is not fixed."""
    shape = getattr(getattr(layer, "input", None), "shape", None)
    return int(shape[1] or 0) if shape is not None and len(shape) == 3 else 0


def _function(model: Any, file: KerasFile) -> _tensorflow.Function:
    if not getattr(model, "inputs", None):
        hint = "give the first layer a shape (keras.Input), call the model once, and save it again"
        raise SourceError(f"{file.path}: the model does not say what shape it takes", hint=hint)
    if file.keras >= 3:
        _unroll(model)
    structure = _structure(model)

    def call(*tensors: Any) -> Sequence[Any]:
        import tensorflow as tf

        given = tensors[0] if structure is None else tf.nest.pack_sequence_as(structure, tensors)
        found = model(given, training=False)
        return tf.nest.flatten(found)  # type: ignore[no-any-return]

    inputs = tuple(
        (name, _dtype(tensor), tuple(tensor.shape))
        for name, tensor in zip(_names(model, "input"), model.inputs, strict=True)
    )
    return _tensorflow.Function(
        call=call,
        inputs=inputs,
        outputs=_names(model, "output"),
        label=file.path.name,
        runner=f"the model in Keras {file.keras}",
        kind=KerasSource.name,
    )


def _structure(model: Any) -> Any:
    """Returns the list or dict of tensors that the model is called with; None for one tensor."""
    try:
        found = model.input
    except AttributeError:  # a Sequential of Keras 3 has no such structure
        return None
    return found if isinstance(found, (list, tuple, dict)) else None


def _dtype(tensor: Any) -> str:
    return str(getattr(tensor.dtype, "name", tensor.dtype))


def _names(model: Any, side: str) -> tuple[str, ...]:
    """Returns the names of the layers that take or give each tensor: what the user called them."""
    tensors = model.inputs if side == "input" else model.outputs
    given = getattr(model, f"{side}_names", None)
    names = list(given) if given and len(given) == len(tensors) else [_layer_of(t, side) for t in tensors]
    taken: dict[str, int] = {}
    found = []
    for name in names:
        taken[name] = taken.get(name, -1) + 1
        found.append(f"{name}_{taken[name]}" if taken[name] else name)
    return tuple(found)


def _layer_of(tensor: Any, side: str) -> str:
    history = getattr(tensor, "_keras_history", None)
    operation = getattr(history, "operation", None) or getattr(history, "layer", None)
    return str(getattr(operation, "name", side))


plugin = KerasSource
