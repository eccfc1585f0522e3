"""Response selection on real dialogues: how often the right system turn ranks first among 100.

Task-oriented dialogues from six sources in five languages. A third of them is held out; translations of a dialogue are in the
same part. Each system turn of a held-out dialogue, except a first turn, has to be found among 99 others: different texts in the
same language, drawn from other held-out dialogues. Five methods to predict which one follows:

- character n-grams (TF-IDF) shared with the last turn;
- features of the checkpoint as it is: cosine of mean vectors, the last turn against the responses;
- ``XLMRobertaDialogueLM`` with masked language modelling alone: its own scores, and the same features from it;
- ``XLMRobertaDialogueLM`` with both objectives: its own scores.

The settings below were chosen with ``--validate``, which trains on two thirds of the training part and tests on the rest.
"""

import random
import tempfile
import time
import warnings
from collections import defaultdict
from pathlib import Path

import numpy as np
from _common import data_file, describe_machine, make_parser, markdown_table, read_rows, set_threads
from sklearn.feature_extraction.text import TfidfVectorizer

from skxlmr import TruncationWarning, XLMRobertaDialogueLM, XLMRobertaVectorizer, save
from skxlmr.metrics import recall_at_k
from skxlmr.utils._devices.device import resolve_device

FILES = ("crosswoz_zh", "multiwoz_en_ru", "sgd_en", "taskmaster4_en", "woz2_en_de_it", "x_risawoz")
N_CANDIDATES = 100
PLACES = (1, 3)
# Suited to a checkpoint of some 5 M parameters.
EPOCHS = 25
BATCH_SIZE = 32
LEARNING_RATE = 2e-3
MAX_LENGTH = 48  # the last turns of a context: they matter most, and the whole run takes minutes


def split_rows(rows, part):
    """Rows of the remaining dialogues, and of a share ``part`` of them; translations of one dialogue stay together."""
    keys = sorted({key(row) for row in rows})
    random.Random(0).shuffle(keys)
    held_out = set(keys[: round(part * len(keys))])
    return [row for row in rows if key(row) not in held_out], [row for row in rows if key(row) in held_out]


def key(row):
    return row["source"], row["id"].replace("_ru#", "#")


def make_queries(rows, n_candidates, seed=0):
    """(context, candidates, number of the right one) for each system turn that follows another turn."""
    rng = random.Random(seed)
    pools = defaultdict(set)
    for number, row in enumerate(rows):
        pools[row["lang"]] |= {(turn["text"], number) for turn in row["turns"] if turn["speaker"] == "system"}
    queries = []
    for number, row in enumerate(rows):
        own = {turn["text"] for turn in row["turns"]}
        others = sorted({text for text, other in pools[row["lang"]] if other != number} - own)
        if len(others) < n_candidates - 1:
            continue
        for place, turn in enumerate(row["turns"]):
            if place and turn["speaker"] == "system":
                candidates = rng.sample(others, n_candidates - 1)
                right = rng.randrange(n_candidates)
                candidates.insert(right, turn["text"])
                queries.append((row["turns"][:place], candidates, right))
    return queries


def ranked_by(vectorize, queries):
    """Candidates of each query, ordered by their dot products with the last turn."""
    texts = sorted({text for context, candidates, _ in queries for text in [context[-1]["text"], *candidates]})
    place = {text: i for i, text in enumerate(texts)}
    vectors = vectorize(texts)
    order = []
    for context, candidates, _ in queries:
        scores = vectors[[place[text] for text in candidates]] @ vectors[place[context[-1]["text"]]].T
        scores = np.asarray(scores.todense()) if hasattr(scores, "todense") else scores
        order.append(np.argsort(-scores.ravel(), kind="stable"))
    return order


def features(checkpoint, args):
    return XLMRobertaVectorizer(checkpoint, normalize=True, device=args.device, memory=None).fit_transform


def ngrams(texts):
    return TfidfVectorizer(analyzer="char_wb", ngram_range=(1, 4), sublinear_tf=True).fit_transform(texts)


def trained(rows, contrastive_weight, seed, args):
    model = XLMRobertaDialogueLM(
        args.checkpoint,
        contrastive_weight=contrastive_weight,
        max_epochs=args.epochs,
        batch_size=args.batch_size,
        learning_rate=args.learning_rate,
        max_length=args.max_length,
        device=args.device,
        random_state=seed,
    )
    return model.fit([row["turns"] for row in rows])


def recalls(order, queries):
    """Recall in percent at each of PLACES."""
    return 100 * np.array(list(recall_at_k([right for _, _, right in queries], order, PLACES).values()))


def evaluate(train, queries, args):
    """Recalls by method, each of shape (seeds, places)."""
    contexts, candidates, _ = zip(*queries, strict=True)
    found = {
        "character n-grams": [recalls(ranked_by(ngrams, queries), queries)],
        "features of the checkpoint": [recalls(ranked_by(features(args.checkpoint, args), queries), queries)],
    }
    for seed in range(args.seeds):
        for weight, name in ((0.0, "masked LM alone"), (1.0, "masked LM and responses")):
            start = time.perf_counter()
            model = trained(train, weight, seed, args)
            seconds = time.perf_counter() - start
            order, _ = model.rank_responses(contexts, candidates)
            found.setdefault(f"{name}, own scores", []).append(recalls(order, queries))
            if not weight:
                with tempfile.TemporaryDirectory() as folder:
                    save(model, Path(folder, "model"))
                    values = recalls(ranked_by(features(Path(folder, "model"), args), queries), queries)
                found.setdefault(f"{name}, features", []).append(values)
            print(f"- {name}, seed {seed}: {seconds:.0f} s, losses {', '.join(f'{x:.2f}' for x in model.loss_curve_)}")
    return {name: np.array(values) for name, values in found.items()}


def cell(values):
    """Mean over seeds, and their standard deviation."""
    return f"{values.mean():.1f}" + (f" ± {values.std(ddof=1):.1f}" if len(values) > 1 else "")


def main():
    parser = make_parser(__doc__, data="columns lang, source, id, turns [{speaker, text}]", checkpoint=False)
    parser.add_argument("--checkpoint", default="skxlmr-mini", help="name or folder")
    parser.add_argument("--epochs", type=int, default=EPOCHS)
    parser.add_argument("--batch-size", type=int, default=BATCH_SIZE)
    parser.add_argument("--learning-rate", type=float, default=LEARNING_RATE)
    parser.add_argument("--max-length", type=int, default=MAX_LENGTH)
    parser.add_argument("--seeds", type=int, default=3, help="number of fits of each kind")
    parser.add_argument(
        "--validate", action="store_true", help="do not use the held-out part: test on training dialogues"
    )
    parser.add_argument("--device", default="auto")
    args = parser.parse_args()
    set_threads(args.threads)
    warnings.simplefilter("ignore", TruncationWarning)  # the caption states the length
    files = [args.data] if args.data else [data_file(f"dialogue/{name}.jsonl") for name in FILES]
    rows = [row for file in files for row in read_rows(file, "lang", "source", "id", "turns")]
    if args.quick:
        rows, args.epochs, args.seeds = rows[::12], 1, 2
    start = time.perf_counter()
    train, test = split_rows(rows, 1 / 3)
    if args.validate:
        train, test = split_rows(train, 1 / 3)
    queries = make_queries(test, 10 if args.quick else N_CANDIDATES)
    print(f"`{args.checkpoint}`, {describe_machine(str(resolve_device(args.device)), 'scikit-learn')}\n")
    table = evaluate(train, queries, args)
    print(
        f"\n**Response selection**: recall in percent, 1 of {len(queries[0][1])}, {len(queries)} contexts of {len(test)} "
        f"{'training' if args.validate else 'held-out'} dialogues; trained on {len(train)} dialogues, {args.epochs} epochs, "
        f"learning rate {args.learning_rate:g}, batches of {args.batch_size}, at most {args.max_length} tokens, seeds 0 to "
        f"{args.seeds - 1}.\n"
    )
    print(
        markdown_table(
            ("method", *(f"recall@{k}" for k in PLACES)),
            ((name, *(cell(values[:, i]) for i in range(len(PLACES)))) for name, values in table.items()),
        )
    )
    print(f"\n{time.perf_counter() - start:.0f} s in total.")


if __name__ == "__main__":
    main()
