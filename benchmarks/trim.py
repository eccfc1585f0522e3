"""A checkpoint of XLM-R-base size with the vocabulary of three languages: bytes, equality, other texts, and vocabtrimmer.

Nine tenths of the texts of each language make the corpus; the others show what a trimmed checkpoint does with texts that nobody
foresaw. Equality is that of all texts of the corpus for the ids, and of some of them for the vectors; a fine-tuning with
dropout takes the same steps with both checkpoints. Memory is what the process holds itself at its peak, not the mapped file.

The peer runs in an interpreter of its own, ``--peer PYTHON``, since it needs an earlier version of transformers.
"""

import argparse
import gc
import json
import os
import random
import shutil
import subprocess
import sys
import tempfile
import threading
import time
import warnings
from collections import defaultdict
from pathlib import Path

from _common import (
    base_folder,
    data_file,
    describe_machine,
    json_line,
    make_parser,
    markdown_table,
    memory,
    read_rows,
    run_child,
    set_threads,
)

FILES = {
    "seqclass/sib200_topics.jsonl": ("text",),
    "seqclass/xlmt_sentiment.jsonl": ("text",),
    "seqclass/xed_emotions_multilabel.jsonl": ("text",),
    "pairreg/stsb_multi_mt.jsonl": ("text_a", "text_b"),
    "rawtext/tatoeba_pairs.jsonl": ("text",),
    "rawtext/flores_sib200.jsonl": ("text",),
    "rawtext/udhr.jsonl": ("text",),
    "qa/xquad.jsonl": ("context",),
}
PEER = Path(__file__).with_name("_vocabtrimmer.py")


def texts_of(languages, data=None):
    """Distinct texts of each language, in random order."""
    rows = read_rows(data, "lang", "text") if data else []
    found = defaultdict(set)
    for row in rows:
        found[row["lang"]].add(row["text"])
    for name, columns in {} if data else FILES.items():
        for row in read_rows(data_file(name)):
            found[row["lang"]].update(row[column] for column in columns if row.get(column))
    missing = [language for language in languages if not found[language]]
    if missing:
        sys.exit(f"no texts in {', '.join(missing)}")
    rng = random.Random(0)
    return {language: rng.sample(sorted(found[language]), len(found[language])) for language in languages}


def divided(texts):
    """The corpus, and the texts that it does not hold."""
    corpus = {language: each[len(each) // 10 :] for language, each in texts.items()}
    return corpus, {language: each[: len(each) // 10] for language, each in texts.items()}


class Peak:
    """The most memory that the process held itself while this ran, in MiB above what it held before."""

    def __enter__(self):
        gc.collect()
        self.before = self.most = memory("RssAnon")
        self.ended = threading.Event()
        self.watcher = threading.Thread(target=self.watch, daemon=True)
        self.watcher.start()
        return self

    def watch(self):
        while not self.ended.wait(0.01):
            self.most = max(self.most, memory("RssAnon"))

    def __exit__(self, *error):
        self.ended.set()
        self.watcher.join()
        self.mib = self.most - self.before


def trimmed(folder, target, corpus, **options):
    """Trim in this process; bytes, rows, seconds and memory."""
    from skxlmr import trim_vocabulary

    start = time.perf_counter()
    with Peak() as peak:
        report = trim_vocabulary(folder, corpus, target, **options)
    print(report, file=sys.stderr)
    return report, {"seconds": time.perf_counter() - start, "mib": peak.mib}


def unforeseen(report, folder, others):
    """Of texts that the corpus does not hold: shares that read as before, tokens there are more of, unknown tokens."""
    from skxlmr.text import load_tokenizer

    before, after = load_tokenizer(folder), load_tokenizer(report.folder)
    results = {}
    for language, texts in others.items():
        old, new = before.encode_batch(texts), after.encode_batch(texts)
        same = [report.old_ids[new.row(i)].tolist() == old.row(i).tolist() for i in range(len(texts))]
        unknown = [
            int((each.ids == each_tokenizer.unk_token_id).sum())
            for each, each_tokenizer in ((old, before), (new, after))
        ]
        results[language] = {
            "texts": len(texts),
            "identical": sum(same) / len(texts),
            "longer": len(new.ids) / len(old.ids) - 1,
            "unknown": unknown,
        }
    return results


def equality(report, folder, corpus, n):
    """Vectors of some texts, and the steps of a short fine-tuning."""
    import numpy as np

    from skxlmr import XLMRobertaClassifier, XLMRobertaVectorizer

    texts = [text for each in corpus.values() for text in each[:n]]
    labels = [language for language, each in corpus.items() for _ in each[:n]]
    expected, found = (XLMRobertaVectorizer(each, dtype="float32").transform(texts) for each in (folder, report.folder))
    fits = []
    for each in (folder, report.folder):
        fit = XLMRobertaClassifier(each, max_epochs=2, batch_size=8, dtype="float32", random_state=0)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # random weights learn little from few texts
            fits.append(fit.set_params(learning_rate=2e-5).fit(texts, labels))
    curves = [fit.loss_curve_ for fit in fits]
    probabilities = [fit.predict_proba(texts) for fit in fits]
    return {
        "texts": len(texts),
        "vectors_differ": int((expected != found).any(axis=1).sum()),
        "losses": curves[0],
        "losses_differ": float(np.abs(np.subtract(*curves)).max()),
        "probabilities_differ": float(np.abs(np.subtract(*probabilities)).max()),
    }


def peer(python, folder, corpus, place):
    """What vocabtrimmer makes of the same corpus, and whether the corpus reads as before with it."""
    (place / "corpus").mkdir(parents=True)
    with (place / "corpus" / "train.jsonl").open("w", encoding="utf-8") as file:
        for texts in corpus.values():
            file.writelines(json.dumps({"text": text}) + "\n" for text in texts)
    source = place / "source"
    shutil.copytree(folder, source, copy_function=os.symlink)
    config = json.loads((source / "config.json").read_text())
    (source / "config.json").unlink()
    (source / "config.json").write_text(json.dumps({**config, "architectures": ["XLMRobertaForMaskedLM"]}))
    start = time.perf_counter()
    command = [python, str(PEER), str(source), str(place / "corpus"), str(place / "peer")]
    done = subprocess.run(
        command, capture_output=True, text=True, check=False, env={**os.environ, "HF_HUB_OFFLINE": "1"}
    )
    if done.returncode:
        print(f"vocabtrimmer does not run there: {done.stderr.strip().splitlines()[-1]}", file=sys.stderr)
        return None
    return json.loads(done.stdout.splitlines()[-1]) | {"seconds": time.perf_counter() - start}


def mebibytes(n):
    return f"{n / 2**20:,.0f}"


def main():
    parser = make_parser(__doc__, data="columns lang, text")
    parser.add_argument("--languages", nargs="+", default=["de", "en", "zh"])
    parser.add_argument(
        "--rows", type=int, default=16, help="texts of each language whose vectors and fits are compared"
    )
    parser.add_argument("--peer", metavar="PYTHON", help="an interpreter that has vocabtrimmer and transformers 4")
    parser.add_argument("--out", type=Path, help="keep what is written in this folder")
    parser.add_argument("--child", type=Path, help=argparse.SUPPRESS)
    args = parser.parse_args()
    set_threads(args.threads)
    corpus, others = divided(texts_of(args.languages, args.data))
    if args.quick:
        corpus, others = ({k: v[:200] for k, v in each.items()} for each in (corpus, others))
    folder = base_folder(args)
    if args.child:  # in a process of its own, for the memory
        report, cost = trimmed(folder, args.child, corpus)
        print(json.dumps(cost | {"rows": report.n_rows_after}))
        return
    print(describe_machine("cpu", "sentencepiece", "tokenizers"))
    place = Path(args.out or tempfile.mkdtemp(prefix="skxlmr-trim-"))
    try:
        options = ["--folder", str(folder), "--languages", *args.languages]
        options += (["--quick"] if args.quick else []) + (["--data", str(args.data)] if args.data else [])
        cost = run_child(__file__, ["--child", str(place / "measured"), *options])
        reports = {
            "all that is used, and characters": trimmed(folder, place / "trimmed", corpus)[0],
            "min_count=3": trimmed(folder, place / "min_count", corpus, min_count=3)[0],
            "keep='used'": trimmed(folder, place / "used", corpus, keep="used")[0],
        }
        rows, results = [], {}
        for name, report in reports.items():
            of_others = unforeseen(report, folder, others)
            results[name] = {"rows": report.n_rows_after, "bytes": report.n_bytes_after, "others": of_others}
            n = sum(each["texts"] for each in of_others.values())
            identical = sum(each.n_identical for each in report.coverage.values())
            n_corpus = sum(each.n_texts for each in report.coverage.values())
            rows.append(
                (
                    name,
                    f"{report.n_rows_after:,}",
                    mebibytes(report.n_bytes_after),
                    f"{report.n_bytes_after / report.n_bytes_before:.1%}",
                    f"{identical / n_corpus:.2%}",
                    f"{sum(each['identical'] * each['texts'] for each in of_others.values()) / n:.1%}",
                    " -> ".join(str(sum(each["unknown"][k] for each in of_others.values())) for k in (0, 1)),
                )
            )
        if args.peer:
            theirs = results["vocabtrimmer"] = peer(args.peer, folder, corpus, place / "vocabtrimmer")
            if theirs:
                share = f"{theirs['bytes'] / next(iter(reports.values())).n_bytes_before:.1%}"
                same = f"{theirs['identical'] / theirs['texts']:.2%}"
                n = theirs["outside"]
                print(f"vocabtrimmer: in {n:,} texts the slow tokenizer finds ids that no row has", file=sys.stderr)
                rows.append(("vocabtrimmer", f"{theirs['rows']:,}", mebibytes(theirs["bytes"]), share, same, "", ""))
        header = (
            "",
            "rows",
            "MiB",
            "of the whole",
            "corpus reads as before",
            "other texts do",
            "unknown tokens in them",
        )
        counts = ", ".join(f"{language} {len(each):,}" for language, each in corpus.items())
        print(f"\ncorpus: {counts} texts\n\n{markdown_table(header, rows)}")
        same = results["equality"] = equality(
            next(iter(reports.values())), folder, corpus, 4 if args.quick else args.rows
        )
        whole = mebibytes(next(iter(reports.values())).n_bytes_before)
        print(
            f"\nvectors of {same['texts']} texts: {same['vectors_differ']} differ in any bit. Fine-tuning, 2 epochs: losses "
            f"differ by {same['losses_differ']}, probabilities by {same['probabilities_differ']}. Trimming: "
            f"{cost['seconds']:.1f} s, "
            f"{cost['mib']:,.0f} MiB beside the mapped file of {whole} MiB"
        )
        print(json_line("trim", describe_machine("cpu"), cost=cost, **results))
    finally:
        if args.out is None:
            shutil.rmtree(place)


if __name__ == "__main__":
    main()
