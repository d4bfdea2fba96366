"""Puts the GIMP plug-in where GIMP looks for it, and finds out why it does not work."""
