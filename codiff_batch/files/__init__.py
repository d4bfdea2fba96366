"""Files on disk, for all other packages: which file is which, reading and writing whole files, printable names."""
