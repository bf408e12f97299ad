"""Blobs by digest and the action cache: the one folder where results are kept."""
