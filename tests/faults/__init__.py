"""Faults to inject into the real program: memory that runs out, signals and deaths at chosen places."""
