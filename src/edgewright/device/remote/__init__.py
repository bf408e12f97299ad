"""What runs on a device for somebody else: files by their digest, detached jobs, and who answers for both."""
