"""What every estimator does: read texts, open the checkpoint, train, predict, pickle."""
