"""Exact match and token F1 of answers, as the SQuAD and MLQA evaluation scripts count them."""

import re
import string
import unicodedata
from collections import Counter
from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import Any

import numpy as np
from sklearn.utils.validation import check_consistent_length

from skxlmr.metrics._answers import read_answers
from skxlmr.utils._sklearn import check_sample_weight

Languages = str | Sequence[str] | None  # of all rows, or of each row
# Articles and segmentation by language, as in MLQA's script.
_ARTICLES = {
    "en": r"\b(a|an|the)\b",
    "es": r"\b(un|una|unos|unas|el|la|los|las)\b",
    "vi": r"\b(của|là|cái|chiếc|những)\b",
    "de": r"\b(ein|eine|einen|einem|eines|einer|der|die|das|den|dem|des)\b",
    "ar": r"\sال^|ال",
}
_ALPHABETIC = {"en", "es", "hi", "vi", "de", "ar"}
_HAN = re.compile("([\u4e00-\u9fa5])")
# Han, kana, Thai, Lao, Burmese, Khmer: scripts without spaces between words.
_UNSPACED = re.compile(
    "([\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0003ffff\u3040-\u30ff\u31f0-\u31ff\uff66-\uff9d"
    "\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff])"
)


def normalize_answer(text: str, language: str | None = None) -> str:
    """Normalise an answer for comparison: lower case, no punctuation, no articles, single spaces.

    Parameters
    ----------
    text : str
        The answer.
    language : str or None
        Code of the language, as ``en`` or ``en-US``. The rules for ``en``, ``es``, ``hi``, ``vi``, ``de``, ``ar`` and ``zh``
        are those of MLQA's evaluation script, which drops the articles of some of them and counts each Chinese character as a
        token. For any other language and for None, no article is dropped, and each character of a script without spaces
        between words (Han, kana, Thai, Lao, Burmese, Khmer) is a token.

    Returns
    -------
    str
        Tokens separated by single spaces.

    Raises
    ------
    ValueError
        If ``language`` is no code, but a name such as "english".

    See Also
    --------
    answer_f1_score : Compares the tokens of normalised answers.
    answer_exact_match_score : Compares normalised answers as a whole.

    References
    ----------
    .. [1] Lewis et al. (2020), "MLQA: Evaluating Cross-lingual Extractive Question Answering", arXiv:1910.07475.

    Examples
    --------
    >>> from skxlmr.metrics import normalize_answer
    >>> normalize_answer("The Eiffel  Tower!", "en"), normalize_answer("埃菲尔铁塔。")
    ('eiffel tower', '埃 菲 尔 铁 塔')
    """
    language = None if language is None else _code(language)
    text = "".join(char for char in text.lower() if not _is_punctuation(char))
    if language in _ARTICLES:
        text = re.sub(_ARTICLES[language], " ", text)
    if language not in _ALPHABETIC:
        text = (_HAN if language == "zh" else _UNSPACED).sub(r" \1 ", text)
    return " ".join(text.split())


def _code(language: str) -> str:
    """The language of a code, which may name a country too."""
    found = re.fullmatch(r"([a-z]{2,3})([-_].*)?", language.lower()) if isinstance(language, str) else None
    if found is None:
        raise ValueError(f"language must be a code such as 'en', or None, got {language!r:.80}")
    return found[1]


def answer_f1_score(y_true: Any, y_pred: Any, *, language: Languages = None, sample_weight: Any = None) -> float:
    """Mean F1 of the tokens that predicted and true answers share.

    Read more in :doc:`/question_answering`.

    Parameters
    ----------
    y_true : list, Series, array or DataFrame of n_rows answers
        Like ``y`` of :class:`skxlmr.XLMRobertaQuestionAnswerer`: texts, texts with their starts, dicts, None for no answer.
        If a row has several answers, the best score counts.
    y_pred : list, Series, array or DataFrame of n_rows answers
        Predicted texts, '' for no answer.
    language : str, sequence of str or None
        Language of all rows, or of each row, for :func:`normalize_answer`.
    sample_weight : array-like of shape (n_rows,), optional
        How much each row counts in the mean.

    Returns
    -------
    float
        From 0 to 1. If there is no true answer, or nothing is left of it after normalisation, a row scores 1 if the same
        holds for the predicted answer, and 0 otherwise.

    See Also
    --------
    answer_exact_match_score : Counts answers that are right as a whole.
    normalize_answer : What is compared.
    skxlmr.XLMRobertaQuestionAnswerer : Predicts answers; this is its ``score``.

    References
    ----------
    .. [1] Rajpurkar et al. (2018), "Know What You Don't Know: Unanswerable Questions for SQuAD", arXiv:1806.03822.
    .. [2] Lewis et al. (2020), "MLQA: Evaluating Cross-lingual Extractive Question Answering", arXiv:1910.07475.

    Examples
    --------
    >>> from skxlmr.metrics import answer_f1_score
    >>> answer_f1_score(["the Eiffel Tower", None], ["Eiffel Tower", ""], language="en")
    1.0
    """
    return _mean_of_best(_f1, y_true, y_pred, language, sample_weight)


def answer_exact_match_score(
    y_true: Any, y_pred: Any, *, language: Languages = None, sample_weight: Any = None
) -> float:
    """Share of rows in which the normalised prediction equals a normalised true answer.

    Parameters
    ----------
    y_true, y_pred : list, Series, array or DataFrame of n_rows answers
        As for :func:`answer_f1_score`.
    language : str, sequence of str or None
        Language of all rows, or of each row, for :func:`normalize_answer`.
    sample_weight : array-like of shape (n_rows,), optional
        How much each row counts in the mean.

    Returns
    -------
    float
        From 0 to 1.

    See Also
    --------
    answer_f1_score : Counts an answer that is right in part.
    normalize_answer : What is compared.

    References
    ----------
    .. [1] Rajpurkar et al. (2016), "SQuAD: 100,000+ Questions for Machine Comprehension of Text", arXiv:1606.05250.

    Examples
    --------
    >>> from skxlmr.metrics import answer_exact_match_score
    >>> answer_exact_match_score([("Berlin", 10), ["39", "39 years"]], ["Berlin.", "age 39"])
    0.5
    """
    return _mean_of_best(lambda true, predicted: float(true == predicted), y_true, y_pred, language, sample_weight)


def _mean_of_best(
    value: Callable[[str, str], float], y_true: Any, y_pred: Any, language: Any, sample_weight: Any
) -> float:
    """Mean over the rows of the best value among the true answers of a row."""
    true_rows, predicted_rows = read_answers(y_true, "y_true"), read_answers(y_pred, "y_pred")
    languages = [language] * len(true_rows) if language is None or isinstance(language, str) else list(language)
    check_consistent_length(true_rows, predicted_rows, languages, sample_weight)
    if not true_rows:
        raise ValueError("y_true has no rows: at least one answer is needed")
    weights = check_sample_weight(sample_weight, np.empty(len(true_rows)), ensure_non_negative=True)
    values = []
    for row, (true, predicted, code) in enumerate(zip(true_rows, predicted_rows, languages, strict=True)):
        if len(predicted) > 1:
            raise ValueError(f"y_pred row {row}: expected one answer, found {len(predicted)}")
        found = normalize_answer(predicted[0][0], code) if predicted else ""
        accepted = [normalize_answer(text, code) for text, _ in true]
        values.append(max(value(text, found) for text in [text for text in accepted if text] or [""]))
    return float(np.average(values, weights=weights))


def _f1(true: str, predicted: str) -> float:
    true_tokens, predicted_tokens = true.split(), predicted.split()
    if not true_tokens or not predicted_tokens:
        return float(true == predicted)
    n_shared = sum((Counter(true_tokens) & Counter(predicted_tokens)).values())
    return 2 * n_shared / (len(true_tokens) + len(predicted_tokens))


@lru_cache(maxsize=4096)
def _is_punctuation(char: str) -> bool:
    return char in string.punctuation or unicodedata.category(char).startswith("P")
