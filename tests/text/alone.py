"""What tests of tokenizers run in a process of its own."""

from skxlmr.text import load_tokenizer


def draw(folder, texts, sampling):
    """Print the ids of a drawn segmentation."""
    print(load_tokenizer(folder).encode_batch(texts, sampling=sampling).ids.tolist())
