"""The original XLM (Lample & Conneau 2019, arXiv:1901.07291): encoder and task models."""
