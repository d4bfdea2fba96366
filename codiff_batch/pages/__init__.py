"""Pages for a browser, opened from disk without a network."""
