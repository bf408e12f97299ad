"""One file per group of verbs; each parses, calls one function and renders."""
