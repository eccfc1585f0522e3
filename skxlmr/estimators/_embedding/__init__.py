"""Vectors of texts, trained on classes, pairs, similarities or the vectors of a teacher."""
