"""What the target `tensorrt` is made of: GPUs, the typed model, how to build it, and the proof without a GPU."""
