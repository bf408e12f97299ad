"""What runs on the device: sources and the loop from frame to decision."""
