"""Language models: masked and causal."""
