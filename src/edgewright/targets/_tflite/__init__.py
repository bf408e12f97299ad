"""The compiler from ONNX to TensorFlow Lite files: lower, solve the layout, emit, write."""
