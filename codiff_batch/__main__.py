"""``python -m codiff_batch``."""

from codiff_batch.cli.main import main

if __name__ == "__main__":
    main(prog_name="codiff-batch")
