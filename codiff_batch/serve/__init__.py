"""The engine as a process of its own, for host programs whose Python has no torch: requests in, pictures in files."""
