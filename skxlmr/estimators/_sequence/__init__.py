"""Whole texts, or pairs of texts: features, classes, numbers, labels in words."""
