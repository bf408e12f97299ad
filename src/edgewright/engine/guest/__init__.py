"""What starts in the interpreter of another environment; the standard library alone is sure to be there."""
