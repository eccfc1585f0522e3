"""XLM-R's tokenizer in skxlmr, the tokenizers package and transformers: texts and tokens per second, and a 10 MB string.

Each contender encodes the same real texts in one call, in its own process, which may use one processor or all of them. The
best of some rounds counts. The 10 MB string is truncated to 512 tokens. Memory is the growth of the process's peak during that
call.
"""

import argparse
import json
import os
import time

from _common import (
    base_folder,
    describe_machine,
    make_parser,
    markdown_table,
    memory,
    require,
    run_child,
    sample_texts,
)

MAX_LENGTH = 512
HUGE_BYTES = 10_000_000


def open_skxlmr(folder):
    from skxlmr.text import load_tokenizer

    tokenizer = load_tokenizer(folder)
    return lambda texts: tokenizer.encode_batch(texts, max_length=MAX_LENGTH).ids


def open_skxlmr_fast(folder):
    from skxlmr.text import FastTokenizer

    tokenizer = FastTokenizer.from_file(os.path.join(folder, "tokenizer.json"))
    return lambda texts: tokenizer.encode_batch(texts, max_length=MAX_LENGTH).ids


def open_tokenizers(folder):
    from tokenizers import Tokenizer

    tokenizer = Tokenizer.from_file(os.path.join(folder, "tokenizer.json"))
    tokenizer.enable_truncation(MAX_LENGTH)
    return lambda texts: [i for encoding in tokenizer.encode_batch_fast(texts) for i in encoding.ids]


def open_transformers(folder):
    from transformers import XLMRobertaTokenizerFast

    tokenizer = XLMRobertaTokenizerFast.from_pretrained(folder)
    return lambda texts: [i for row in tokenizer(texts, truncation=True, max_length=MAX_LENGTH).input_ids for i in row]


CONTENDERS = {
    "skxlmr": open_skxlmr,
    "tokenizers": open_tokenizers,
    "transformers": open_transformers,
    "skxlmr, tokenizer.json": open_skxlmr_fast,
}


def measure(contender, folder, texts, rounds):
    """Best seconds for all texts, and their number of tokens; seconds and growth of the peak in MiB for a huge string."""
    encode = CONTENDERS[contender](folder)
    best, ids = float("inf"), []
    for _ in range(rounds):
        start = time.perf_counter()
        ids = encode(texts)
        best = min(best, time.perf_counter() - start)
    huge = " ".join(texts)
    huge = huge * (HUGE_BYTES // len(huge) + 1)
    huge = huge.encode()[:HUGE_BYTES].decode(errors="ignore")
    before, start = memory("VmHWM"), time.perf_counter()
    n_huge = len(encode([huge]))
    seconds = time.perf_counter() - start
    return {"texts": best, "tokens": len(ids), "huge": seconds, "huge_mib": memory("VmHWM") - before, "n_huge": n_huge}


def main():
    parser = make_parser(__doc__, data="column text")
    parser.add_argument("--texts", type=int, default=20_000)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--contender", choices=CONTENDERS, help=argparse.SUPPRESS)
    args = parser.parse_args()
    require("transformers")
    n_texts, rounds = (200, 1) if args.quick else (args.texts, args.rounds)
    if args.contender:
        if args.threads and hasattr(os, "sched_setaffinity"):
            os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[: args.threads])
        os.environ |= {"TOKENIZERS_PARALLELISM": "true"} | (
            {"RAYON_NUM_THREADS": str(args.threads)} if args.threads else {}
        )
        print(json.dumps(measure(args.contender, str(args.folder), sample_texts(n_texts, args.data), rounds)))
        return
    folder = str(base_folder(args))
    options = ["--folder", folder, "--texts", str(args.texts), "--rounds", str(args.rounds)]
    options += (["--quick"] if args.quick else []) + (["--data", str(args.data)] if args.data else [])
    n_all = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    print(describe_machine("cpu", "sentencepiece", "tokenizers", "transformers"))
    for threads in sorted({1, args.threads or n_all}):
        rows = []
        for name in CONTENDERS:
            result = run_child(__file__, ["--contender", name, "--threads", str(threads), *options])
            rows.append(
                (
                    name,
                    f"{n_texts / result['texts']:,.0f}",
                    f"{result['tokens'] / result['texts']:,.0f}",
                    f"{result['huge']:.2f}",
                    f"{result['huge_mib']:.0f}",
                )
            )
        header = (f"{threads} thread{'s' * (threads > 1)}", "texts/s", "tokens/s", "10 MB string, s", "memory, MiB")
        print(f"\n{markdown_table(header, rows)}")


if __name__ == "__main__":
    main()
