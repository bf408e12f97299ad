"""Public fakes at the real seams and the conformance suites."""
