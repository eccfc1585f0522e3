"""How the cost of features grows: with the number of texts, their length and the number of threads.

- Texts: seconds per text and memory beyond the output for 1,000, 10,000 and 100,000 distinct texts, each in a process of its
  own, with the built-in checkpoint. Memory is what the process grew by at its peak while it encoded, without the output.
- Lengths: tokens per second for texts of 16 to 512 tokens, and threads: tweets with one thread and with two; both with a
  checkpoint of XLM-R-base size, with their share of the rate of matrix products of the same run.
"""

import argparse
import json
import random
import time
from pathlib import Path

from _common import (
    base_folder,
    best_until_settled,
    describe_machine,
    fast_dtypes,
    joined_sentences,
    json_line,
    make_parser,
    markdown_table,
    memory,
    mini_folder,
    run_child,
    sample_texts,
    set_threads,
    tweets,
)
from _peers import make_skxlmr
from _rate import MatrixRate, operations, read_config

PARTS = ("texts", "lengths", "threads")
TOKENS = 8192  # of the texts of each length


def distinct_texts(n, seed=0):
    """Real texts, followed by the same with their words in other orders."""
    rng = random.Random(seed)
    texts = sample_texts(min(n, 20_000), seed=seed)
    made = dict.fromkeys(texts)
    while len(made) < n:
        words = rng.choice(texts).split(" ") + rng.choice(texts).split(" ")
        made[" ".join(rng.sample(words, len(words) // 2 + 1))] = None
    return list(made)[:n]


def reset_peak():
    """Set the peak memory of this process back to what it holds now; says whether that is possible here."""
    try:
        Path("/proc/self/clear_refs").write_text("5")
    except OSError:
        return False
    return True


def measure_texts(folder, n, dtype):
    """Seconds, and MiB beyond the output, of one transform."""
    encode = make_skxlmr(str(folder), "cpu", dtype)
    texts = distinct_texts(n)
    encode(texts[: min(n, 500)])
    can_reset, before = reset_peak(), memory("VmRSS")
    start = time.perf_counter()
    features = encode(texts)
    seconds = time.perf_counter() - start
    grown = memory("VmHWM") - before
    return {
        "texts": n,
        "seconds": seconds,
        "output_mib": features.nbytes / 2**20,
        "beyond_mib": grown - features.nbytes / 2**20 if can_reset else float("nan"),
    }


def scale_texts(args):
    """Table and results for growing numbers of texts."""
    results = []
    folder = args.folder or mini_folder()
    for n in args.texts:
        options = [f"--child={n}", f"--folder={folder}", f"--dtypes={args.dtypes[0]}"]
        options += [f"--threads={args.threads}"] if args.threads else []
        results.append(run_child(__file__, options))
    rows = [
        (
            f"{r['texts']:,}",
            f"{r['seconds']:.2f}",
            f"{1e6 * r['seconds'] / r['texts']:.0f}",
            f"{r['output_mib']:.0f}",
            f"{r['beyond_mib']:.0f}",
        )
        for r in results
    ]
    header = (f"texts, {folder.name}, {args.dtypes[0]}", "seconds", "µs per text", "output, MiB", "beyond it, MiB")
    print(f"\n{markdown_table(header, rows)}", flush=True)
    return results


def measured(encode, sets, config, counts, rate, rounds):
    """Tokens per second and share of the rate, for each set of texts."""
    runs = {name: (lambda texts=texts: encode(texts)) for name, texts in sets.items()}
    for run in runs.values():
        run()
    seconds, _ = best_until_settled(runs, rounds, rate.measure)
    return {
        name: {
            "tokens_per_second": counts[name].sum() / taken,
            "share_of_rate": operations(config, counts[name]) / taken / rate.best,
        }
        for name, taken in seconds.items()
    }


def scale_lengths(args, folder, count):
    """Table and results for growing lengths."""
    config, results = read_config(folder), []
    tokens = TOKENS // 8 if args.quick else TOKENS
    sets = {n: joined_sentences([n] * max(2, tokens // n), count, seed=n) for n in args.lengths}
    counts = {n: count(texts) for n, texts in sets.items()}
    for dtype in args.dtypes:
        rate = MatrixRate(config, "cpu", dtype)
        found = measured(make_skxlmr(folder, "cpu", dtype), sets, config, counts, rate, args.rounds)
        results += [{"dtype": dtype, "tokens": n, **row} for n, row in found.items()]
    header = (
        "tokens of a text",
        *(f"{dtype}, {what}" for dtype in args.dtypes for what in ("tokens/s", "of the rate")),
    )
    print(f"\n{markdown_table(header, side_by_side(args.lengths, 'tokens', results))}", flush=True)
    return results


def scale_threads(args, folder, count):
    """Table and results for numbers of threads."""
    import torch

    config, results, before = read_config(folder), [], torch.get_num_threads()
    texts = tweets(20 if args.quick else 150)
    for threads in args.thread_counts:
        torch.set_num_threads(threads)
        for dtype in args.dtypes:
            rate = MatrixRate(config, "cpu", dtype)
            encode = make_skxlmr(folder, "cpu", dtype)
            found = measured(encode, {0: texts}, config, {0: count(texts)}, rate, args.rounds)
            results.append({"dtype": dtype, "threads": threads, "rate": rate.best, **found[0]})
    torch.set_num_threads(before)
    header = ("threads, tweets", *(f"{dtype}, {what}" for dtype in args.dtypes for what in ("tokens/s", "of the rate")))
    print(f"\n{markdown_table(header, side_by_side(args.thread_counts, 'threads', results))}", flush=True)
    return results


def side_by_side(values, key, results):
    """A row for each value, with two cells for each dtype."""
    rows = []
    for value in values:
        cells = [r for r in results if r[key] == value]
        rows.append(
            (value, *(c for r in cells for c in (f"{r['tokens_per_second']:.0f}", f"{r['share_of_rate']:.0%}")))
        )
    return rows


def main():
    parser = make_parser(__doc__, data="")
    parser.add_argument("--parts", nargs="+", default=PARTS, choices=PARTS)
    parser.add_argument("--texts", nargs="+", type=int, default=[1_000, 10_000, 100_000])
    parser.add_argument("--lengths", nargs="+", type=int, default=[16, 32, 64, 128, 256, 512])
    parser.add_argument("--thread-counts", nargs="+", type=int, default=[1, 2])
    parser.add_argument(
        "--dtypes",
        nargs="+",
        help="the first also for the texts (default: float32, and bfloat16 if the machine is fast at it)",
    )
    parser.add_argument("--rounds", type=int, default=4, help="a set of texts leaves when its two best rounds agree")
    parser.add_argument("--child", type=int, help=argparse.SUPPRESS)
    args = parser.parse_args()
    set_threads(args.threads)
    if args.child:
        print(json.dumps(measure_texts(args.folder, args.child, args.dtypes[0])))
        return
    args.dtypes = args.dtypes or fast_dtypes(["float32", "bfloat16"])
    if args.quick:
        args.texts, args.lengths, args.rounds = [100, 1000], [16, 128], 1
    machine = describe_machine("cpu")
    print(machine, flush=True)
    results = {"texts": scale_texts(args)} if "texts" in args.parts else {}
    if set(args.parts) & {"lengths", "threads"}:
        from skxlmr.text import load_tokenizer

        folder = str(base_folder(args))
        tokenizer = load_tokenizer(folder)

        def count(texts):
            return tokenizer.encode_batch(texts).lengths

        if "lengths" in args.parts:
            results["lengths"] = scale_lengths(args, folder, count)
        if "threads" in args.parts:
            results["threads"] = scale_threads(args, folder, count)
    print()
    print(json_line("scaling", machine, **results))


if __name__ == "__main__":
    main()
