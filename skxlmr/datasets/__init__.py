"""Small tables that ship with the package, for examples."""

from skxlmr.datasets._reviews import load_reviews

__all__ = ["load_reviews"]
