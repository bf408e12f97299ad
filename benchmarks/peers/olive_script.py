"""Runs in Olive's environment: VARIANT MODEL SAMPLES OUT."""

import shutil
import sys
import tempfile
from pathlib import Path

import numpy as np


class Samples:
    """A data set of (inputs, label), one sample at a time."""

    def __init__(self, arrays):
        self.arrays = arrays

    def __len__(self):
        return len(next(iter(self.arrays.values())))

    def __getitem__(self, index):
        return {name: values[index] for name, values in self.arrays.items()}, 0


def main():
    variant, model, samples, out = sys.argv[1:]
    from olive.data.config import DataComponentConfig, DataConfig
    from olive.data.registry import Registry
    from olive.hardware import AcceleratorSpec
    from olive.model import ONNXModelHandler
    from olive.passes.olive_pass import create_pass_from_dict
    from olive.passes.onnx.quantization import OnnxDynamicQuantization, OnnxStaticQuantization

    @Registry.register_dataset("edgewright_samples")
    def _load(**kwargs):
        with np.load(samples) as arrays:
            return Samples({name: arrays[name] for name in arrays.files})

    data = DataConfig(
        name="calibration",
        load_dataset_config=DataComponentConfig(type="edgewright_samples"),
        pre_process_data_config=DataComponentConfig(type="skip_pre_process"),
        post_process_data_config=DataComponentConfig(type="skip_post_process"),
        dataloader_config=DataComponentConfig(type="default_dataloader", params={"batch_size": 1}),
    )
    if variant == "dynamic":
        kind, config = OnnxDynamicQuantization, {"precision": "int8", "per_channel": True}
    else:
        method = variant.split()[-1]
        config = {"data_config": data, "calibrate_method": method, "quant_format": "QDQ", "per_channel": True}
        config |= {"precision": "int8", "activation_type": "uint8"}
        kind = OnnxStaticQuantization
    accelerator = AcceleratorSpec(accelerator_type="cpu", execution_provider="CPUExecutionProvider")
    with tempfile.TemporaryDirectory() as folder:
        made = create_pass_from_dict(kind, config, disable_search=True, accelerator_spec=accelerator).run(
            ONNXModelHandler(model_path=model), str(Path(folder) / "out")
        )
        shutil.copy(made.model_path, out)


if __name__ == "__main__":
    main()
