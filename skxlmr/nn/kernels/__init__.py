"""Kernels of the dense layers: which one runs, and weights in the form that it wants."""
