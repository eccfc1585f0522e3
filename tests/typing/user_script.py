"""What people write: type checkers find nothing wrong here. It is checked, not run."""

from collections.abc import Iterable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import torch
from sklearn.base import BaseEstimator  # type: ignore[import-untyped]

import skxlmr
from skxlmr import (
    CheckpointError,
    TruncationWarning,
    XLMClassifier,
    XLMMaskedLM,
    XLMRobertaCausalLM,
    XLMRobertaClassifier,
    XLMRobertaDialogueLM,
    XLMRobertaMaskedLM,
    XLMRobertaMultipleChoiceClassifier,
    XLMRobertaQuestionAnswerer,
    XLMRobertaRegressor,
    XLMRobertaTokenClassifier,
    XLMRobertaVectorizer,
    XLMRobertaZeroShotClassifier,
    XLMVectorizer,
    all_estimators,
    convert,
    load,
    push_to_hub,
    save,
)
from skxlmr.checkpoints import read_config, read_model, resolve_checkpoint
from skxlmr.metrics import (
    answer_f1_score,
    entities,
    entity_f1_score,
    entity_report,
    pearson_score,
    recall_at_k,
    spearman_score,
    word_accuracy,
)
from skxlmr.text import SentencePieceTokenizer, Tokenizer, load_tokenizer

texts = ["Der Akku hält zwei Tage.", "The battery died."]
labels = np.array(["good", "bad"])
pairs = [("a cat", "un chat"), ("a dog", "le pain")]


def features(rows: Iterable[str], layers: int | list[int] = -1) -> np.ndarray[Any, Any]:
    vectorizer = XLMRobertaVectorizer("skxlmr-mini", pooling="cls", layers=layers, normalize=True, batch_size=8)
    steps = [("features", vectorizer), ("again", XLMRobertaVectorizer(Path("folder")))]
    for _, step in steps:
        step.set_output(transform="default").fit(list(rows))
    found: np.ndarray[Any, Any] = vectorizer.fit_transform(rows)
    print(vectorizer.get_feature_names_out(), vectorizer.n_truncated_, vectorizer.coverage(rows))
    return found


def n_parameters(estimator: BaseEstimator) -> int:
    """What takes scikit-learn's own base class only, as in its stubs ``GridSearchCV`` does."""
    return len(estimator.get_params())


class Grades(XLMRobertaClassifier):
    """A subclass without a constructor of its own."""

    def grade(self, rows: list[str]) -> list[float]:
        return [float(row.max()) for row in self.predict_proba(rows)]


class Quick(XLMRobertaClassifier):
    """A subclass with a constructor of its own."""

    def __init__(self, checkpoint: str = "skxlmr-mini", *, max_epochs: int = 1, verbose: int = 1) -> None:
        super().__init__(checkpoint, max_epochs=max_epochs, verbose=verbose)


def train() -> XLMRobertaClassifier:
    classifier = XLMRobertaClassifier(
        "FacebookAI/xlm-roberta-base",
        revision=None,
        max_length=128,
        learning_rate=1,
        head_learning_rate=1e-3,
        class_weight={"good": 1.0, "bad": 2.0},
        random_state=np.random.RandomState(0),
        device=torch.device("cpu"),
        resume_dir=Path("states"),
        threshold=[0.5, 0.25],
    )
    classifier.fit(texts, labels, sample_weight=[1.0, 2.0], X_val=texts, y_val=labels, resume="auto")
    classifier.set_params(max_epochs=3, early_stopping=True).set_fit_request(sample_weight=True)
    classifier.partial_fit(texts, labels, classes=["bad", "good"])
    predicted, proba = classifier.predict(texts), classifier.predict_proba(texts)
    print(predicted.shape, proba.argmax(axis=1), classifier.classes_, classifier.loss_curve_[-1], classifier.n_iter_)
    print(
        classifier.score(texts, labels) + 1.0, classifier.decision_function(texts), classifier.get_params()["verbose"]
    )
    print(
        Grades("skxlmr-mini", max_epochs=1).fit(texts, labels).grade(texts), Quick(verbose=0).fit(texts, labels).n_iter_
    )
    return classifier


def store(classifier: XLMRobertaClassifier) -> None:
    with TemporaryDirectory() as folder:
        save(classifier, folder, dtype="bfloat16", max_shard_size="2GB")
        convert(folder, Path(folder) / "copy", "bin")
        push_to_hub(classifier, "org/name", private=True)
        again: XLMRobertaClassifier = load(folder, device="cpu")
        print(again.predict(texts), load(folder).predict(texts), torch.load(folder))
    opened = XLMRobertaClassifier.from_checkpoint("org/name", threshold=0.3)
    print(opened.module_.training, sum(weight.numel() for weight in opened.module_.parameters()))


def other_tasks(classifier: XLMRobertaClassifier) -> None:
    zero_shot = XLMRobertaZeroShotClassifier(classifier, candidate_labels=["food", "weather"], multi_label=True).fit()
    print(zero_shot.predict(texts), zero_shot.classes_, n_parameters(zero_shot), n_parameters(classifier))
    print(XLMRobertaZeroShotClassifier.from_checkpoint("org/nli", candidate_labels=labels).predict_proba(texts))
    regressor = XLMRobertaRegressor("skxlmr-mini", long_text="window", stride=16).fit(pairs, [5.0, 0.5])
    print(pearson_score([5.0, 0.5], regressor.predict(pairs)), spearman_score([5.0, 0.5], [1, 2]))
    tagger = XLMRobertaTokenClassifier("skxlmr-mini", class_weight="balanced").fit(
        [["Anna", "walks"]], [["B-PER", "O"]]
    )
    found = tagger.predict([["Anna", "walks"]])
    print(entity_f1_score([["B-PER", "O"]], found), word_accuracy([["B-PER", "O"]], found), entities(["B-PER", "O"]))
    print(entity_report([["O"]], [["O"]]).splitlines(), entity_report([["O"]], [["O"]], output_dict=True)["micro avg"])
    answerer = XLMRobertaQuestionAnswerer("skxlmr-mini", stride=None, allow_no_answer=True).fit(pairs, ["cat", "dog"])
    print(answer_f1_score(["cat", "dog"], answerer.predict(pairs)), answerer.predict_spans(pairs, n_best=2)[0][0])
    chooser = XLMRobertaMultipleChoiceClassifier("skxlmr-mini", dtype="float32")
    print(chooser.fit([("a", ["b", "c"])], [0]).predict([("a", ["b", "c"])]))
    language_model = XLMRobertaMaskedLM("skxlmr-mini", pair_objective="alignment", subword_sampling=0.2).fit(pairs)
    print(language_model.fill_mask(["two <mask>"], top_k=3)[0][0][0]["score"], language_model.transform(texts))
    generator = XLMRobertaCausalLM("skxlmr-mini").fit(texts)
    print(generator.generate(["The"], max_new_tokens=5), generator.score_samples(texts).mean())
    ranker = XLMRobertaDialogueLM("skxlmr-mini", accumulate=4).fit([{"turns": [("user", "Hi"), ("system", "Hello")]}])
    print(ranker.rank_responses(["Hi"], texts), recall_at_k([0], [[0, 1]]) + 0.5, recall_at_k([0], [[0, 1]], [1, 2])[2])
    print(XLMVectorizer("xlm", lang="en").fit_transform(texts), XLMMaskedLM(lang=("de", "en"), objective="tlm"))
    print(XLMClassifier(lang="en", max_epochs=2).fit(texts, labels).predict(texts))


def parts() -> None:
    folder = resolve_checkpoint("skxlmr-mini")
    tokenizer: Tokenizer = load_tokenizer(folder)
    print(tokenizer.encode_batch(texts).lengths.tolist(), isinstance(tokenizer, SentencePieceTokenizer))
    print(read_config(folder)["hidden_size"], len(read_model(folder).tensors()))
    print([cls().get_params() for _, cls in all_estimators("classifier")], skxlmr.__version__, TruncationWarning)


try:
    print(features(texts).shape)
    store(train())
    parts()
except CheckpointError as error:
    print(error.file, error)
