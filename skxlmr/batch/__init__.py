"""Tables through a saved estimator, batch by batch, in whatever process each batch is."""

from skxlmr.batch._predictor import BatchPredictor

__all__ = ["BatchPredictor"]
