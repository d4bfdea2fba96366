"""Training code for both stages of the paper and for the compact model that ships with the package."""
