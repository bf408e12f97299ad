"""ONNX to ExecuTorch: `prepare` (graph) -> `steps` (PyTorch, one module per node) -> `lower` (file) -> `proof`."""
