"""Quality, latency, memory and energy of real artifacts."""
