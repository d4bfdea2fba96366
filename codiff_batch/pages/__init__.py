"""Pages to look at in a browser, from disk, with no network."""
