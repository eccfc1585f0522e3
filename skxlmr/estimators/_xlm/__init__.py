"""The original XLM: features, classes, language models."""
