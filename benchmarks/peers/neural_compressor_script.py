"""Runs in Neural Compressor's environment: VARIANT MODEL SAMPLES OUT."""

import sys

import numpy as np
import onnx


class Loader:
    """What Neural Compressor reads: batches of (inputs, label)."""

    def __init__(self, arrays):
        self.arrays = arrays
        self.batch_size = 1

    def __iter__(self):
        for index in range(len(next(iter(self.arrays.values())))):
            yield {name: values[index : index + 1] for name, values in self.arrays.items()}, 0


def main():
    variant, model, samples, out = sys.argv[1:]
    from neural_compressor import PostTrainingQuantConfig, quantization

    with np.load(samples) as arrays:
        loader = Loader({name: arrays[name] for name in arrays.files})
    count = len(next(iter(loader.arrays.values())))
    approach = variant.split()[0]
    options = {"approach": approach, "quant_format": "default" if approach == "dynamic" else "QDQ"}
    if approach == "static":
        options |= {"calibration_sampling_size": [count]}
        if variant.endswith("kl"):
            options |= {"op_type_dict": {".*": {"activation": {"algorithm": ["kl"]}}}}
    proto = onnx.load(model)
    proto.ir_version = min(proto.ir_version, 10)  # the newest its onnx knows
    del proto.graph.value_info[:]  # stale shapes make it fail
    made = quantization.fit(proto, PostTrainingQuantConfig(**options), calib_dataloader=loader)
    if made is None:
        raise SystemExit("Neural Compressor returned no model")
    made.save(out)


if __name__ == "__main__":
    main()
