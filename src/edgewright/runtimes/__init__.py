"""One Runner per runtime; its framework is imported when an artifact is opened."""
