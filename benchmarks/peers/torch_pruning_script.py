"""Prunes the example's ResNet-20 with Torch-Pruning until its multiply-accumulates are a given share.

Usage: torch_pruning_script.py EXAMPLE_FOLDER OUT.onnx SHARE_OF_MACS
"""

from __future__ import annotations

import sys
from pathlib import Path

import torch
import torch_pruning as tp


def main() -> None:
    example, out, share = Path(sys.argv[1]), Path(sys.argv[2]), float(sys.argv[3])
    sys.path.insert(0, str(example))
    import network as networks
    from safetensors.torch import load_file

    torch.manual_seed(0)
    network = networks.resnet20()
    network.load_state_dict(load_file(example / "work" / "resnet20.safetensors"))
    network.eval()
    image = torch.randn(1, 1, 28, 28)
    pruner = tp.pruner.MetaPruner(
        network,
        image,
        importance=tp.importance.GroupMagnitudeImportance(),
        global_pruning=True,
        pruning_ratio=1.0,
        max_pruning_ratio=0.9,
        iterative_steps=200,
        round_to=8,
        ignored_layers=[network.head],
    )
    whole, _ = tp.utils.count_ops_and_params(network, image)
    for _ in range(200):
        if tp.utils.count_ops_and_params(network, image)[0] <= share * whole:
            break
        pruner.step()
    macs, parameters = tp.utils.count_ops_and_params(network, image)
    print(f"MACs {macs / whole:.3f}, {parameters:.0f} weights")
    program = torch.onnx.export(
        network,
        (image,),
        input_names=["image"],
        output_names=["logits"],
        dynamo=True,
        optimize=False,  # anything else folds batch norm, and the peer would train without it
        verbose=False,
        dynamic_shapes=({0: torch.export.Dim("batch")},),
    )
    program.save(str(out))


if __name__ == "__main__":
    main()
