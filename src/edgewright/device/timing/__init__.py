"""Timing an artifact where it runs: fresh processes taken in turn, an exclusive lease, the state of the device."""
