"""What the GIMP plug-in is made of; needs the standard library and gi alone, as GIMP's Python has nothing else."""
