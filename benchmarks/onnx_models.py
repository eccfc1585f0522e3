"""Models for ONNX Runtime beside PyTorch: speed, size, cosine, agreement of labels, and one of XLM-R-large geometry.

Three parts. ``speed``: strings to features at XLM-R-base size, each contender in processes of its own, which take turns for
some rounds; the best round counts. ``labels``: for each task a small model is fitted, exported and asked about the held-out
rows. ``large``: a model of XLM-R-large geometry is exported and run, with the peak memory of both.
"""

import argparse
import json
import os
import shutil
import sys
import tempfile
import time
from functools import partial
from pathlib import Path

import numpy as np
from _common import (
    base_folder,
    data_file,
    describe_machine,
    joined_sentences,
    json_line,
    log_normal_lengths,
    make_parser,
    markdown_table,
    memory,
    require,
    run_child,
    set_threads,
    tweets,
)

LARGE = {"hidden_size": 1024, "num_hidden_layers": 24, "num_attention_heads": 16, "intermediate_size": 4096}
SMALL = {"hidden_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 128}
TORCH, ONNX = "PyTorch", "ONNX Runtime"
CONTENDERS = [
    (TORCH, "float32"),
    (TORCH, "bfloat16"),
    (TORCH, "int8"),
    (ONNX, "float32"),
    (ONNX, "float16"),
    (ONNX, "int8"),
]
PARTS = ("speed", "labels", "large")


def place_of(folder, precision):
    """Where the ONNX model of a checkpoint folder is kept."""
    return Path(tempfile.gettempdir()) / "skxlmr-benchmarks" / f"onnx-{Path(folder).name}-{precision}"


def size_of(folder, onnx):
    """Megabytes of a model."""
    names = ("onnx/model.onnx", "onnx/model.onnx_data") if onnx else ("model.safetensors",)
    return sum((Path(folder) / name).stat().st_size for name in names) / 1e6


# In a process of its own ----------------------------------------------------------------------------------------------


def export(folder, precision):
    """Export a checkpoint: seconds and peak memory."""
    from skxlmr import export_onnx

    start = time.perf_counter()
    export_onnx(folder, place_of(folder, precision), precision=precision)
    return {"seconds": time.perf_counter() - start, "peak": memory("VmHWM"), "anonymous": memory("RssAnon")}


def encode(folder, kind, precision, texts_file, features_file, threads):
    """Features of texts: best seconds of some calls, peak memory."""
    texts = json.loads(Path(texts_file).read_text())
    if kind == TORCH:
        from skxlmr import XLMRobertaVectorizer

        set_threads(threads)
        model = XLMRobertaVectorizer(folder, device="cpu", dtype=precision, memory=None)
        try:
            model.transform(["a text"])
        except ValueError as error:
            return {"refused": str(error).splitlines()[0]}
    else:
        from skxlmr import load_onnx

        model = load_onnx(place_of(folder, precision), threads=threads or None, memory=None, verify=False)
    model.transform(sorted(texts, key=len)[-len(texts) // 8 :])  # the first calls are slower
    seconds = []
    for _ in range(2):
        start = time.perf_counter()
        features = model.transform(texts)
        seconds.append(time.perf_counter() - start)
    np.save(features_file, features)
    return {"seconds": min(seconds), "peak": memory("VmHWM"), "torch": "torch" in sys.modules}


def make_large(folder, quick):
    """Write a checkpoint of XLM-R-large geometry with random weights."""
    import torch

    from skxlmr.checkpoints import write_folder
    from skxlmr.nn import FAMILIES
    from skxlmr.text import SentencePieceTokenizer

    tokenizer = SentencePieceTokenizer.from_file(data_file("tokenizer/xlmr.spm.model"))
    family = FAMILIES["xlm-roberta"]
    config = family.config(vocab_size=tokenizer.vocab_size, **(SMALL if quick else LARGE))
    generator = torch.Generator().manual_seed(0)
    with torch.device("meta"):
        module = family.modules["Model"](config)
    module = module.to_empty(device="cpu")
    with torch.no_grad():
        for name, parameter in module.named_parameters():
            parameter.normal_(float(name.endswith("LayerNorm.weight")), config.initializer_range, generator=generator)
    write_folder(folder, config=config.to_dict(), tensors=module.state_dict(), tokenizer=tokenizer)
    return {"peak": memory("VmHWM")}


# Parts ----------------------------------------------------------------------------------------------------------------


def child(*arguments):
    """Run this script in a process of its own."""
    return run_child(__file__, ["--child", json.dumps(arguments, default=str)])


def cosines(features, reference):
    norms = np.linalg.norm(features, axis=1) * np.linalg.norm(reference, axis=1)
    return (features * reference).sum(1) / norms


def speed(args):
    """A table for each set of texts."""
    from skxlmr.text import load_tokenizer

    folder, results = str(base_folder(args)), []
    for precision in ("float32", "float16", "int8"):
        made = child("export", folder, precision)
        print(f"export in {precision}: {made['seconds']:.1f} s, peak memory {made['peak']:.0f} MiB", flush=True)
    tokenizer = load_tokenizer(folder)
    count = lambda texts: tokenizer.encode_batch(texts).lengths  # noqa: E731
    n_tweets, n_mixed = (20, 8) if args.quick else (300, 60)
    sets = {"tweets": tweets(n_tweets), "mixed": joined_sentences(log_normal_lengths(n_mixed), count)}
    for name, texts in sets.items():
        best, features, rows, base = {}, {}, [], None
        with tempfile.TemporaryDirectory() as work:
            file = Path(work) / "texts.json"
            file.write_text(json.dumps(texts))
            for _ in range(args.rounds):
                for kind, precision in CONTENDERS:
                    out = Path(work) / f"{kind}-{precision}.npy"
                    made = child("encode", folder, kind, precision, file, out, args.threads or 0)
                    if "refused" in made:
                        print(f"{kind}, {precision}: {made['refused']}")
                        continue
                    assert made["torch"] == (kind == TORCH)
                    if made["seconds"] < best.get((kind, precision), made)["seconds"] or (kind, precision) not in best:
                        best[kind, precision] = made
                    features[kind, precision] = np.load(out)
        for (kind, precision), made in best.items():
            base = base or made["seconds"]
            found = cosines(features[kind, precision], features[TORCH, "float32"])
            place = place_of(folder, precision) if kind == ONNX else folder
            size = size_of(place, kind == ONNX)
            row = {
                "set": name,
                "contender": kind,
                "precision": precision,
                "seconds": made["seconds"],
                "texts_per_second": len(texts) / made["seconds"],
                "megabytes": size,
                "peak_mib": made["peak"],
                "min_cosine": found.min(),
                "mean_cosine": found.mean(),
            }
            results.append(row)
            cells = f"{len(texts) / made['seconds']:.1f}", f"{base / made['seconds']:.2f}x", f"{size:.0f}"
            rows.append(
                (f"{kind}, {precision}", *cells, f"{made['peak']:.0f}", f"{found.min():.6f}", f"{found.mean():.6f}")
            )
        header = (
            f"{name}, {len(texts)} texts",
            "texts/s",
            "to PyTorch float32",
            "MB on disk",
            "peak MiB",
            "min cosine",
        )
        print(f"\n{markdown_table((*header, 'mean cosine'), rows)}", flush=True)
    return results


def recorded(model, X):
    """Predictions, and all that the engine gave for them."""
    outputs, make = [], model._engine

    def engine(*arguments, **named):
        made = make(*arguments, **named)
        for name in ("rows", "tokens"):
            setattr(made, name, partial(keep, getattr(made, name)))
        return made

    def keep(run, *arguments, **named):
        outputs.append(np.asarray(run(*arguments, **named)))
        return outputs[-1]

    model._engine = engine
    try:
        predicted = model.predict(X)
    finally:
        del model._engine
    return predicted, outputs


def agreement(found, expected):
    """Share of equal labels, words' tags counted one by one; of numbers, the correlation."""
    of_words = isinstance(expected[0], list | np.ndarray) and np.asarray(expected[0]).dtype.kind in "OTU"
    if of_words:
        pairs = [pair for rows in zip(found, expected, strict=True) for pair in zip(*rows, strict=True)]
        return float(np.mean([a == b for a, b in pairs]))
    found, expected = np.asarray(found), np.asarray(expected)
    if expected.dtype.kind == "f":
        return float(np.corrcoef(found, expected)[0, 1])
    return float((found == expected).mean())


def labels(args):
    """A table with a row for each task."""
    import evaluate_tasks as tasks

    from skxlmr import XLMRobertaClassifier, export_onnx, load_onnx

    def topics():
        return tasks.split_file(
            "seqclass/sib200_topics.jsonl", lambda rows: [row["text"] for row in rows], tasks.labels
        )

    def sentiment():
        return tasks.split_file(
            "seqclass/xlmt_sentiment.jsonl", lambda rows: [row["text"] for row in rows], tasks.labels
        )

    more = [
        tasks.Task(name, "accuracy", "", split, None, XLMRobertaClassifier, tasks.accuracy, 4)
        for name, split in (("topics (SIB-200: 16 languages)", topics), ("sentiment (XLM-T: 6 languages)", sentiment))
    ]
    rows, results = [], []
    for task in [*more, *tasks.TASKS]:
        if args.tasks and not any(word in task.name for word in args.tasks):
            continue
        X, y, X_test, y_test = (part[:: 40 if args.quick else 1] for part in task.split())
        epochs = 1 if args.quick else args.epochs or task.epochs
        options = {"max_epochs": epochs, "batch_size": tasks.BATCH_SIZE, "learning_rate": tasks.LEARNING_RATE}
        model = task.make("skxlmr-mini", random_state=0, dtype="float32", device="cpu", **options).fit(X, y)
        expected, logits = recorded(model, X_test)
        score = task.measure(y_test, expected)[0]
        row = {
            "task": task.name,
            "rows": len(X_test),
            "score": score,
            "largest_logit": max(np.abs(part).max() for part in logits),
        }
        cells = [task.name, len(X_test), f"{score:.1f}"]
        with tempfile.TemporaryDirectory() as work:
            for precision in ("float32", "float16", "int8"):
                export_onnx(model, f"{work}/{precision}", precision=precision)
                opened = load_onnx(f"{work}/{precision}", threads=args.threads)
                found, theirs = recorded(opened, X_test)
                same = agreement(found, expected)
                further = max(np.abs(a.ravel() - b.ravel()).max() for a, b in zip(theirs, logits, strict=True))
                found_score = task.measure(y_test, found)[0]
                row[precision] = {"agreement": same, "max_difference": further, "score": found_score}
                if precision == "float32":
                    cells += [f"{further:.1e}", f"{same:.2%}"]
                else:
                    cells += [f"{same:.2%}", f"{found_score:.1f}"]
                del opened
        try:
            found = model.set_params(dtype="int8").predict(X_test)
            row["torch_int8"] = {"agreement": agreement(found, expected), "score": task.measure(y_test, found)[0]}
            cells.append(f"{row['torch_int8']['agreement']:.2%}")
        except ValueError as error:  # no such kernels on this machine
            cells.append(str(error).splitlines()[0][:30])
        rows.append(cells)
        results.append(row)
        print(*cells, sep=" | ", file=sys.stderr, flush=True)
    header = ("task", "rows", "score", "float32: max logit difference", "same labels", "float16: same labels", "score")
    print(f"\n{markdown_table((*header, 'int8: same labels', 'score', 'PyTorch int8: same labels'), rows)}")
    equal = [row["int8"]["agreement"] for row in results if "similarity" not in row["task"]]
    if equal:
        print(f"\nLabels that int8 shares with float32: {np.mean(equal):.2%} on average, {min(equal):.2%} at least.")
    return results


def large(args):
    """Export and run a model of XLM-R-large geometry, in float32 and in int8."""
    parent = Path(tempfile.gettempdir()) / "skxlmr-benchmarks"
    folder, results = parent / ("large-quick" if args.quick else "large"), []
    if not (folder / "config.json").is_file():
        child("make", folder, args.quick)
    texts = tweets(10 if args.quick else 60)
    with tempfile.TemporaryDirectory() as work:
        file = Path(work) / "texts.json"
        file.write_text(json.dumps(texts))
        reference = None
        for precision in ("float32", "int8"):
            exported = child("export", folder, precision)
            made = child("encode", folder, ONNX, precision, file, Path(work) / "out.npy", args.threads or 0)
            features = np.load(Path(work) / "out.npy")
            reference = features if reference is None else reference
            results.append(
                {
                    "precision": precision,
                    "megabytes": size_of(place_of(folder, precision), True),
                    "export_seconds": exported["seconds"],
                    "export_peak_mib": exported["peak"],
                    "run_peak_mib": made["peak"],
                    "texts_per_second": len(texts) / made["seconds"],
                    "min_cosine": cosines(features, reference).min(),
                }
            )
            if not args.keep:
                shutil.rmtree(place_of(folder, precision))
    if not args.keep:
        shutil.rmtree(folder)
    rows = [
        (
            r["precision"],
            f"{r['megabytes']:.0f}",
            f"{r['export_seconds']:.0f}",
            f"{r['export_peak_mib']:.0f}",
            f"{r['run_peak_mib']:.0f}",
            f"{r['texts_per_second']:.1f}",
            f"{r['min_cosine']:.6f}",
        )
        for r in results
    ]
    header = ("XLM-R-large geometry", "MB on disk", "export, s", "export, peak MiB", "run, peak MiB", "tweets/s")
    print(f"\n{markdown_table((*header, 'min cosine to float32'), rows)}", flush=True)
    return results


def main():
    if sys.argv[1:2] == ["--child"]:
        kind, *arguments = json.loads(sys.argv[2])
        print(json.dumps({"export": export, "encode": encode, "make": make_large}[kind](*arguments), default=float))
        return
    parser = make_parser(__doc__, data="")
    parser.formatter_class = argparse.ArgumentDefaultsHelpFormatter
    parser.add_argument("--parts", nargs="+", default=PARTS, choices=PARTS)
    parser.add_argument("--rounds", type=int, default=2, help="of speed; each starts every contender anew")
    parser.add_argument("--tasks", nargs="+", help="words in the names of the tasks of labels (default: all)")
    parser.add_argument("--epochs", type=int, help="of fine-tuning for labels (default: as in evaluate_tasks.py)")
    parser.add_argument("--keep", action="store_true", help="keep the folders of large (5 GB)")
    args = parser.parse_args()
    require("onnx", "onnxruntime")
    set_threads(args.threads)
    if args.threads:
        os.environ["OMP_NUM_THREADS"] = str(args.threads)
    machine = describe_machine("cpu", "onnx", "onnxruntime")
    print(machine)
    results = {part: partial({"speed": speed, "labels": labels, "large": large}[part], args)() for part in args.parts}
    print()
    print(json_line("onnx_models", machine, **results))


if __name__ == "__main__":
    main()
