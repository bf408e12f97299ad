"""Structured pruning: which channels depend on one another, which to remove, and their removal from the graph."""
