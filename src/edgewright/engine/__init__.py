"""Finds plugins, runs steps once, in their own process, and keeps what they made."""
