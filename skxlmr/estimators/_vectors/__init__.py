"""What estimators that make vectors of texts share: their parameters, and how these and a checkpoint decide."""
