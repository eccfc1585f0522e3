"""Quality of a checkpoint on the other tasks: tags, answers, choices, similarity, several labels, inference, zero-shot.

For each task, an estimator is fitted on the training rows of all languages together and scored on the held-out rows (mean over
seeds). It is compared with a baseline that uses no knowledge of the language: the most frequent tag of each word, the sentence
most similar to the question, character n-grams. No setting was chosen on the held-out rows.
"""

import sys
import time
import zlib
from collections import Counter, defaultdict
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from _common import (
    data_file,
    describe_machine,
    json_line,
    make_parser,
    markdown_table,
    read_rows,
    set_threads,
)
from scipy.stats import pearsonr, spearmanr
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import f1_score
from sklearn.metrics.pairwise import paired_cosine_distances
from sklearn.multiclass import OneVsRestClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import MultiLabelBinarizer

from skxlmr import (
    XLMRobertaClassifier,
    XLMRobertaEmbedder,
    XLMRobertaMultipleChoiceClassifier,
    XLMRobertaQuestionAnswerer,
    XLMRobertaRegressor,
    XLMRobertaTokenClassifier,
    XLMRobertaZeroShotClassifier,
)
from skxlmr.metrics import answer_exact_match_score, answer_f1_score, entity_f1_score
from skxlmr.utils._devices.device import resolve_device

LEARNING_RATE = 1e-3  # for a checkpoint of some 5 M parameters; for XLM-R-base: --learning-rate 2e-5
BATCH_SIZE = 32


@dataclass
class Task:
    """One row of the table.

    ``split`` returns (X, y) of the training and of the held-out rows, ``baseline`` the baseline's predictions for the held-out
    rows, ``measure`` the scores of predictions in percent.
    """

    name: str
    measures: str
    baseline_name: str
    split: Callable[[], tuple[Any, Any, Any, Any]]
    baseline: Callable[[Any, Any, Any], Any]
    make: Callable[..., Any]
    measure: Callable[[Any, Any], list[float]]
    epochs: int


def is_training(row):
    """Whether a row is for training: by its split, or by a hash of its first text if it has none or is split again."""
    if row.get("split") is None or row.get("resplit"):
        return zlib.crc32(row.get("text", row.get("premise")).encode()) % 5 > 0
    return row["split"] == "train"


def split_file(file, inputs, target, resplit=False):
    """(X, y, X_test, y_test) of a JSON Lines file."""
    rows = [row | {"resplit": resplit} for row in read_rows(data_file(file), "lang")]
    parts = [row for row in rows if is_training(row)], [row for row in rows if not is_training(row)]
    return tuple(part for rows in parts for part in (inputs(rows), target(rows)))


# Baselines ------------------------------------------------------------------------------------------------------------


def frequent_tags(unknown):
    """Predict the most frequent tag of each word, and ``unknown`` for new words."""

    def predict(X, y, X_test):
        counts = defaultdict(Counter)
        for words, tags in zip(X, y, strict=True):
            for word, tag in zip(words, tags, strict=True):
                counts[word][tag] += 1
        known = {word: tags.most_common(1)[0][0] for word, tags in counts.items()}
        return [[known.get(word, unknown) for word in words] for words in X_test]

    return predict


def ngram_vectorizer():
    return TfidfVectorizer(analyzer="char_wb", ngram_range=(2, 4), sublinear_tf=True)


def most_similar_sentence(X, y, X_test):
    """Answer with the sentence of the context that is most similar to the question."""
    answers = []
    for question, context in X_test:
        sentences = [s.strip() for s in context.replace("。", ". ").split(". ") if s.strip()] or [context]
        vectors = ngram_vectorizer().fit_transform([question, *sentences])
        answers.append(sentences[int((vectors[1:] @ vectors[0].T).toarray().argmax())])
    return answers


def most_similar_choice(X, y, X_test):
    """Choose the choice that is most similar to the prompt."""
    vectorizer = ngram_vectorizer().fit([text for row in X for text in (row["prompt"], *row["choices"])])
    best = []
    for row in X_test:
        vectors = vectorizer.transform([row["prompt"], *row["choices"]])
        best.append(int((vectors[1:] @ vectors[0].T).toarray().argmax()))
    return np.array(best)


def cosine(X, y, X_test):
    """Cosine of character n-grams."""
    vectorizer = ngram_vectorizer().fit([text for pair in X for text in pair])
    a, b = (vectorizer.transform(side) for side in zip(*X_test, strict=True))
    return np.asarray(a.multiply(b).sum(1)).ravel()


def ngrams(X, y, X_test):
    """Character n-grams and logistic regression; pairs are joined into one text."""
    X, X_test = ([" ||| ".join(row) if isinstance(row, tuple) else row for row in rows] for rows in (X, X_test))
    vectorizer = TfidfVectorizer(analyzer="char_wb", ngram_range=(1, 5), min_df=2, sublinear_tf=True)
    model = LogisticRegression(C=10, max_iter=1000, class_weight="balanced" if np.ndim(y) == 2 else None)
    return make_pipeline(vectorizer, OneVsRestClassifier(model) if np.ndim(y) == 2 else model).fit(X, y).predict(X_test)


def majority(X, y, X_test):
    return np.full(len(X_test), Counter(y).most_common(1)[0][0])


# Measures, in percent -------------------------------------------------------------------------------------------------


def entity_f1(y, predicted):
    return [100 * entity_f1_score(y, predicted)]


def tag_accuracy(y, predicted):
    return [100 * np.mean([a == b for row in zip(y, predicted, strict=True) for a, b in zip(*row, strict=True)])]


def answer_scores(y, predicted):
    texts = [answer["text"] for answer in y]
    return [100 * answer_f1_score(texts, predicted), 100 * answer_exact_match_score(texts, predicted)]


def accuracy(y, predicted):
    return [100 * np.mean(np.asarray(y) == np.asarray(predicted))]


def correlations(y, predicted):
    return [100 * pearsonr(y, predicted)[0], 100 * spearmanr(y, predicted)[0]]


def label_f1(y, predicted):
    return [100 * f1_score(y, predicted, average=average, zero_division=0) for average in ("micro", "macro")]


# Data -----------------------------------------------------------------------------------------------------------------


def words(rows):
    return [row["tokens"] for row in rows]


def tags(rows):
    return [row["tags"] for row in rows]


def labels(rows):
    return [row["label"] for row in rows]


def choices(rows):
    return [{"prompt": f"{row['premise']} {row['question']}?", "choices": row["choices"]} for row in rows]


def pairs_of(first, second):
    return lambda rows: [(row[first], row[second]) for row in rows]


def questions():
    """Every question of XQuAD with its context."""
    parts = defaultdict(list)
    for row in read_rows(data_file("qa/xquad.jsonl"), "context", "qas"):
        for qa in row["qas"]:
            parts[row["split"] == "train"].append(((qa["question"], row["context"]), qa["answers"][0]))
    return tuple(list(side) for part in (parts[True], parts[False]) for side in zip(*part, strict=True))


def emotions():
    binarizer = MultiLabelBinarizer()
    X, y, X_test, y_test = split_file(
        "seqclass/xed_emotions_multilabel.jsonl",
        lambda rows: [row["text"] for row in rows],
        lambda rows: [row["labels"] for row in rows],
    )
    return X, binarizer.fit_transform(y), X_test, binarizer.transform(y_test)


def multi_label_classifier(*args, **params):
    return XLMRobertaClassifier(*args, class_weight="balanced", **params)


class TrainedCosine:
    """The cosine of vectors that are trained on the scores of pairs, at the embedder's own learning rate."""

    def __init__(self, checkpoint, **params):
        self.embedder = XLMRobertaEmbedder(checkpoint, **params | {"learning_rate": "auto"})

    def fit(self, X, y):
        self.embedder.fit(X, y)
        return self

    def predict(self, X):
        first, second = (self.embedder.transform(list(side)) for side in zip(*X, strict=True))
        return 1 - paired_cosine_distances(first, second)


def similarities():
    """The pairs of STS-B and their scores."""
    return split_file(
        "pairreg/stsb_multi_mt.jsonl", pairs_of("text_a", "text_b"), lambda rows: [row["score"] for row in rows]
    )


COPA = ("multichoice/balanced_copa.jsonl", choices, labels, True)
COMMONSENSE = ("multichoice/jcommonsenseqa.jsonl", choices, labels, True)
TASKS = [
    Task(
        "named entities (UNER: da en pt sv zh)",
        "entity F1",
        "most frequent tag of each word",
        lambda: split_file("ner/uner.jsonl", words, tags),
        frequent_tags("O"),
        XLMRobertaTokenClassifier,
        entity_f1,
        12,
    ),
    Task(
        "part of speech (PUD: ar de en es fi fr ru tr zh)",
        "accuracy",
        "most frequent tag of each word",
        lambda: split_file("pos/ud_pud.jsonl", words, tags),
        frequent_tags("NOUN"),
        XLMRobertaTokenClassifier,
        tag_accuracy,
        12,
    ),
    Task(
        "question answering (XQuAD: ar de en es ru tr zh)",
        "token F1 / exact match",
        "sentence most like the question",
        questions,
        most_similar_sentence,
        XLMRobertaQuestionAnswerer,
        answer_scores,
        6,
    ),
    Task(
        "2 choices (Balanced COPA: en)",
        "accuracy",
        "choice most like the prompt",
        lambda: split_file(*COPA),
        most_similar_choice,
        XLMRobertaMultipleChoiceClassifier,
        accuracy,
        8,
    ),
    Task(
        "5 choices (JCommonsenseQA: ja)",
        "accuracy",
        "choice most like the prompt",
        lambda: split_file(*COMMONSENSE),
        most_similar_choice,
        XLMRobertaMultipleChoiceClassifier,
        accuracy,
        8,
    ),
    Task(
        "similarity, cosine of an embedder (STS-B: de en es fr nl ru zh)",
        "Pearson / Spearman",
        "cosine of character n-grams",
        similarities,
        cosine,
        TrainedCosine,
        correlations,
        4,
    ),
    Task(
        "similarity, regressor of pairs (STS-B: de en es fr nl ru zh)",
        "Pearson / Spearman",
        "cosine of character n-grams",
        similarities,
        cosine,
        XLMRobertaRegressor,
        correlations,
        8,
    ),
    Task(
        "several labels (XED emotions: de en es fi fr it ru)",
        "micro-F1 / macro-F1",
        "character n-grams",
        emotions,
        ngrams,
        multi_label_classifier,
        label_f1,
        8,
    ),
    Task(
        "inference (SNLI: en)",
        "accuracy",
        "character n-grams",
        lambda: split_file("nli/snli_en.jsonl", pairs_of("premise", "hypothesis"), labels),
        ngrams,
        XLMRobertaClassifier,
        accuracy,
        8,
    ),
]


def run(task, args):
    """Run a task: a row of the table, and the first fitted model."""
    X, y, X_test, y_test = (part[:: 20 if args.quick else 1] for part in task.split())
    params = {
        "max_epochs": args.epochs or task.epochs,
        "batch_size": args.batch_size,
        "learning_rate": args.learning_rate,
        "device": args.device,
    }
    start = time.perf_counter()
    models = [task.make(args.checkpoint, random_state=seed, **params).fit(X, y) for seed in range(args.seeds)]
    seconds = (time.perf_counter() - start) / args.seeds
    figures = np.array([task.measure(y_test, model.predict(X_test)) for model in models])
    baseline = task.measure(y_test, task.baseline(X, y, X_test))
    spread = f" ± {figures[:, 0].std(ddof=1):.1f}" if args.seeds > 1 else ""
    ours = " / ".join(f"{value:.1f}" for value in figures.mean(0))
    line = (
        task.name,
        f"{len(X)} / {len(X_test)}",
        task.measures,
        f"{' / '.join(f'{value:.1f}' for value in baseline)} ({task.baseline_name})",
        ours + spread,
        f"{seconds:.0f}",
    )
    return line, models[0]


def zero_shot(nli, args):
    """A row of the table: topics that the inference model was never trained on, predicted by hypotheses about them."""
    rows = [row for row in read_rows(data_file("seqclass/sib200_topics.jsonl"), "lang") if row["lang"] == "en"]
    rows = [row for row in rows if row["split"] != "train"][:: 20 if args.quick else 1]
    names = sorted({row["label"] for row in rows})
    model = XLMRobertaZeroShotClassifier(nli, candidate_labels=names, hypothesis_template="this is about {}").fit()
    found = accuracy(labels(rows), model.predict([row["text"] for row in rows]))[0]
    frequent = accuracy(labels(rows), majority(None, labels(rows), rows))[0]
    return (
        "zero-shot topics through inference (SIB-200: en)",
        f"0 / {len(rows)}",
        "accuracy",
        f"{frequent:.1f} (most frequent topic)",
        f"{found:.1f}",
        "0",
    )


def main():
    parser = make_parser(__doc__, data="", checkpoint=False)
    parser.add_argument("--checkpoint", default="skxlmr-mini", help="name or folder")
    parser.add_argument("--tasks", nargs="+", help="words in the names of the tasks to run (default: all tasks)")
    parser.add_argument("--learning-rate", type=float, default=LEARNING_RATE)
    parser.add_argument("--batch-size", type=int, default=BATCH_SIZE)
    parser.add_argument(
        "--epochs",
        type=int,
        help="epochs of fine-tuning (default: 12 for tags, 6 for answers, 4 for the embedder, 8 for the others)",
    )
    parser.add_argument("--seeds", type=int, default=2, help="number of fine-tuning runs")
    parser.add_argument("--device", default="auto")
    args = parser.parse_args()
    if args.quick:
        args.seeds, args.epochs = 1, 1
    set_threads(args.threads)
    machine = describe_machine(str(resolve_device(args.device)), "scikit-learn")
    print(f"`{args.checkpoint}`, {machine}\n")
    start, lines = time.perf_counter(), []
    for task in TASKS:
        if args.tasks and not any(word in task.name for word in args.tasks):
            continue
        line, model = run(task, args)
        lines.append(line)
        print(*line, sep=" | ", file=sys.stderr, flush=True)
        if task.name.startswith("inference"):
            lines.append(zero_shot(model, args))
    header = ("task", "train / test rows", "measure", "baseline", "fine-tuned", "fit, s")
    print(markdown_table(header, lines))
    print(f"\n{time.perf_counter() - start:.0f} s in total.")
    results = [dict(zip(header, line, strict=True)) for line in lines]
    print(json_line("evaluate_tasks", machine, checkpoint=args.checkpoint, seeds=args.seeds, results=results))


if __name__ == "__main__":
    main()
