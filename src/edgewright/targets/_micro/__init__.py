"""TensorFlow Lite Micro: which operators have kernels, what a model needs of a board, the code that runs it."""
