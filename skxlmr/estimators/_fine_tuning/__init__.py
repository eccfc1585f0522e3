"""What every estimator that trains does."""
