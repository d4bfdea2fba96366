"""One output format per file: ``name.py`` defines ``NAME``, an :class:`~codiff_batch.formats.output.OutputFormat`."""
