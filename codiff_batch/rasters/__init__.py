"""Pictures that may have been JPEGs once: PNG, BMP, TIFF and lossless WebP as sources.

They keep no tables, so that their pixels alone tell what was done to them.
"""
