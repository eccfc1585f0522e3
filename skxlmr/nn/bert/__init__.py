"""BERT (Devlin et al. 2019) and DistilBERT (Sanh et al. 2019): XLM-R's layers with other embeddings, heads and names."""
