"""Search with int8 and binary vectors: recall against exact search with float32 vectors, and bytes for each vector.

Documents and queries are real texts in many languages. Recall@10 is the share of the ten best documents of exact search (dot
products of float32 vectors of unit length) that the smaller vectors find too; a document as good as the tenth best counts, as
texts of unknown characters can have the same vector. It says what quantising loses, not how good the encoder is. The recipe is
that of docs/using_features.md. Ranges and means come from the documents, not from the queries.
"""

import numpy as np
from _common import describe_machine, make_parser, markdown_table, sample_texts, set_threads

TOP = 10


def int8_codes(vectors_ND):
    """Codes of vectors, and the step and the start of the range of each dimension."""
    low_D, high_D = vectors_ND.min(0), vectors_ND.max(0)
    step_D = np.maximum((high_D - low_D) / 255, np.finfo(np.float32).tiny)
    return (np.round((vectors_ND - low_D) / step_D) - 128).astype(np.int8), step_D, low_D


def sign_bits(vectors_ND, middle_D):
    """A bit for each dimension, eight in a byte: whether the value is above the middle."""
    return np.packbits(vectors_ND > middle_D, axis=1)


def hamming(bits_MB, bits_NB):
    """Number of bits that differ, (n_queries, n_documents)."""
    return np.stack([np.bitwise_count(bits_NB ^ bits_B).sum(1, dtype=np.int32) for bits_B in bits_MB])


def best(scores_MN, k):
    """Numbers of the k best documents of each query."""
    return np.argpartition(-scores_MN, k - 1, axis=1)[:, :k]


def rescored(candidates_MK, queries_MD, vectors_ND):
    """The best of the candidates by dot products with other vectors."""
    scores_MK = np.einsum("mkd,md->mk", vectors_ND[candidates_MK], queries_MD)
    return np.take_along_axis(candidates_MK, best(scores_MK, TOP), axis=1)


def recall(found_MK, scores_MN):
    """Share of the found documents that are among the best by exact scores, in percent; equally good ones count too."""
    tenth_best_M = np.partition(scores_MN, -TOP, axis=1)[:, -TOP]
    return 100 * np.mean(np.take_along_axis(scores_MN, found_MK, axis=1) > tenth_best_M[:, None] - 1e-6)


def measure(documents_ND, queries_MD):
    """Rows of the table: method, bytes in memory for each vector, recall."""
    n_features = documents_ND.shape[1]
    exact_MN = queries_MD @ documents_ND.T
    codes, step_D, low_D = int8_codes(documents_ND)
    decoded_ND = (codes + np.float32(128)) * step_D + low_D
    by_codes = queries_MD * step_D @ codes.astype(np.float32).T
    around = {"signs": np.zeros(n_features), "bits": documents_ND.mean(0)}
    distances = {
        name: hamming(sign_bits(queries_MD, middle), sign_bits(documents_ND, middle)) for name, middle in around.items()
    }
    by_bits = -distances["bits"]
    n_bits = n_features // 8
    found = {
        ("float32", 4 * n_features): best(exact_MN, TOP),
        ("int8", n_features): best(by_codes, TOP),
        ("int8, best 40 by float32 on disk", n_features): rescored(best(by_codes, 40), queries_MD, documents_ND),
        ("bits: above zero", n_bits): best(-distances["signs"], TOP),
        ("bits: above the mean", n_bits): best(by_bits, TOP),
        **{
            (f"bits, best {k} by int8", n_bits + n_features): rescored(best(by_bits, k), queries_MD, decoded_ND)
            for k in (40, 100, 300)
        },
        ("bits, best 300 by float32 on disk", n_bits): rescored(best(by_bits, 300), queries_MD, documents_ND),
    }
    return [(*row, recall(numbers, exact_MN)) for row, numbers in found.items()]


def main():
    parser = make_parser(__doc__, data='"text"', checkpoint=False)
    parser.add_argument("--checkpoint", default="skxlmr-mini", help="what makes the vectors (default: skxlmr-mini)")
    parser.add_argument("--texts", type=int, default=100_000, help="most texts (default: all)")
    parser.add_argument("--queries", type=int, default=1000, help="how many of them are queries (default: 1000)")
    args = parser.parse_args()
    set_threads(args.threads)
    from skxlmr import XLMRobertaVectorizer

    n_texts, n_queries = (1000, 50) if args.quick else (args.texts, args.queries)
    texts = sample_texts(n_texts, args.data)
    print(describe_machine("cpu", "numpy"))
    print(f"{len(texts) - n_queries} documents, {n_queries} queries, {args.checkpoint}\n")
    for layers in (-1, [1, 2, 3, 4]) if args.checkpoint == "skxlmr-mini" else (-1,):
        vectorizer = XLMRobertaVectorizer(args.checkpoint, layers=layers, normalize=True, device="cpu", memory=None)
        vectors_ND = vectorizer.fit_transform(texts)
        table = measure(vectors_ND[n_queries:], vectors_ND[:n_queries])
        print(f"{vectors_ND.shape[1]} features\n")
        rows = [(name, size, f"{found:.1f}") for name, size, found in table]
        print(markdown_table(("vectors", "bytes", f"recall@{TOP}"), rows), "\n")


if __name__ == "__main__":
    main()
