"""A search over fine-tuned classifiers with frozen layers, with and without keeping the states of these layers.

Six candidates (learning rates) times three folds, and a fit of the best on all rows; the lowest eight of twelve layers are
frozen. Both searches compute the same: scores, losses and weights are compared bit for bit. Each text's states after the frozen
layers are computed once, and then found in every epoch, fold and candidate.
"""

import hashlib
import time
import warnings

import numpy as np
from _common import (
    base_folder,
    data_file,
    describe_machine,
    make_parser,
    markdown_table,
    read_rows,
    set_threads,
)

RATES = (1e-5, 2e-5, 3e-5, 5e-5, 7e-5, 1e-4)


def sample(args):
    """Texts of many languages and their topics, as many of each of the three topics that are most frequent."""
    path = args.data or data_file("seqclass/sib200_topics.jsonl")
    rows = read_rows(path, "text", "label")
    by_label = {}
    for i in np.random.default_rng(0).permutation(len(rows)):
        by_label.setdefault(rows[i]["label"], []).append(rows[i]["text"])
    n_each = (24 if args.quick else args.texts) // 3
    chosen = sorted(by_label, key=lambda label: (-len(by_label[label]), label))[:3]
    pairs = [(text, label) for label in chosen for text in by_label[label][:n_each]]
    return [text for text, _ in pairs], [label for _, label in pairs]


def weights_of(estimator):
    """Digest of all weights."""
    sha = hashlib.sha256()
    for name, tensor in sorted(estimator.module_.state_dict().items()):
        sha.update(name.encode() + tensor.detach().cpu().contiguous().numpy().tobytes())
    return sha.hexdigest()


def search(args, texts, labels, memory):
    """Seconds, those of the processor, and what the search found, in bits."""
    from sklearn.model_selection import GridSearchCV, StratifiedKFold

    from skxlmr import XLMRobertaClassifier, clear_cache

    clear_cache()
    classifier = XLMRobertaClassifier(
        base_folder(args),
        n_frozen_layers=1 if args.quick else args.frozen,
        max_epochs=args.epochs,
        dtype=args.dtype,
        memory=memory,
        random_state=0,
        device="cpu",
    )
    folds = StratifiedKFold(2 if args.quick else 3, shuffle=True, random_state=0)
    grid = {"learning_rate": RATES[:2] if args.quick else RATES[: args.candidates]}
    found = GridSearchCV(classifier, grid, cv=folds, scoring="neg_log_loss", return_train_score=True)
    start, of_cpu = time.perf_counter(), time.process_time()
    found.fit(texts, labels)
    seconds = time.perf_counter() - start, time.process_time() - of_cpu
    scores = {name: found.cv_results_[name].tobytes() for name in found.cv_results_ if name.endswith("_score")}
    best = found.best_estimator_
    return seconds, (scores, best.loss_curve_, weights_of(best), best.predict_proba(texts).tobytes())


def main():
    parser = make_parser(__doc__, data='"text" and "label"')
    parser.add_argument("--texts", type=int, default=200, help="number of texts (default: 200)")
    parser.add_argument("--epochs", type=int, default=5, help="epochs of each fit (default: 5)")
    parser.add_argument("--frozen", type=int, default=8, help="frozen layers (default: 8 of 12)")
    parser.add_argument("--candidates", type=int, default=6, help="learning rates to compare (default: 6)")
    parser.add_argument("--dtype", default="auto", help="precision of the fits (default: auto)")
    args = parser.parse_args()
    set_threads(args.threads)

    from skxlmr import FitQualityWarning, XLMRobertaClassifier, cache_info
    from skxlmr.utils._devices.device import resolve_device, resolve_precision

    warnings.simplefilter("ignore", FitQualityWarning)  # the weights are random: nothing is learnt
    texts, labels = sample(args)
    print(describe_machine("cpu", "scikit-learn"))
    precision = resolve_precision(args.dtype, resolve_device("cpu"), training=True)
    print(f"{len(texts)} texts, {len(set(texts))} of them distinct, fits in {precision or 'float32'}\n")
    XLMRobertaClassifier(base_folder(args), max_epochs=1, memory=None, device="cpu").fit(
        texts[:2], ["a", "b"]
    )  # imports
    with_memory, bits = search(args, texts, labels, "auto")
    kept = cache_info()
    without, expected = search(args, texts, labels, None)
    speed, of_cpu = (f"{slow / fast:.2f}x" for slow, fast in zip(without, with_memory, strict=True))
    rows = [
        ("without", f"{without[0]:.1f}", "", f"{without[1]:.1f}", ""),
        ("with", f"{with_memory[0]:.1f}", speed, f"{with_memory[1]:.1f}", of_cpu),
    ]
    header = ("states of the frozen layers kept", "search, s", "speed-up", "CPU, s", "speed-up")
    print(markdown_table(header, rows))
    print(f"\n{kept.entries} rows kept, {kept.n_bytes / 2**20:.0f} MiB, {kept.encoded} computed, {kept.hits} found")
    for name, one, other in zip(("scores", "losses", "weights", "probabilities"), bits, expected, strict=True):
        print(f"{name}: {'equal bit for bit' if one == other else 'DIFFERENT'}")


if __name__ == "__main__":
    main()
