"""The engine as a separate process, for host programs whose Python has no torch: requests, and pictures in files."""
