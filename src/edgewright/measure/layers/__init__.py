"""Inner tensors of two models on the same samples, through their real runtimes: taken, matched, compared."""
