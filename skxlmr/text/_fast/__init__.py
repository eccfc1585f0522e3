"""Tokenizers that the `tokenizers` package runs, and the checks of their files."""
