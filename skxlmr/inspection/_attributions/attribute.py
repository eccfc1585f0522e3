"""The function ``attributions``."""

from __future__ import annotations

from collections.abc import Callable
from numbers import Integral
from typing import Any, Literal

import numpy as np
from sklearn.utils import check_random_state

from skxlmr.estimators._answers.estimator import XLMRobertaQuestionAnswerer
from skxlmr.estimators._choices.estimator import XLMRobertaMultipleChoiceClassifier
from skxlmr.estimators._sequence.classifier import SequenceClassifier
from skxlmr.estimators._sequence.regressor import XLMRobertaRegressor
from skxlmr.estimators._sequence.vectorizer import Vectorizer
from skxlmr.estimators._sequence.zero_shot import XLMRobertaZeroShotClassifier
from skxlmr.estimators._tokens.predictions import TokenPredictions
from skxlmr.inference import check_has_weights
from skxlmr.inspection._attributions import sequences, tokens
from skxlmr.inspection._attributions.explained import Explained
from skxlmr.inspection._attributions.gradients import gradient_x_input, integrated_gradients
from skxlmr.inspection._attributions.masking import occlusion, shapley
from skxlmr.inspection._attributions.units import merged_words
from skxlmr.inspection._attributions.value import Place, TokenAttribution
from skxlmr.inspection._last_step import unwrapped
from skxlmr.utils._warnings import warn_once_per_call

METHODS = ("integrated_gradients", "gradient_x_input", "occlusion", "shapley")
TOKENS_AT_ONCE = 2**20  # of the variants that are in memory together
GAP = 0.05  # a larger share of what is to be explained is worth a warning

_SEQUENCES: dict[type, Callable[[Any, Any, Any], tuple[Any, Explained]]] = {
    SequenceClassifier: sequences.classes,
    XLMRobertaRegressor: sequences.numbers,
    XLMRobertaMultipleChoiceClassifier: sequences.choices,
    XLMRobertaZeroShotClassifier: sequences.labels_in_words,
    Vectorizer: sequences.similarity,
}


def attributions(
    estimator: Any,
    X: Any,
    method: Literal["integrated_gradients", "gradient_x_input", "occlusion", "shapley"] = "integrated_gradients",
    *,
    target: Any = None,
    word: Any = None,
    edge: Literal["both", "start", "end"] = "both",
    level: Literal["word", "token"] = "word",
    n_steps: int = 32,
    n_permutations: int = 16,
    random_state: Any = None,
) -> list[TokenAttribution]:
    """What each word of a text contributes to a prediction.

    The logit is explained, not the probability: a probability that is near 0 or 1 hardly changes with any word.

    =========================================  ==========================================================================
    Estimator                                  What is explained
    =========================================  ==========================================================================
    ``XLMRobertaClassifier``                   the logit of a class or label; of a long text in windows their mean
    ``XLMClassifier``                          the same
    ``XLMRobertaRegressor``                    the output before its activation
    ``XLMRobertaTokenClassifier``              the logit of the tag of one ``word``
    ``XLMRobertaQuestionAnswerer``             the logit that an answer begins where it does plus the logit that it ends
                                               there, or one of them (``edge``)
    ``XLMRobertaMultipleChoiceClassifier``     the score of a choice
    ``XLMRobertaZeroShotClassifier``           the logit of entailment of a label's hypothesis; with ``multi_label`` minus
                                               that of contradiction
    ``XLMRobertaVectorizer``                   the cosine of the vectors of two texts, each encoded on its own
    ``XLMVectorizer``                          the same
    =========================================  ==========================================================================

    Contributions are relative to a baseline, in which the mask token stands in place of each token of the texts. Special
    tokens and a prompt stay. Tokens are merged to words; the values of a word's tokens are summed. In scripts without spaces
    a word is what the tokenizer's pieces cover.

    Parameters
    ----------
    estimator : estimator, or Pipeline or search that ends in one
        Fitted. Of a Pipeline, the last step is explained, on the texts that the steps before it make of X.
    X : list, array, Series or DataFrame
        What ``predict`` takes; for a vectorizer pairs of texts.
    method : {'integrated_gradients', 'gradient_x_input', 'occlusion', 'shapley'}
        - ``'integrated_gradients'`` [1]_: gradients with respect to the embeddings of the words, integrated on the straight
          way from the baseline. The values sum to the difference to the baseline, but for ``completeness_gap``.
        - ``'gradient_x_input'``: product of the gradient at the text and the way from the baseline to it. One pass and no more;
          no sum holds, and where the model is sure, the gradient says little: the least reliable of the four.
        - ``'occlusion'`` [2]_: what is lost where a word is masked; one pass for each word. Words that stand for one another
          get too little.
        - ``'shapley'`` [3]_: what a word adds to a random set of the others, the mean over orders of the words. The values
          sum to the difference to the baseline.

        The first two need the weights in torch, and compute in float32 whatever ``dtype`` is. The last two compute as the
        estimator predicts, and work with ``load_onnx`` too.
    target : object, optional
        What is explained: a class, label or tag; the number of an output or choice; ``(column, class)`` where y had several
        columns of classes; an answer as a text of the context or as its characters ``(start, end)``, '' for no answer. A
        list, array or Series has one for each row. By default what is predicted, of several labels the most probable.
    word : int or list of int, optional
        For taggers, which word's tag is explained, counted from 0; or one number for each row. Of texts, the words are those
        that ``predict_proba`` has rows for.
    edge : {'both', 'start', 'end'}
        For answers, whether the start, the end or the sum of both is explained.
    level : {'word', 'token'}
        Whether words get values, or tokens. Tokens that share a character stay together.
    n_steps : int
        Points of the integral, for ``'integrated_gradients'``.
    n_permutations : int
        Orders of the words for ``'shapley'``, half of them the reverse of the others: an even number. Where a text's words
        have no more sets than that times their number (with 16, up to 6 words), the values are exact.
    random_state : int, RandomState instance or None
        Draws these orders.

    Returns
    -------
    list of TokenAttribution
        One for each row. Tokens that were cut since the row is too long have no value, and are counted in ``n_dropped``.
        Taggers and question answerers read long rows in windows; only words of the window that decides have values.

    Raises
    ------
    TypeError
        If the estimator is none of these.
    ValueError
        If X or an argument does not fit (names the row), or a gradient is asked of an ONNX graph.

    See Also
    --------
    TokenAttributionDisplay : Shows them as coloured text or bars.

    References
    ----------
    .. [1] Sundararajan et al. (2017), "Axiomatic Attribution for Deep Networks", arXiv:1703.01365.
    .. [2] Li et al. (2016), "Understanding Neural Networks through Representation Erasure", arXiv:1612.08220.
    .. [3] Štrumbelj & Kononenko (2014), "Explaining prediction models and individual predictions with feature contributions",
       Knowledge and Information Systems 41. Orders with their reverse: Mitchell et al. (2022), "Sampling Permutations for
       Shapley Value Estimation", arXiv:2104.12199.

    Examples
    --------
    >>> from skxlmr import XLMRobertaClassifier
    >>> from skxlmr.inspection import attributions
    >>> texts = ["Guter Film", "Great film", "Schlechter Film", "Bad film"]
    >>> classifier = XLMRobertaClassifier("skxlmr-mini", learning_rate=1e-3, max_epochs=20, random_state=0)
    >>> classifier = classifier.fit(texts, ["good", "good", "bad", "bad"])
    >>> found = attributions(classifier, ["Great film", "Schlechter Film"], method="occlusion")
    >>> [(row.target, row.strongest(1)[0][0]) for row in found]
    [('good', 'Great'), ('bad', 'Schlechter')]
    """
    _check_arguments(method, level, n_steps, n_permutations)
    estimator, X = unwrapped(estimator, X)
    engine, explained = _explained(estimator, X, target, word, edge)
    if method not in ("occlusion", "shapley"):
        check_has_weights(estimator.module_, f"method={method!r} (use 'occlusion' or 'shapley', or the weights)")
    mask_id, draws = estimator.tokenizer_.mask_token_id, check_random_state(random_state)
    distinct, first = _distinct(explained)
    found: list[TokenAttribution] = []
    for rows in _portions(explained, distinct, method, n_steps, n_permutations):
        part = explained.take(rows)
        of_words = [_words(part, row, level) for row in range(len(part))]
        spans, part_of_token = [each[0] for each in of_words], [each[1] for each in of_words]
        if method in ("occlusion", "shapley"):
            if method == "occlusion":
                values, prediction_N, baseline_N = occlusion(engine, part, mask_id, part_of_token)
            else:
                values, prediction_N, baseline_N = shapley(engine, part, mask_id, part_of_token, n_permutations, draws)
        else:
            if method == "integrated_gradients":
                values_T, prediction_N, baseline_N = integrated_gradients(engine, part, mask_id, n_steps)
            else:
                values_T, prediction_N, baseline_N = gradient_x_input(engine, part, mask_id)
            values = [
                np.bincount(
                    of_token[of_token >= 0], values_T[part.tokens(row)][of_token >= 0], minlength=len(spans[row])
                )
                for row, of_token in enumerate(part_of_token)
            ]
        found += [
            TokenAttribution(
                part.texts[row],
                tuple(spans[row]),
                values[row],
                method,
                part.targets[row],
                float(prediction_N[row]),
                float(baseline_N[row]),
                part.names,
                None if part.marks is None else part.marks[row],
                int(part.n_dropped[row]),
            )
            for row in range(len(part))
        ]
    if method == "integrated_gradients":
        _warn_of_gaps(found, n_steps)
    return [found[i] for i in first]


def _check_arguments(method: str, level: str, n_steps: Any, n_permutations: Any) -> None:
    if method not in METHODS:
        raise ValueError(f"method must be one of {', '.join(METHODS)}, got {method!r}")
    if level not in ("word", "token"):
        raise ValueError(f"level must be 'word' or 'token', got {level!r}")
    for name, value, least, step in (("n_steps", n_steps, 1, 1), ("n_permutations", n_permutations, 2, 2)):
        if isinstance(value, bool) or not isinstance(value, Integral) or value < least or value % step:
            kind = "an even number" if step == 2 else "a whole number"
            raise ValueError(f"{name} must be {kind} from {least}, got {value!r}")


def _explained(estimator: Any, X: Any, target: Any, word: Any, edge: str) -> tuple[Any, Explained]:
    is_tagger, is_answerer = (isinstance(estimator, kind) for kind in (TokenPredictions, XLMRobertaQuestionAnswerer))
    if word is not None and not is_tagger:
        raise ValueError(f"word is for taggers, and {type(estimator).__name__} is none: leave it out")
    if edge != "both" and not is_answerer:
        raise ValueError(f"edge is for question answerers, and {type(estimator).__name__} is none: leave it out")
    if is_tagger:
        return tokens.tags(estimator, X, target, word)
    if is_answerer:
        return tokens.answers(estimator, X, target, edge)
    for kind, explain in _SEQUENCES.items():
        if isinstance(estimator, kind):
            return explain(estimator, X, target)
    raise TypeError(
        f"attributions can't explain a {type(estimator).__name__}: it takes fitted classifiers, regressors, taggers, question "
        "answerers, multiple-choice and zero-shot classifiers and vectorizers of skxlmr, or a Pipeline or search that ends in "
        "one. lime and shap explain whatever has predict_proba"
    )


def _distinct(explained: Explained) -> tuple[list[int], list[int]]:
    """The rows that differ in what is explained, and for each row its number among them."""
    numbers: dict[Any, int] = {}
    distinct: list[int] = []
    first: list[int] = []
    for row in range(len(explained)):
        mark = None if explained.marks is None else explained.marks[row]
        key = explained.texts[row], repr(explained.words[row]), repr(explained.targets[row]), mark
        if key not in numbers:
            numbers[key] = len(distinct)
            distinct.append(row)
        first.append(numbers[key])
    return distinct, first


def _portions(explained: Explained, rows: list[int], method: str, n_steps: int, n_permutations: int) -> list[list[int]]:
    """Rows whose variants are in memory together."""
    portions: list[list[int]] = []
    size, n_tokens = TOKENS_AT_ONCE, explained.n_tokens
    for row in rows:
        n = n_tokens[row]  # at least as many as there are words
        n_variants = {"occlusion": n + 2, "shapley": n * n_permutations + 2, "gradient_x_input": 3}.get(
            method, n_steps + 2
        )
        size += n * n_variants
        if size >= TOKENS_AT_ONCE:
            portions.append([])
            size = n * n_variants
        portions[-1].append(row)
    return portions


def _words(explained: Explained, row: int, level: str) -> tuple[list[Place], np.ndarray]:
    """The words of a row with values, and the word of each of its tokens, -1 for those that stay."""
    tokens = explained.tokens(row)
    text_T, places_T2 = explained.text_T[tokens], explained.places_T2[tokens]
    spans: list[Place] = []
    part_T = np.full(len(text_T), -1)
    for number, text in enumerate(explained.texts[row]):
        mine = text_T == number
        if not mine.any():
            continue
        cuts = explained.words[row][number] if level == "word" else list(map(tuple, places_T2[mine].tolist()))
        found, of_token = merged_words(text, cuts, places_T2[mine])
        part_T[mine] = of_token + len(spans)
        spans += [(number, start, end) for start, end in found]
    return spans, part_T


def _warn_of_gaps(found: list[TokenAttribution], n_steps: int) -> None:
    """Tell where the points of the integral are too few."""
    far = 0
    for row in found:
        assert row.prediction is not None and row.baseline is not None and row.completeness_gap is not None
        whole = max(abs(row.prediction - row.baseline), float(np.abs(row.values).sum()))
        far += abs(row.completeness_gap) > GAP * whole + 1e-4
    if far:
        warn_once_per_call(
            f"the values of {far} of {len(found)} texts miss their sum by more than {GAP:.0%} of what they explain: raise "
            f"n_steps (it is {n_steps}); completeness_gap tells how much each misses",
            about="completeness",
        )
