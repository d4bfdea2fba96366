"""Many files: find them, plan outputs, restore, write, report."""
