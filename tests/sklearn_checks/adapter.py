"""Adapt the estimators to scikit-learn's checks, which pass only matrices of numbers.

A mixin before the class of the package overrides two things: the tags, without which hardly any check runs, and the hook that
reads X. scikit-learn validates the rows of numbers, which then become rows of what the estimator reads: a value becomes a word,
a row becomes a sentence (or a row of words, a question with a context, a prompt with choices, a dialogue), always the same one
for the same numbers. These rows go through the estimator's own hook. Targets are those of the check, except for taggers,
question answerers and zero-shot classifiers, which do not have numbers as targets; see their classes below.
"""

import zlib
from pathlib import Path

import numpy as np
from sklearn.utils.validation import check_consistent_length, validate_data
from torch import nn

import skxlmr
from skxlmr.metrics import answer_f1_score
from skxlmr.text import SentencePieceTokenizer
from tests.tiny import WORDS, train, write_checkpoint, write_xlm_checkpoint, xlm_tokenizer

COLUMNS = ("n_features_in_", "feature_names_in_")
LANGUAGES = [words.split() for words in WORDS.values()]


def words_of(row):
    """A word for each number: the column selects the language, the value in steps of a half selects the word."""
    languages = (LANGUAGES[column % len(LANGUAGES)] for column in range(len(row)))
    return [words[int(2 * value // 1) % len(words)] for value, words in zip(row.tolist(), languages, strict=True)]


def values_of(y):
    """The targets as Python objects, integral values as int."""
    values = np.asarray(y).ravel().tolist()
    return [int(value) if isinstance(value, float) and value.is_integer() else value for value in values]


class FromNumbers:
    """Reads each row of numbers as a sentence."""

    _double = False  # train and predict in float64

    def _check_X(self, X, reset, name="X"):
        numbers = validate_data(self, X, reset=reset, dtype=np.float64)
        columns = {key: vars(self).pop(key) for key in COLUMNS if key in vars(self)}
        try:
            return super()._check_X([self._row(words_of(row)) for row in numbers], reset, name)
        finally:
            vars(self).update(columns)  # those of the numbers, not of the single column of texts

    def _row(self, words):
        return " ".join(words)

    def _load_module(self, *args, **kwargs):
        module = super()._load_module(*args, **kwargs)
        return module.double() if self._double else module

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.input_tags.string, tags.input_tags.two_d_array = False, True
        return tags


class WithCoefficients(FromNumbers):
    """Exposes the weights of the last layer under the name that checks of linear classifiers compare."""

    @property
    def coef_(self):
        return [layer for layer in self.module_.modules() if isinstance(layer, nn.Linear)][-1].weight.detach().numpy()


class NumberClassifier(WithCoefficients, skxlmr.XLMRobertaClassifier):
    pass


class NumberXLMClassifier(WithCoefficients, skxlmr.XLMClassifier):
    pass


class NumberRegressor(FromNumbers, skxlmr.XLMRobertaRegressor):
    pass


class NumberVectorizer(FromNumbers, skxlmr.XLMRobertaVectorizer):
    pass


class NumberXLMVectorizer(FromNumbers, skxlmr.XLMVectorizer):
    pass


class NumberMaskedLM(FromNumbers, skxlmr.XLMRobertaMaskedLM):
    pass


class NumberXLMMaskedLM(FromNumbers, skxlmr.XLMMaskedLM):
    pass


class NumberCausalLM(FromNumbers, skxlmr.XLMRobertaCausalLM):
    pass


class NumberDialogueLM(FromNumbers, skxlmr.XLMRobertaDialogueLM):
    """Reads each row of numbers as a dialogue: the user says hello, then system and user take turns."""

    def _row(self, words):
        return [(("user", "system")[place % 2], word) for place, word in enumerate(["hello", *words])]


class NumberEmbedder(FromNumbers, skxlmr.XLMRobertaEmbedder):
    pass


class NumberMultipleChoiceClassifier(FromNumbers, skxlmr.XLMRobertaMultipleChoiceClassifier):
    """Reads each row of numbers as a prompt with four choices; a target is the index of one of them."""

    def _row(self, words):
        return " ".join(words), [" ".join([*words[place:], *words[:place], str(place)]) for place in range(4)]


class NumberZeroShotClassifier(FromNumbers, skxlmr.XLMRobertaZeroShotClassifier):
    """Turns classes into words: the class 1 is the label "topic 1"."""

    def _candidates(self, y):
        if y is None:
            return super()._candidates(y)
        labels = [f"topic {value}" if isinstance(value, int | str) else value for value in values_of(y)]
        super()._candidates(np.array(labels, dtype=object).reshape(np.asarray(y).shape))
        return np.unique(np.asarray(y))

    def _hypotheses(self):
        return [self.hypothesis_template.replace("{}", f"topic {label}") for label in self.classes_.tolist()]


class NumberTokenClassifier(FromNumbers, skxlmr.XLMRobertaTokenClassifier):
    """Reads each row of numbers as a row of words and an end; every word has the target of the row as its tag."""

    END = -99

    def _row(self, words):
        return [*words, "."]

    def _tags(self, y, rows):
        check_consistent_length(rows, y)
        return [[value] * (len(words) - 1) + [self.END] for value, words in zip(values_of(y), rows.words, strict=True)]

    def _check_targets(self, y, rows, weights, reset, name="y"):
        return super()._check_targets(self._tags(y, rows), rows, weights, reset, name)

    def _tags_of(self, classes, X):
        return classes

    def partial_fit(self, X, y):
        return super().partial_fit(X, y, [*set(values_of(y)), self.END])  # the checks pass classes to classifiers only

    def predict(self, X):
        return np.array([tags[0] for tags in super().predict(X)])

    def predict_proba(self, X):
        return np.stack(super().predict_proba(X))  # all rows have the same number of words

    def score(self, X, y, sample_weight=None):
        engine = self._engine()
        rows = self._check_X(X, reset=False)
        return self._score_tags(self._tags(y, rows), self._predict(engine, rows), sample_weight)


class NumberQuestionAnswerer(FromNumbers, skxlmr.XLMRobertaQuestionAnswerer):
    """Reads each row of numbers as a question and a context; an integer target says which word is the answer."""

    def _row(self, words):
        return f"{words[0]}?", " ".join([*words, "the", "end"])

    def _answers_of(self, y, contexts):
        check_consistent_length(contexts, y)
        pairs = zip(values_of(y), map(str.split, contexts), strict=True)
        return [words[value % len(words)] if isinstance(value, int) else value for value, words in pairs]

    def _check_targets(self, y, rows, weights, reset, name="y"):
        return super()._check_targets(self._answers_of(y, rows.second), rows, weights, reset, name)

    def predict(self, X):
        return np.array([zlib.crc32(answer.encode()) for answer in super().predict(X)])  # a number for each answer

    def score(self, X, y, sample_weight=None):
        answers = self._answers_of(y, self._check_X(X, reset=False).second)
        return answer_f1_score(answers, super().predict(X), sample_weight=sample_weight)


def public(adapted):
    """The class of the package behind an adapted class."""
    return next(cls for cls in adapted.__mro__ if cls.__module__.startswith("skxlmr."))


ADAPTED = {
    public(cls).__name__: cls
    for cls in list(vars().values())
    if isinstance(cls, type) and issubclass(cls, FromNumbers) and cls.__name__.startswith("Number")
}

PARAMS = {
    "max_epochs": 1,
    "warmup_ratio": 0.0,
    "schedule": "constant",
    "learning_rate": 1e-3,
    "batch_size": 64,
    "dtype": "float32",
    "random_state": 0,
}


def write_checkpoints(folder):
    """Write the checkpoints of the estimators, without dropout; one folder per model family."""
    folder = Path(folder)
    tokenizer = SentencePieceTokenizer(train(vocab_size=300))
    smallest = write_checkpoint(
        folder / "xlm-roberta",
        tokenizer,
        hidden_size=8,
        num_hidden_layers=1,
        intermediate_size=8,
        max_position_embeddings=400,
        hidden_dropout_prob=0.0,
        attention_probs_dropout_prob=0.0,
    )
    write_xlm_checkpoint(
        folder / "xlm",
        xlm_tokenizer(),
        emb_dim=8,
        n_layers=1,
        max_position_embeddings=400,
        dropout=0.0,
        attention_dropout=0.0,
        summary_first_dropout=0.0,
    )
    nli = skxlmr.XLMRobertaClassifier(smallest, max_epochs=1, random_state=0)
    skxlmr.save(nli.fit([("a", "b")] * 3, ["contradiction", "entailment", "neutral"]), folder / "nli")
    return folder


def make(name, checkpoints):
    """The adapted estimator for a public name, on its checkpoint."""
    family = "nli" if "ZeroShot" in name else "xlm-roberta" if "Roberta" in name else "xlm"
    estimator = ADAPTED[name](checkpoints / family)
    known = estimator.get_params()
    return estimator.set_params(**{param: value for param, value in PARAMS.items() if param in known})
