"""Torch modules only: estimators, generators and the arithmetic of the one step."""
