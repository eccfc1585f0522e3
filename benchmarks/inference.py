"""Texts to features: XLMRobertaVectorizer, sentence-transformers and plain transformers.

All contenders read the same folder, start from strings (tokenisation is timed) and end with a float32 array of mean-pooled
last hidden states in the order of the rows. They take turns for some rounds, and the best round counts.
"""

from functools import partial

import numpy as np
from _common import (
    base_folder,
    best_of,
    describe_machine,
    make_parser,
    markdown_table,
    require,
    sample_texts,
    set_threads,
)

BATCH_SIZE = 32
MAX_LENGTH = 512
OURS, SENTENCE_TRANSFORMERS = "skxlmr", "sentence-transformers"
SORTED, UNSORTED = "transformers, sorted", "transformers, unsorted"


def make_skxlmr(folder, device, dtype):
    from skxlmr import XLMRobertaVectorizer

    return XLMRobertaVectorizer(folder, device=device, dtype=dtype, memory=None).fit(["text"]).transform


def make_sentence_transformers(folder, device, dtype):
    import torch
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.sentence_transformer.modules import Pooling, Transformer

    transformer = Transformer(folder, model_kwargs={"dtype": getattr(torch, dtype)}, max_seq_length=MAX_LENGTH)
    pooling = Pooling(transformer.model.config.hidden_size, pooling_mode="mean")
    model = SentenceTransformer(modules=[transformer, pooling], device=device)
    return lambda texts: model.encode(texts, batch_size=BATCH_SIZE, convert_to_numpy=True, show_progress_bar=False)


def make_transformers(folder, device, dtype, by_length):
    import torch
    from transformers import AutoModel, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(folder)
    model = AutoModel.from_pretrained(folder, dtype=getattr(torch, dtype), add_pooling_layer=False).to(device).eval()

    @torch.inference_mode()
    def transform(texts):
        order = sorted(range(len(texts)), key=lambda i: -len(texts[i])) if by_length else range(len(texts))
        features = np.empty((len(texts), model.config.hidden_size), np.float32)
        for start in range(0, len(texts), BATCH_SIZE):
            rows = list(order[start : start + BATCH_SIZE])
            batch = tokenizer(
                [texts[i] for i in rows], padding=True, truncation=True, max_length=MAX_LENGTH, return_tensors="pt"
            ).to(device)
            mask = batch["attention_mask"][:, :, None]
            hidden = model(**batch).last_hidden_state
            features[rows] = ((hidden * mask).sum(1) / mask.sum(1)).float().cpu().numpy()
        return features

    return transform


CONTENDERS = {
    OURS: make_skxlmr,
    SENTENCE_TRANSFORMERS: make_sentence_transformers,
    SORTED: partial(make_transformers, by_length=True),
    UNSORTED: partial(make_transformers, by_length=False),
}


def compare(folder, texts, device, dtype, rounds):
    """Best seconds and features of each contender."""
    contenders = {}
    for name, make in CONTENDERS.items():
        run = make(folder, device, dtype)
        run(texts[:BATCH_SIZE])
        contenders[name] = partial(run, texts)
    return best_of(contenders, rounds)


def differences(features, reference):
    """Largest absolute difference and smallest cosine over rows."""
    norms = np.linalg.norm(features, axis=1) * np.linalg.norm(reference, axis=1)
    return np.abs(features - reference).max(), ((features * reference).sum(1) / norms).min()


def main():
    parser = make_parser(__doc__, data="column text")
    parser.add_argument("--rows", type=int, default=400, help="number of texts")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument(
        "--minilm",
        action="store_true",
        help="geometry of paraphrase-multilingual-MiniLM-L12-v2, with the body of BERT, instead of XLM-R-base",
    )
    parser.add_argument("--device", default="cpu", choices=["cpu", "cuda"])
    parser.add_argument("--dtypes", nargs="+", default=["float32", "bfloat16"], choices=["float32", "bfloat16"])
    args = parser.parse_args()
    if args.quick:
        args.rows, args.rounds = 20, 1
    require("transformers", "sentence_transformers")
    set_threads(args.threads)
    from transformers import AutoTokenizer

    from skxlmr.text import load_tokenizer

    texts, folder = sample_texts(args.rows, args.data), str(base_folder(args))
    encoded = load_tokenizer(folder).encode_batch(texts, max_length=MAX_LENGTH)
    theirs = AutoTokenizer.from_pretrained(folder)(texts, truncation=True, max_length=MAX_LENGTH)["input_ids"]
    # The fast tokenizer of transformers differs from SentencePiece on a few texts, which say nothing about the model.
    same = [i for i in range(len(texts)) if encoded.row(i).tolist() == theirs[i]]
    print(describe_machine(args.device, "transformers", "sentence-transformers", "tokenizers", "sentencepiece"))
    print(
        f"{len(texts)} texts, {encoded.lengths.sum()} tokens (median {np.median(encoded.lengths):.0f}, longest "
        f"{encoded.lengths.max()}), best of {args.rounds}. Differences are from {UNSORTED}, float32, over the {len(same)} "
        "texts on which both tokenizers agree."
    )
    reference = make_transformers(folder, args.device, "float32", by_length=False)(texts)
    for dtype in args.dtypes:
        seconds, features = compare(folder, texts, args.device, dtype, args.rounds)
        rows = []
        for name, elapsed in seconds.items():
            difference, cosine = differences(features[name][same], reference[same])
            rows.append(
                (
                    name,
                    f"{elapsed:.2f}",
                    f"{len(texts) / elapsed:.1f}",
                    f"{encoded.lengths.sum() / elapsed:.0f}",
                    f"{seconds[SENTENCE_TRANSFORMERS] / elapsed:.2f}x",
                    f"{difference:.1e}",
                    f"{cosine:.6f}",
                )
            )
        header = (dtype, "seconds", "texts/s", "tokens/s", "speed-up", "max difference", "min cosine")
        print(f"\n{markdown_table(header, rows)}", flush=True)


if __name__ == "__main__":
    main()
