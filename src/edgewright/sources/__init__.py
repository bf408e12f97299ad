"""One module per kind of trained model: each turns it into the hub format."""
