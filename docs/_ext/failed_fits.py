"""A script of the gallery with a search in which fits failed is an error: scikit-learn only warns, and goes on without them."""

import warnings

from sklearn.exceptions import FitFailedWarning


def are_errors(gallery_conf, script):
    """Called before each script."""
    warnings.simplefilter("error", FitFailedWarning)
