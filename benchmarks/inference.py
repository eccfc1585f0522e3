"""Texts to features: XLMRobertaVectorizer, sentence-transformers, transformers, CTranslate2, ONNX Runtime and OpenVINO.

All contenders read the same folder, start from strings (tokenisation is timed) and end with a float32 array of mean-pooled
last hidden states in the order of the rows. Each has a process of its own, and they take turns for some rounds; the best round
counts. Before each round the rate of matrix products is measured, and each contender's share of it is given.
"""

import hashlib
import json
from functools import partial

import numpy as np
from _common import (
    base_folder,
    best_until_settled,
    describe_machine,
    fast_dtypes,
    joined_sentences,
    json_line,
    log_normal_lengths,
    make_parser,
    markdown_table,
    require,
    sample_texts,
    set_threads,
    tweets,
)
from _peers import (
    CTRANSLATE2,
    ENCODERS,
    MAX_LENGTH,
    SENTENCE_TRANSFORMERS,
    convert_once,
    load_tokenizer,
    make_encoders,
    make_transformers,
)
from _rate import MatrixRate, operations, read_config

SETS = ("tweets", "mixed")
DTYPES = ("float32", "bfloat16", "int8")


def load_sets(args, count_tokens):
    """Texts by name."""
    if args.data:
        return {"data": sample_texts(args.rows or 300, args.data)}
    make = {
        "tweets": lambda: tweets(args.rows or 300),
        "mixed": lambda: joined_sentences(log_normal_lengths(args.rows or 60), count_tokens),
    }
    return {name: make[name]() for name in args.sets}


def reference_features(folder, device, texts):
    """Features of transformers in float32, computed once for these texts, weights and versions."""
    import torch
    import transformers

    about = json.dumps([texts, device, torch.__version__, transformers.__version__])

    def compute(target):
        target.mkdir()
        np.save(target / "features.npy", make_transformers(folder, device, "float32")(texts))

    kind = f"reference-{hashlib.sha256(about.encode()).hexdigest()[:12]}"
    return np.load(convert_once(folder, kind, compute) / "features.npy")


def differences(features, reference):
    """Largest absolute difference and smallest cosine over rows."""
    norms = np.linalg.norm(features, axis=1) * np.linalg.norm(reference, axis=1)
    return np.abs(features - reference).max(), ((features * reference).sum(1) / norms).min()


def compare(contenders, texts, rate, rounds):
    """Best seconds and features of each contender; the rate is measured before each round."""
    timed = {name: partial(run, texts) for name, run in contenders.items()}
    some = sorted(texts, key=len)[-len(texts) // 8 :]
    warm_ups = {name: partial(run, some) for name, run in contenders.items()}
    return best_until_settled(timed, rounds, rate.measure, warm_ups=warm_ups)


def ratio(seconds, other):
    """How many times as fast; empty without the other."""
    return f"{other / seconds:.2f}x" if other else ""


def main():
    parser = make_parser(__doc__, data="column text")
    parser.add_argument("--sets", nargs="+", default=SETS, choices=SETS)
    parser.add_argument("--dtypes", nargs="+", choices=DTYPES, help="default: those that the machine is fast at")
    parser.add_argument("--contenders", nargs="+", choices=list(ENCODERS), help="default: all that are installed")
    parser.add_argument("--rows", type=int, help="number of texts (default: 300 tweets, 60 texts of mixed lengths)")
    parser.add_argument("--rounds", type=int, default=5, help="a contender leaves when its two best rounds agree")
    parser.add_argument(
        "--minilm",
        action="store_true",
        help="geometry of paraphrase-multilingual-MiniLM-L12-v2, with the body of BERT, instead of XLM-R-base",
    )
    parser.add_argument("--device", default="cpu", choices=["cpu", "cuda"])
    args = parser.parse_args()
    if args.quick:
        args.rows, args.rounds = 20, 2
    require("transformers")
    set_threads(args.threads)
    args.dtypes = args.dtypes or fast_dtypes(DTYPES, args.device)

    from skxlmr.text import load_tokenizer as load_ours

    folder = str(base_folder(args))
    config, tokenizer = read_config(folder), load_ours(folder)
    sets = load_sets(args, lambda texts: tokenizer.encode_batch(texts).lengths)
    machine = describe_machine(
        args.device, "transformers", "sentence-transformers", "ctranslate2", "onnxruntime", "openvino", "tokenizers"
    )
    print(machine)

    encoded, same, baseline = {}, {}, {}
    for name, texts in sets.items():
        encoded[name] = tokenizer.encode_batch(texts, max_length=MAX_LENGTH)
        lengths = encoded[name].lengths
        theirs = load_tokenizer(folder)(texts, truncation=True, max_length=MAX_LENGTH)["input_ids"]
        # The fast tokenizer of transformers differs from SentencePiece on a few texts, which say nothing about the model.
        same[name] = [i for i in range(len(texts)) if encoded[name].row(i).tolist() == theirs[i]]
        print(
            f"{name}: {len(texts)} texts, {lengths.sum()} tokens (median {np.median(lengths):.0f}, longest "
            f"{lengths.max()}); {len(same[name])} on which both tokenizers agree"
        )

    results, rates = [], {}
    for dtype in [
        dtype for dtype in DTYPES if dtype in args.dtypes
    ]:  # float32 first, with which the others are compared
        contenders = make_encoders(folder, args.device, dtype, args.contenders, apart=True)
        rate = MatrixRate(config, args.device, dtype)
        rate.measure()
        for name, texts in sets.items():
            for run in contenders.values():  # first calls are slower
                run(texts[:8])
            seconds, features = compare(contenders, texts, rate, args.rounds)
            reference = reference_features(folder, args.device, texts)
            if dtype == "float32":
                baseline[name] = seconds.get(SENTENCE_TRANSFORMERS)
            rows = []
            for contender, elapsed in seconds.items():
                difference, cosine = differences(features[contender][same[name]], reference[same[name]])
                n_tokens = encoded[name].lengths.sum()
                share = operations(config, encoded[name].lengths) / elapsed / rate.best if rate.best else float("nan")
                rows.append(
                    (
                        contender,
                        f"{elapsed:.2f}",
                        f"{len(sets[name]) / elapsed:.1f}",
                        f"{n_tokens / elapsed:.0f}",
                        f"{share:.0%}",
                        ratio(elapsed, baseline.get(name)),
                        ratio(elapsed, seconds.get(CTRANSLATE2)),
                        ratio(elapsed, min((t for other, t in seconds.items() if other != contender), default=None)),
                        f"{difference:.1e}",
                        f"{cosine:.6f}",
                    )
                )
                results.append(
                    {
                        "set": name,
                        "dtype": dtype,
                        "contender": contender,
                        "seconds": elapsed,
                        "texts_per_second": len(sets[name]) / elapsed,
                        "tokens_per_second": n_tokens / elapsed,
                        "share_of_rate": share,
                        "max_difference": difference,
                        "min_cosine": cosine,
                    }
                )
            header = (f"{name}, {dtype}", "seconds", "texts/s", "tokens/s", "of the rate", "to ST float32")
            header += (f"to CT2 {dtype}", "to the best other", "max difference", "min cosine")
            print(f"\n{markdown_table(header, rows)}", flush=True)
        rates[dtype] = rate.best
        print(f"\nBest matrix product in {dtype}: {rate.best / 1e9:,.0f} GFLOP/s", flush=True)
        contenders.clear()
    print()
    print(json_line("inference", machine, rates=rates, results=results))


if __name__ == "__main__":
    main()
