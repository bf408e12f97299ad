"""A hub model to a Core ML package, and what can be proven of the package without macOS."""
