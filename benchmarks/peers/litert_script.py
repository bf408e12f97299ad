"""litert-torch and ai-edge-quantizer, run by their own interpreter.

litert_script.py convert NETWORK OUT.tflite
litert_script.py quantise FLOAT.tflite SAMPLES.npz OUT.tflite
"""

from __future__ import annotations

import sys


def convert(network: str, out: str) -> None:
    """Float, as its documentation shows it."""
    import litert_networks
    import litert_torch

    litert_torch.convert(litert_networks.build(network), (litert_networks.example(),)).export(out)


def quantise(source: str, samples: str, out: str) -> None:
    """Static INT8 by its own recipe, calibrated on the samples given."""
    import numpy as np
    from ai_edge_quantizer import quantizer, recipe

    made = quantizer.Quantizer(source)
    made.load_quantization_recipe(recipe.static_wi8_ai8())
    images = np.load(samples)["images"]
    name = _input_name(source)
    shape = _input_shape(source)
    data = {"serving_default": [{name: _fitted(image[None], shape)} for image in images]}
    made.quantize(made.calibrate(data)).export_model(out, overwrite=True)


def _fitted(image, shape):  # type: ignore[no-untyped-def]
    return image if image.shape == shape else image.transpose(0, 2, 3, 1)


def _signature(source):  # type: ignore[no-untyped-def]
    from ai_edge_litert.interpreter import Interpreter

    return Interpreter(model_path=source).get_signature_runner()


def _input_name(source: str) -> str:
    return str(next(iter(_signature(source).get_input_details())))


def _input_shape(source: str) -> tuple[int, ...]:
    details = _signature(source).get_input_details()
    return tuple(int(n) for n in next(iter(details.values()))["shape"])


if __name__ == "__main__":
    {"convert": convert, "quantise": quantise}[sys.argv[1]](*sys.argv[2:])
