"""XLM-R's tokenizer: a SentencePiece model and what is read from its file."""
