"""PyTorch's own file formats, made of a hub model by way of the bridge."""
