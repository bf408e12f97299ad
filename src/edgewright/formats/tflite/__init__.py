"""TensorFlow Lite files: our own reader, which trusts nothing in the file, and their translation to ONNX."""
