"""Training on the bridge: fine-tuning, distillation and quantisation-aware training of ONNX models in PyTorch."""
