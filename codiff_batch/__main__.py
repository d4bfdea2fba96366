"""``python -m codiff_batch``."""

from codiff_batch.cli.program import run

if __name__ == "__main__":
    run()
