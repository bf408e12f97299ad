"""One module per target: hub model in, artifact with proven placement out."""
