"""Numbers of fits and predictions, recorded before a change of the structure and compared to the last bit after it.

    python benchmarks/recorded_numbers.py --write FILE      record what this version computes
    python benchmarks/recorded_numbers.py --compare FILE    list every case that differs; the exit status says whether any does

Each case is a fit or a prediction of one estimator. Of an array its shape, its dtype and the SHA-256 of its bytes are kept, of
other answers their text. The bits depend on the processor, on the version of PyTorch and on the number of threads, which the
file names: compare only on the machine that recorded.
"""

import argparse
import hashlib
import json
import sys
import tempfile
import warnings
from pathlib import Path

import numpy as np
import torch

import skxlmr

ROOT = Path(__file__).resolve().parents[1]
MINI = "skxlmr-mini"
TEXTS = [
    "The room was clean and the breakfast plentiful.",
    "Das Zimmer war sauber, das Frühstück reichlich.",
    "La chambre était sale et le personnel impoli.",
    "Никогда больше: шумно и дорого!",
    "The battery lasts two days.",
    "Der Akku hält zwei Tage, mehr nicht.",
    "部屋はきれいで、朝食もよかったです。",
    "كانت الغرفة نظيفة",
    "Never again 😀: loud, dirty, expensive, and far from the station where we had to wait for an hour in the rain.",
    "Sehr gut.",
    "Excelente servicio, volveremos.",
    "The room was clean and the breakfast plentiful.",
]
LABELS = ["good", "good", "bad", "bad", "good", "bad", "good", "good", "bad", "good", "good", "good"]
PAIRS = list(zip(TEXTS, TEXTS[1:] + TEXTS[:1], strict=True))
INDICATORS = np.array([[i % 2, (i // 2) % 2, int(i > 6)] for i in range(12)])
COLUMNS = np.array([[LABELS[i], "abc"[i % 3]] for i in range(12)], dtype=object)
WORDS = [["Anna", "lebt", "in", "Rom"], ["Paul", "lives", "in", "Paris", "now"], ["Nobody", "here"]] * 3
TAGS = [["B-PER", "O", "O", "B-LOC"], ["B-PER", "O", "O", "B-LOC", "O"], ["O", "O"]] * 3
SENTENCES = ["Anna lebt in Rom.", "Paul lives in New York.", "Niemand da."] * 3
SPANS = [[(0, 4, "PER"), (13, 16, "LOC")], [(0, 4, "PER"), (14, 22, "LOC")], []] * 3
LONG = " ".join(TEXTS * 4)
QUESTIONS = [
    ("Who sings?", "A bird sings."),
    ("Wer singt?", f"{LONG} Ein Kind singt. {LONG}"),
    ("Who runs?", "A dog runs."),
]
ANSWERS = [("bird", 2), "Kind", ("dog", 2)]
CHOICES = [
    {"prompt": "It rained.", "choices": ["The street is wet.", "The street is dry."]},
    {"prompt": "Es schneite.", "choices": ["Heiß.", "Alles war grün.", "Alles war weiß."]},
    {"prompt": "He fell.", "choices": ["It hurt.", "He flew."]},
    {"prompt": "Sie lachte.", "choices": ["Es war traurig.", "Es war lustig."]},
]
DIALOGUES = [
    [("user", "A table for two, please."), ("system", "For what time?"), ("user", "At eight."), ("system", "Done.")],
    [("user", "Wann fährt der Zug?"), ("system", "Um neun Uhr.")],
    [("user", "Is it raining?"), ("system", "Yes, take an umbrella."), ("user", "Thanks."), ("system", "Bye.")],
]
FIT = {"max_epochs": 2, "batch_size": 4, "learning_rate": 1e-3, "random_state": 0, "dtype": "float32", "device": "cpu"}
PREDICT = {"dtype": "float32", "device": "cpu"}


def of(value):
    """What is kept of an answer."""
    if isinstance(value, np.ndarray) and value.dtype != object:
        content = np.ascontiguousarray(value).tobytes()
        return {"shape": list(value.shape), "dtype": value.dtype.str, "sha256": hashlib.sha256(content).hexdigest()}
    if isinstance(value, torch.Tensor):
        return of(value.detach().cpu().contiguous().view(torch.uint8).numpy() if value.ndim else value.numpy())
    if isinstance(value, dict):
        return {str(key): of(item) for key, item in value.items()}
    if isinstance(value, list | tuple | np.ndarray):
        return [of(item) for item in value]
    return repr(value.item() if isinstance(value, np.generic) else value)


def learnt(estimator):
    """Curves and weights of a fit."""
    weights = hashlib.sha256()
    for name, tensor in sorted(estimator.module_.state_dict().items()):
        weights.update(name.encode() + tensor.detach().cpu().contiguous().numpy().tobytes())
    return {
        "losses": of(estimator.loss_curve_),
        "scores": of(estimator.validation_scores_),
        "truncated": of(estimator.n_truncated_),
        "weights": weights.hexdigest(),
    }


def vectorizers():
    settings = {
        "mean": {},
        "cls": {"pooling": "cls"},
        "max": {"pooling": "max"},
        "two layers, unit length": {"layers": [0, 2, -1], "normalize": True},
        "cut": {"max_length": 8},
        "windows": {"max_length": 12, "long_text": "window", "stride": 3},
        "small batches": {"batch_size": 1},
        "bfloat16": {"dtype": "bfloat16"},
    }
    for name, params in settings.items():
        yield name, skxlmr.XLMRobertaVectorizer(MINI, **PREDICT | params, memory=None).fit(TEXTS).transform(TEXTS)
    yield "pairs", skxlmr.XLMRobertaVectorizer(MINI, **PREDICT, memory=None).fit(PAIRS).transform(PAIRS)


def classifiers():
    settings = {
        "plain": {},
        "early stopping": {"early_stopping": True, "validation_fraction": 0.4, "max_epochs": 4, "n_iter_no_change": 1},
        "accumulated": {"accumulate": 2, "schedule": "cosine", "layer_decay": 0.8, "head_learning_rate": 3e-3},
        "frozen": {"n_frozen_layers": 2, "class_weight": "balanced", "label_smoothing": 0.1},
        "recomputed": {"gradient_checkpointing": True, "max_grad_norm": None},
        "sampled": {"subword_sampling": 0.3},
        "windows": {"max_length": 12, "long_text": "window", "stride": 2},
        "bfloat16": {"dtype": "bfloat16"},
    }
    for name, params in settings.items():
        classifier = skxlmr.XLMRobertaClassifier(MINI, **FIT | params).fit(TEXTS, LABELS)
        yield name, [learnt(classifier), of(classifier.predict_proba(TEXTS)), of(classifier.predict(TEXTS))]
    weights = np.arange(12.0)
    classifier = skxlmr.XLMRobertaClassifier(MINI, **FIT).fit(PAIRS, LABELS, weights, X_val=PAIRS[:5], y_val=LABELS[:5])
    yield "weighted pairs", [learnt(classifier), of(classifier.decision_function(PAIRS))]
    for name, y in (("several labels", INDICATORS), ("several columns", COLUMNS)):
        classifier = skxlmr.XLMRobertaClassifier(MINI, **FIT).fit(TEXTS, y)
        yield name, [learnt(classifier), of(classifier.predict_proba(TEXTS)), of(classifier.score(TEXTS, y))]
    classifier = skxlmr.XLMRobertaClassifier(MINI, **FIT)
    for part in (slice(0, 6), slice(6, 12)):
        classifier.partial_fit(TEXTS[part], LABELS[part], classes=["bad", "good"])
    yield "in portions", [learnt(classifier), of(classifier.predict_log_proba(TEXTS))]
    classifier = skxlmr.XLMRobertaClassifier(MINI, **FIT, warm_start=True).fit(TEXTS, LABELS).fit(TEXTS[:6], LABELS[:6])
    yield "warm start", [learnt(classifier), of(classifier.predict_proba(TEXTS))]
    with tempfile.TemporaryDirectory() as folder:
        skxlmr.save(classifier, folder + "/saved")
        yield "saved and loaded", skxlmr.load(folder + "/saved").predict_proba(TEXTS)
        opened = skxlmr.XLMRobertaClassifier.from_checkpoint(folder + "/saved", **PREDICT)
        yield "from_checkpoint", opened.predict_proba(TEXTS)


def regressors():
    for name, y in (("one number", np.arange(12.0)), ("two numbers", np.stack([np.arange(12.0), np.ones(12)], 1))):
        regressor = skxlmr.XLMRobertaRegressor(MINI, **FIT, early_stopping=True, validation_fraction=0.3).fit(TEXTS, y)
        yield name, [learnt(regressor), of(regressor.predict(TEXTS))]
    regressor = skxlmr.XLMRobertaRegressor(MINI, **FIT, warm_start=True).fit(TEXTS, np.arange(12.0))
    regressor.fit(TEXTS, np.arange(12.0) ** 2).partial_fit(TEXTS[:4], np.arange(4.0))
    yield "continued", [learnt(regressor), of(regressor.predict(PAIRS[0]))]


def taggers():
    for name, X, y, params in (
        ("words", WORDS, TAGS, {}),
        ("constrained", WORDS, TAGS, {"constrained": True, "label_all_subwords": True, "class_weight": "balanced"}),
        ("spans", SENTENCES, SPANS, {"max_length": 10, "stride": 2}),
    ):
        tagger = skxlmr.XLMRobertaTokenClassifier(MINI, **FIT | {"max_epochs": 4} | params).fit(
            X, y, X_val=X[:3], y_val=y[:3]
        )
        answers = [of(tagger.predict(X[:3])), of(tagger.predict_proba(X[:3])), of(tagger.score(X[:3], y[:3]))]
        yield name, [learnt(tagger), *answers]
        for aggregation in ("simple", "first", "average", "max", "none", "word"):
            yield f"{name}, entities by {aggregation}", tagger.predict_entities(X[:3], aggregation)


def answerers():
    params = {"max_length": 64, "stride": 8, "max_epochs": 3, "align_to_words": False}
    answerer = skxlmr.XLMRobertaQuestionAnswerer(MINI, **FIT | params, allow_no_answer=True)
    answerer.fit(QUESTIONS, ANSWERS, X_val=QUESTIONS, y_val=ANSWERS)
    yield "answers", [learnt(answerer), of(answerer.predict_spans(QUESTIONS)), of(answerer.no_answer_score(QUESTIONS))]


def choosers():
    chooser = skxlmr.XLMRobertaMultipleChoiceClassifier(MINI, **FIT)
    chooser.fit(CHOICES, [0, 2, 0, 1], X_val=CHOICES, y_val=[0, 2, 0, 1])
    yield "choices", [learnt(chooser), of(chooser.predict_proba(CHOICES)), of(chooser.decision_function(CHOICES[:2]))]


def zero_shots():
    labels = ["entailment", "contradiction", "neutral"] * 4
    nli = skxlmr.XLMRobertaClassifier(MINI, **FIT).fit(PAIRS, labels)
    for name, params in (("one", {}), ("several", {"multi_label": True})):
        zero_shot = skxlmr.XLMRobertaZeroShotClassifier(
            nli, candidate_labels=["food", "weather", "sleep"], **PREDICT | params
        )
        yield name, zero_shot.fit().predict_proba(TEXTS)


def masked_models():
    for name, X, params in (
        ("texts", TEXTS, {}),
        ("translations", PAIRS, {"pair_objective": "translation"}),
        ("alignment", PAIRS, {"pair_objective": "alignment", "accumulate": 2, "max_length": 16}),
        ("sampled", TEXTS, {"subword_sampling": 0.2, "early_stopping": True, "validation_fraction": 0.3}),
    ):
        lm = skxlmr.XLMRobertaMaskedLM(MINI, **FIT | params).fit(X)
        yield name, [learnt(lm), of(lm.transform(X)), of(lm.score_samples(X[:4])), of(lm.score(X[:4]))]
    masked = ["The battery lasts two <mask>.", "<mask> Akku hält <mask> Tage."]
    yield "fillings", lm.fill_mask(masked)
    yield "fillings of targets", lm.fill_mask(masked, targets=["days", "Der", "zwei", "extraordinary"])


def causal_models():
    lm = skxlmr.XLMRobertaCausalLM(MINI, **FIT | {"max_epochs": 6}).fit(TEXTS, X_val=TEXTS[:3])
    yield "fit", [learnt(lm), of(lm.score_samples(TEXTS)), of(lm.perplexity(TEXTS))]
    prompts = ["The battery", "Der Akku hält", ""]
    yield "greedy", lm.generate(prompts)
    yield "beams", lm.generate(prompts, num_beams=3, repetition_penalty=1.2)
    yield (
        "drawn",
        lm.generate(prompts, do_sample=True, top_k=20, top_p=0.9, temperature=0.8, random_state=0, stop_tokens=["."]),
    )


def dialogue_models():
    for name, params in (("one batch", {}), ("accumulated", {"accumulate": 2, "batch_size": 2})):
        lm = skxlmr.XLMRobertaDialogueLM(MINI, **FIT | params).fit(DIALOGUES, X_val=DIALOGUES)
        ranks = lm.rank_responses(DIALOGUES, ["For what time?", "Um neun Uhr.", "Done."])
        yield name, [learnt(lm), of(lm.transform(DIALOGUES)), of(ranks), of(lm.score(DIALOGUES))]


def original_xlm():
    sys.path.insert(0, str(ROOT))
    from tests.tiny import sentences, write_xlm_checkpoint, xlm_tokenizer

    texts = sentences(12)
    pairs = list(zip(texts, texts[::-1], strict=True))
    with tempfile.TemporaryDirectory() as parent:
        plain = write_xlm_checkpoint(Path(parent, "plain"), xlm_tokenizer(model_max_length=64))
        tokenizer = xlm_tokenizer(model_max_length=64, lang2id={"de": 0, "en": 1, "ru": 2})
        several = write_xlm_checkpoint(Path(parent, "several"), tokenizer, n_langs=3, sinusoidal_embeddings=True)
        yield (
            "features",
            skxlmr.XLMVectorizer(plain, **PREDICT, layers=[0, -1], memory=None).fit(texts).transform(texts),
        )
        yield (
            "features, language",
            skxlmr.XLMVectorizer(several, **PREDICT, lang="de", memory=None).fit(pairs).transform(pairs),
        )
        classifier = skxlmr.XLMClassifier(several, **FIT, lang="en", early_stopping=True, validation_fraction=0.3)
        classifier.fit(texts, LABELS)
        yield "classifier", [learnt(classifier), of(classifier.predict_proba(texts))]
        for objective, X, lang in (("mlm", texts, "de"), ("clm", texts, "en"), ("tlm", pairs, ("de", "ru"))):
            lm = skxlmr.XLMMaskedLM(several, **FIT, objective=objective, lang=lang).fit(X, X_val=X[:4])
            yield objective, [learnt(lm), of(lm.score_samples(X[:4])), of(lm.transform(X))]


def saved_folders():
    for folder in sorted((ROOT / "tests" / "fixtures").glob("format_*/*")):
        if not (folder / "skxlmr.json").is_file():
            continue
        estimator = skxlmr.load(folder, device="cpu")
        kind = type(estimator).__name__
        rows = {
            "XLMRobertaTokenClassifier": WORDS if getattr(estimator, "_fitted_on", "words") == "words" else SENTENCES,
            "XLMRobertaQuestionAnswerer": QUESTIONS[:1],
            "XLMRobertaMultipleChoiceClassifier": CHOICES,
            "XLMRobertaDialogueLM": DIALOGUES,
        }.get(kind, PAIRS if getattr(estimator, "n_features_in_", 1) == 2 else TEXTS)
        for method in ("predict_proba", "predict", "transform", "score_samples"):
            if hasattr(estimator, method):
                yield f"{folder.parent.name}, {kind}, {method}", getattr(estimator, method)(rows)
                break


CASES = (
    *(vectorizers, classifiers, regressors, taggers, answerers, choosers, zero_shots),
    *(masked_models, causal_models, dialogue_models, original_xlm, saved_folders),
)


def record():
    """All cases by name."""
    found = {}
    for cases in CASES:
        for name, value in cases():
            found[f"{cases.__name__}: {name}"] = of(value)
    return found


def about():
    return {
        "torch": torch.__version__,
        "threads": torch.get_num_threads(),
        "processor": torch.backends.cpu.get_cpu_capability(),
    }


def main():
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--write", type=Path, metavar="FILE")
    parser.add_argument("--compare", type=Path, metavar="FILE")
    args = parser.parse_args()
    warnings.simplefilter("ignore")
    numbers = {"about": about(), **record()}
    if args.write:
        args.write.write_text(json.dumps(numbers, indent=1, sort_keys=True) + "\n")
        print(f"{len(numbers) - 1} cases")
    if args.compare:
        then = json.loads(args.compare.read_text())
        if then["about"] != numbers["about"]:
            print(f"recorded with {then['about']}, here {numbers['about']}: the last bits may differ")
        differing = sorted(name for name in then.keys() | numbers.keys() if then.get(name) != numbers.get(name))
        differing = [name for name in differing if name != "about"]
        for name in differing:
            print(
                f"differs: {name}\n  then {json.dumps(then.get(name))[:300]}\n  now  {json.dumps(numbers.get(name))[:300]}"
            )
        print(f"{len(numbers) - 1 - len(differing)} of {len(then) - 1} cases equal to the last bit")
        sys.exit(bool(differing))


if __name__ == "__main__":
    main()
