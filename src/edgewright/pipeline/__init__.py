"""Declarative pre- and post-processing: the same code on the builder and on the device."""
