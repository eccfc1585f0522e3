"""The tokenizer of the original XLM: Moses and byte-pair encoding."""
