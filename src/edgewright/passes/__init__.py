"""One module per pass: hub model in, hub model out."""
