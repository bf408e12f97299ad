"""File formats we read and write ourselves."""
