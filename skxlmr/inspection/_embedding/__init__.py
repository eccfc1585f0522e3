"""Vectors of texts as points on a map."""
