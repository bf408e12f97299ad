"""Values and Protocols only: no I/O, no framework, nothing that has an effect."""
