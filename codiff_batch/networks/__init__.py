"""Torch modules and nothing else: estimators, generators and the arithmetic of the one step."""
