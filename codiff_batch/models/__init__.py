"""What can be loaded and from where: model cards, the catalogue, and weights."""
