"""Hyper-parameters of recipes, found by trying: what may vary, how trials are judged, workers that share a study."""
