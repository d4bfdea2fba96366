"""Pictures that may once have been JPEGs: PNG, BMP, TIFF and lossless WebP as sources.

They have no quantization tables, so only their pixels tell how they were compressed.
"""
