"""ONNX tools that passes, sources and targets share."""
