"""TensorFlow Lite Micro: which operators it has kernels for, what a model needs of a board, and the code that runs it."""
