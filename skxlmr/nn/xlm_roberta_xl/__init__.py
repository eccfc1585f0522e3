"""XLM-RoBERTa-XL (Goyal et al. 2021, arXiv:2105.00572): layer norms before each half of a layer, and one after the last."""
