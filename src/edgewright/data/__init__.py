"""Data sets read from files, streamed, split and checked."""
