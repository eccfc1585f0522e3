"""Quality of a checkpoint's vectors without training it: similarity, topics across languages, translations, masked tokens.

The vectors are those of ``XLMRobertaVectorizer(checkpoint)``: pooled as the checkpoint's folder says.

- Similarity: Spearman's correlation of the cosine with the scores of STS-B (seven languages) and JSTS, of the held-out rows and
  of all rows. No checkpoint of the project was trained on them.
- Topics: the seven classes of SIB-200. A logistic regression on the vectors learns from ``en de es ru hi`` and is tested on
  the other languages. Each sentence is in all languages, under one id: folds are made of ids, so that no translation of a test
  sentence is trained on. C is chosen inside the training folds.
- Translations: for each language of Tatoeba, which of the English sentences (at most 200) has the nearest vector to a foreign
  sentence, and the reverse. Pairs that are in the pretraining corpus are left out of a figure of its own.
- Masked tokens: loss on the held-out rows of ``examples/pretrain_mini.py``.

Character n-grams, which know no language, stand beside the first three.
"""

import importlib.util
import time
import zlib
from collections import defaultdict
from pathlib import Path

import numpy as np
from _common import DATA, data_file, describe_machine, json_line, make_parser, markdown_table, read_rows, set_threads
from scipy.stats import spearmanr
from sklearn.base import clone
from sklearn.dummy import DummyClassifier
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import f1_score
from sklearn.model_selection import GridSearchCV, StratifiedGroupKFold
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler, normalize

from skxlmr import XLMRobertaMaskedLM, XLMRobertaVectorizer
from skxlmr.utils._devices.device import resolve_device

PARTS = ("similarity", "topics", "translations", "masked")
TRAIN_LANGUAGES = ("en", "de", "es", "ru", "hi")
C = [0.0003, 0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1]  # with standardised vectors
NGRAM_C = [1, 10, 100, 1000]
N_FOLDS = 5
N_CANDIDATES = 200
N_MASKS = 5  # draws of the masked tokens
# The languages of skxlmr-mini under Tatoeba's codes. Romanian and Turkish are not in the file.
TATOEBA_CODES = {
    **{
        "ar": "ara",
        "bg": "bul",
        "de": "deu",
        "el": "ell",
        "es": "spa",
        "fr": "fra",
        "hi": "hin",
        "id": "ind",
        "it": "ita",
    },
    **{
        "ja": "jpn",
        "ko": "kor",
        "nl": "nld",
        "pl": "pol",
        "pt": "por",
        "ro": "ron",
        "ru": "rus",
        "sw": "swh",
        "th": "tha",
    },
    **{"tr": "tur", "uk": "ukr", "ur": "urd", "vi": "vie", "zh": "cmn"},
}


def percent(values):
    return f"{100 * np.mean(values):.1f}"


def character_ngrams():
    """TF-IDF of character n-grams, with rows of length 1."""
    return TfidfVectorizer(analyzer="char_wb", ngram_range=(2, 4), sublinear_tf=True)


def unit_vectors(vectorizer, texts):
    return normalize(vectorizer.transform(texts))


def row_cosines(a, b):
    """Cosine of each row of a with the same row of b; both of length 1, dense or sparse."""
    return np.asarray((a.multiply(b) if hasattr(a, "multiply") else a * b).sum(1)).ravel()


# Similarity -----------------------------------------------------------------------------------------------------------


def is_held_out(row, splits):
    """By its split, or by a hash of its first text where a file has one split only."""
    return row["split"] != "train" if len(splits) > 1 else zlib.crc32(row["text_a"].encode()) % 5 == 0


def similarity(vectorizer, args):
    """Rows of the table, and the means of its columns."""
    lines, columns = [], []
    for file in ("pairreg/stsb_multi_mt.jsonl", "pairreg/jsts.jsonl"):
        rows = read_rows(data_file(file), "lang", "split", "text_a", "text_b", "score")
        splits = {row["split"] for row in rows}
        ngrams = character_ngrams().fit(
            [row[side] for row in rows for side in ("text_a", "text_b") if not is_held_out(row, splits)]
        )
        for language in sorted({row["lang"] for row in rows}):
            of_language = [row for row in rows if row["lang"] == language][:: 20 if args.quick else 1]
            held = np.array([is_held_out(row, splits) for row in of_language])
            scores = np.array([row["score"] for row in of_language])
            figures = []
            for method in (ngrams, vectorizer):
                cosines = row_cosines(
                    *(unit_vectors(method, [row[side] for row in of_language]) for side in ("text_a", "text_b"))
                )
                figures += [spearmanr(cosines[part], scores[part])[0] for part in (held, np.ones(len(held), bool))]
            columns.append(figures)
            cells = (percent(figures[i]) for i in (0, 2, 1, 3))
            lines.append((language, f"{held.sum()} / {len(held)}", *cells))
    means = np.mean(columns, 0)
    lines.append(("mean", "", *(percent(means[i]) for i in (0, 2, 1, 3))))
    header = (
        "language",
        "rows held out / all",
        "n-grams, held out",
        "vectors, held out",
        "n-grams, all",
        "vectors, all",
    )
    print("\n**Similarity**: Spearman's correlation of the cosine with the scores, x 100. Nothing is trained.\n")
    print(markdown_table(header, lines))
    return {"held_out": means[2], "all": means[3], "ngrams_held_out": means[0], "ngrams_all": means[1], "rows": lines}


# Topics ---------------------------------------------------------------------------------------------------------------


def folds_by_sentence(rows, n_folds):
    """(training rows in the training languages, test rows) of each fold; no id is in both."""
    ids = sorted({row["id"] for row in rows})
    label_of = {row["id"]: row["label"] for row in rows}
    splitter = StratifiedGroupKFold(n_folds, shuffle=True, random_state=0)
    for train, _ in splitter.split(ids, [label_of[i] for i in ids], ids):
        known = {ids[i] for i in train}
        yield (
            np.array([i for i, row in enumerate(rows) if row["id"] in known and row["lang"] in TRAIN_LANGUAGES]),
            np.array([i for i, row in enumerate(rows) if row["id"] not in known]),
        )


def topics(vectorizer, args):
    """Accuracy by language."""
    rows = read_rows(data_file("seqclass/sib200_topics.jsonl"), "lang", "id", "label", "text")
    texts = np.array([row["text"] for row in rows], dtype=object)
    languages, labels, ids = (np.array([row[key] for row in rows]) for key in ("lang", "label", "id"))
    ngrams = make_pipeline(character_ngrams(), LogisticRegression(max_iter=1000))
    features = make_pipeline(StandardScaler(), LogisticRegression(max_iter=2000))
    methods = {
        "majority": (DummyClassifier(), texts[:, None], {}),
        "n-grams": (ngrams, texts, {"logisticregression__C": NGRAM_C}),
        "vectors": (features, vectorizer.transform(list(texts)), {"logisticregression__C": C}),
    }
    predicted, chosen = {name: labels.copy() for name in methods}, {}
    for name, (estimator, X, grid) in methods.items():
        for train, test in folds_by_sentence(rows, N_FOLDS):
            inner = StratifiedGroupKFold(3, shuffle=True, random_state=0)
            search = GridSearchCV(clone(estimator), grid, cv=inner).fit(X[train], labels[train], groups=ids[train])
            predicted[name][test] = search.predict(X[test])
            chosen.setdefault(name, []).append(search.best_params_.get("logisticregression__C"))
    places = {lang: languages == lang for lang in np.unique(languages)}
    places["mean, trained on"] = np.isin(languages, TRAIN_LANGUAGES)
    places["mean, unseen"] = ~places["mean, trained on"]
    accuracy = {
        where: {name: np.mean(p[of] == labels[of]) for name, p in predicted.items()} for where, of in places.items()
    }
    f1 = {
        where: {name: f1_score(labels[of], p[of], average="macro") for name, p in predicted.items()}
        for where, of in places.items()
    }
    lines = [
        (where, *(f"{percent(accuracy[where][name])} / {percent(f1[where][name])}" for name in methods))
        for where in places
    ]
    print(
        f"\n**Topics** (SIB-200): accuracy / macro-F1 in percent, {N_FOLDS} folds of {len(set(ids))} sentences. Trained on "
        f"{' '.join(TRAIN_LANGUAGES)}, tested on sentences of which no translation was trained on.\n"
    )
    print(markdown_table(("language", *methods), lines))
    print(f"\nC chosen in the folds: n-grams {chosen['n-grams']}, vectors {chosen['vectors']}")
    return {"trained": accuracy["mean, trained on"], "unseen": accuracy["mean, unseen"], "rows": lines}


# Translations ---------------------------------------------------------------------------------------------------------


def pretraining_script():
    path = Path(__file__).resolve().parents[1] / "examples" / "pretrain_mini.py"
    spec = importlib.util.spec_from_file_location("pretrain_mini", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def pretraining_pairs(corpus):
    """The pairs that the script reads, as {(text, translation)} in both orders."""
    pairs = {pair for of_languages in pretraining_script().read_pairs(corpus).values() for pair in of_languages}
    return pairs | {(b, a) for a, b in pairs}


def hits(foreign_vectors, english_vectors):
    """Whether each row's nearest is the row of the same number, from foreign to English and from English to foreign."""
    cosines = foreign_vectors @ english_vectors.T
    cosines = cosines.toarray() if hasattr(cosines, "toarray") else cosines
    own = np.arange(len(cosines))
    return cosines.argmax(1) == own, cosines.argmax(0) == own


def translations(vectorizer, args):
    """Accuracy of the nearest vector by language."""
    by_language = defaultdict(dict)
    for row in read_rows(data_file("rawtext/tatoeba_pairs.jsonl"), "lang", "text", "eng"):
        by_language[row["lang"]].setdefault(row["eng"], row["text"])  # two right answers would be one too many
    known = pretraining_pairs(args.corpus)
    trained, lines, figures = set(TATOEBA_CODES.values()), [], {}
    for language, pairs in sorted(by_language.items())[:: 10 if args.quick else 1]:
        english, foreign = (list(side)[:N_CANDIDATES] for side in (pairs.keys(), pairs.values()))
        is_new = np.array([(a, b) not in known for a, b in zip(foreign, english, strict=True)])
        of_language = []
        for method in (character_ngrams().fit(foreign + english), vectorizer):
            there, back = hits(*(unit_vectors(method, side) for side in (foreign, english)))
            of_language += [there.mean(), back.mean(), there[is_new].mean(), back[is_new].mean()]
        figures[language] = np.array(of_language)
        lines.append((language, len(english), is_new.sum(), *(percent(of_language[i]) for i in (0, 1, 4, 5, 6, 7))))
    groups = {
        "mean": list(figures),
        "mean, trained on": [lang for lang in figures if lang in trained],
        "mean, others": [lang for lang in figures if lang not in trained],
    }
    means = {name: np.mean([figures[lang] for lang in group], 0) for name, group in groups.items() if group}
    for name, mean in means.items():
        lines.append((f"{name} ({len(groups[name])})", "", "", *(percent(mean[i]) for i in (0, 1, 4, 5, 6, 7))))
    print(
        f"\n**Translations** (Tatoeba): how often the nearest of {N_CANDIDATES} sentences or fewer is the translation, in %, "
        "from the language to English (to en), and from English (from en). New: of the pairs that are not in the pretraining "
        "corpus, among all candidates.\n"
    )
    header = (
        "language",
        "pairs",
        "new",
        "n-grams, to en",
        "from en",
        "vectors, to en",
        "from en",
        "new, to en",
        "from en",
    )
    print(markdown_table(header, lines))
    names = [
        f"{method}{new}_{way}"
        for method in ("ngrams", "vectors")
        for new in ("", "_new")
        for way in ("to_en", "from_en")
    ]
    return {name: dict(zip(names, mean, strict=True)) for name, mean in means.items()} | {
        "languages": {lang: dict(zip(names, values, strict=True)) for lang, values in figures.items()}
    }


# Masked tokens --------------------------------------------------------------------------------------------------------


def masked_loss(lm, texts, batch_size=512):
    """Mean loss of the masked tokens, as in the validation of a fit, of each draw."""
    from skxlmr.estimators._language.task import MaskedLMTask
    from skxlmr.training import mean_losses

    encoded = lm.tokenizer_.encode_batch(texts, max_length=lm.config_.max_position_embeddings - 2)
    task = MaskedLMTask(encoded, None, lm.tokenizer_, np.ones(len(texts), np.float32))
    return [
        mean_losses(lm.module_, task, batch_size, np.random.default_rng(seed))["masked_lm"] for seed in range(N_MASKS)
    ]


def masked(vectorizer, args):
    """Mean loss, as a fit computes it on validation data."""
    _, held_out = pretraining_script().training_rows(args.corpus)
    texts = [text for pair in held_out for text in pair if text][:: 20 if args.quick else 1]
    lm = XLMRobertaMaskedLM.from_checkpoint(args.checkpoint, device=args.device)
    losses = masked_loss(lm, texts)
    print(
        f"\n**Masked tokens**: loss in nats on {len(held_out)} held-out rows of the pretraining corpus ({len(texts)} texts), "
        f"15 % of the tokens masked: {np.mean(losses):.3f}, mean of {N_MASKS} draws, {min(losses):.3f} to {max(losses):.3f}."
    )
    return {"loss": np.mean(losses), "losses": losses}


def main():
    parser = make_parser(__doc__, data="", checkpoint=False)
    parser.add_argument("--checkpoint", default="skxlmr-mini", help="name or folder")
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=PARTS, help="parts to run (default: all)")
    parser.add_argument("--corpus", type=Path, default=DATA / "pretrain", help="folder of the pretraining corpus")
    parser.add_argument("--device", default="auto")
    args = parser.parse_args()
    set_threads(args.threads)
    machine = describe_machine(str(resolve_device(args.device)), "scikit-learn")
    vectorizer = XLMRobertaVectorizer(args.checkpoint, device=args.device, memory=None).fit(["text"])
    print(f"`{args.checkpoint}`, {machine}")
    print(f"Vectors: pooling {vectorizer.pooling_}, {len(vectorizer.get_feature_names_out())} features.")
    start = time.perf_counter()
    results = {part: globals()[part](vectorizer, args) for part in args.parts}
    print(f"\n{time.perf_counter() - start:.0f} s in total.")
    print(json_line("evaluate_vectors", machine, checkpoint=args.checkpoint, results=results))


if __name__ == "__main__":
    main()
