"""Edgewright: from a trained model to a proven, packed, running artifact."""

__version__ = "0.1.0"
