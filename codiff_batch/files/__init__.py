"""Files on disk, for every room above: which file is which, reading and writing whole, printable names."""
