"""Questions and contexts to answers."""

from dataclasses import replace
from math import exp
from numbers import Integral, Real
from typing import Any, Literal, Self

import numpy as np

from skxlmr.estimators._answers.rows import check_questions, cut_questions, question_table, read_targets
from skxlmr.estimators._answers.search import RowAnswers, best_answers
from skxlmr.estimators._answers.task import SpanTask
from skxlmr.estimators._core.truncation import warn_of_truncation
from skxlmr.estimators._fine_tuning.fine_tuned import FineTuned
from skxlmr.estimators._fine_tuning.training_rows import TrainingRows
from skxlmr.estimators.heads import QUESTION_ANSWERING
from skxlmr.estimators.parameters import (
    AT_LEAST_0,
    AT_LEAST_1,
    CheckpointParameters,
    SamplingParameters,
    changed,
    estimator,
    parameter,
)
from skxlmr.inference import Engine
from skxlmr.metrics import answer_f1_score
from skxlmr.text import EncodedBatch, NoRoomError, SubwordSampling
from skxlmr.utils._containers import known_container
from skxlmr.utils._shown.results import Answers
from skxlmr.utils._sklearn import Interval, StrOptions, fit_context
from skxlmr.utils._validation import Texts
from skxlmr.utils._warnings import warn_once_per_call

STRIDE = 128  # of windows of 512 tokens; a quarter of shorter ones


@estimator
class XLMRobertaQuestionAnswerer(SamplingParameters, FineTuned):
    """Find the part of a text that answers a question, by fine-tuning XLM-RoBERTa.

    The model computes two logits for every token of the context: that the answer starts there, and that it ends there. A long
    context is read in overlapping windows, each after the whole question. In training, a window that does not show the
    whole answer points to its first token, ``<s>``, which stands for "no answer here".

    Read more in :doc:`/question_answering`.

    Parameters
    ----------
    {parameters}

    Attributes
    ----------
    module_ : torch.nn.Module
        The encoder with its head.
    tokenizer_ : Tokenizer
        The checkpoint's tokenizer.
    config_ : ModelConfig
        Geometry of the checkpoint.
    loss_curve_ : list of float
        Mean training loss of each epoch.
    validation_scores_ : list of float or None
        Token F1 on the validation data after each epoch; None without validation data.
    {of_a_fit}
    n_truncated_ : int
        Questions that ``long_question='truncate'`` cut; nothing else is cut, a long context has several windows.
    n_features_in_ : int
        2, the question and the context.
    feature_names_in_ : ndarray of str
        Names of these two columns, of a DataFrame that was passed to ``fit``.

    See Also
    --------
    XLMRobertaTokenClassifier : Parts of texts without a question: names, places, products.
    XLMRobertaRegressor : Puts documents in order by how well they answer, before one of them is searched for the answer.
    skxlmr.metrics.answer_f1_score : The score, with the rules of each language.
    skxlmr.inspection.AnswerDisplay : Answers marked in their contexts.

    References
    ----------
    .. [1] Conneau et al. (2020), "Unsupervised Cross-lingual Representation Learning at Scale", arXiv:1911.02116.
    .. [2] Devlin et al. (2019), "BERT: Pre-training of Deep Bidirectional Transformers", section 4.2, arXiv:1810.04805.
    .. [3] Rajpurkar et al. (2018), "Know What You Don't Know: Unanswerable Questions for SQuAD", arXiv:1806.03822.

    Examples
    --------
    >>> from skxlmr import XLMRobertaQuestionAnswerer
    >>> X = [("Who sings?", "A bird sings."), ("Wer singt?", "Ein Kind singt."), ("Who runs?", "A dog runs.")]
    >>> y = [("bird", 2), ("Kind", 4), ("dog", 2)]
    >>> answerer = XLMRobertaQuestionAnswerer("skxlmr-mini", learning_rate=1e-3, max_epochs=15, random_state=0)
    >>> answerer.fit(X, y).predict([("Who sings?", "A bird sings.")])
    array(['bird'], dtype=object)
    """

    max_length: int | None = changed(
        CheckpointParameters,
        "max_length",
        None,
        "Most tokens of a window: the question, a part of its context and the special tokens. None is as many as "
        "the checkpoint allows.",
    )
    stride: int | None = parameter(
        None,
        [AT_LEAST_0, None],
        "Tokens that neighbouring windows of a long context share. None is 128, or a quarter of ``max_length`` if "
        "that is less.",
    )
    long_question: str = parameter(
        "error",
        [StrOptions({"error", "truncate"})],
        "What happens to a question that leaves no room in a window for a part of its context: ``'error'`` names the row, "
        "``'truncate'`` cuts the question to half of the window, counts it and warns.",
    )
    max_answer_length: int = parameter(15, [AT_LEAST_1], "Most tokens of a predicted answer.")
    align_to_words: bool = parameter(
        False,
        ["boolean"],
        "Let predicted answers reach to the next white space on both sides, as the pipeline of ``transformers`` "
        "does by default. That takes in punctuation, and whole clauses in scripts without spaces.",
    )
    allow_no_answer: bool = parameter(
        False, ["boolean"], "Whether ``predict`` may say that the context does not hold the answer."
    )
    no_answer_threshold: float = parameter(
        0.0,
        [Interval(Real, None, None, closed="neither")],
        "``predict`` returns no answer where ``no_answer_score`` is higher than this. Used with ``allow_no_answer``.",
    )

    _head = QUESTION_ANSWERING
    _requires_y = True

    @fit_context(prefer_skip_nested_validation=True)
    def fit(
        self,
        X: Any,
        y: Any,
        sample_weight: Any = None,
        X_val: Any = None,
        y_val: Any = None,
        *,
        resume: bool | Literal["auto"] = False,
    ) -> Self:
        """Fine-tune the checkpoint.

        Parameters
        ----------
        X : DataFrame, list of dict, list of pairs or array of shape (n_rows, 2)
            Questions and contexts. Of a DataFrame and of dicts, the columns named ``question`` and ``context``; otherwise
            the first column is the question, the second the context.
        y : list, Series, array or DataFrame of n_rows answers
            For each row the answer's text and the character of the context where it starts: a dict or a DataFrame with
            ``text`` and ``answer_start``, or a tuple. Without a start, the text's first occurrence in the context is
            meant. None or an empty text means no answer. Of several answers (a list, or SQuAD's dict of lists) the first is
            trained on, and all count as right in a score.
        sample_weight : array-like of shape (n_rows,), optional
            Weight of each row in the loss; a weight of 2 counts like two rows.
        X_val : DataFrame, list of dict, list of pairs or array of shape (n_val_rows, 2), optional
            Validation questions and contexts, for ``validation_scores_`` and early stopping.
        y_val : list, Series, array or DataFrame, optional
            Their answers.
        resume : bool or 'auto'
            Continue from the state in ``resume_dir`` if there is one of the same fit; else start from scratch. True refuses the
            state of another fit; with ``'auto'`` each fit has a folder of its own in ``resume_dir``, as searches need it, and
            continues a shorter one where the learning rate is constant.

        Returns
        -------
        self

        Raises
        ------
        CheckpointError
            If the checkpoint cannot be read or does not fit.
        ValueError
            If a question or a context is not a text or empty, or an answer is not where it should be in its context (names
            the row), or a question leaves no room for its context in ``max_length`` tokens.
        FloatingPointError
            If the loss or the gradient stops being finite; names the rows.
        KeyboardInterrupt
            Passed on; after at least one epoch the weights of the last finished one are in place.
        """
        return self._fit(X, y, sample_weight, X_val, y_val, resume=resume)

    def predict(self, X: Any) -> np.ndarray:
        """Answer to each question.

        Parameters
        ----------
        X : DataFrame, list of dict, list of pairs or array of shape (n_rows, 2)
            Questions and contexts.

        Returns
        -------
        ndarray of shape (n_rows,) of str, object
            Parts of the contexts as they stand there; '' for no answer.
        """
        questions, answers = self._answers(X, n_best=1)
        return np.array(self._best(questions.second or [], answers), dtype=object)

    def predict_spans(self, X: Any, n_best: int = 5, distinct: bool = True) -> list[list[dict[str, Any]]]:
        """Best answers to each question with their scores and places.

        The score is the probability of the start times that of the end, among the tokens of a window's context and its
        ``<s>``. With ``allow_no_answer``, no answer is among the answers, with the lowest score of ``<s>`` in any window;
        it is ranked as if its score were ``exp(-no_answer_threshold)`` times what it is.

        Parameters
        ----------
        X : DataFrame, list of dict, list of pairs or array of shape (n_rows, 2)
            Questions and contexts.
        n_best : int
            Most answers for a question.
        distinct : bool
            Whether a part of the context that several windows show counts once, with its best score. Together with
            ``align_to_words=True``, False returns the scores of the pipeline of ``transformers`` 4.

        Returns
        -------
        list of list of dict
            For each row its answers, best first: ``answer``, ``score``, and the characters ``start`` and ``end`` between
            which it stands in the context, both 0 for no answer. At a prompt the list shows itself as a table, in a notebook
            with the answers marked in their contexts; ``print``, pickles and JSON are those of a plain list.

        Examples
        --------
        >>> from skxlmr import XLMRobertaQuestionAnswerer
        >>> X = [("Who sings?", "A bird sings."), ("Wer singt?", "Ein Kind singt."), ("Who runs?", "A dog runs.")]
        >>> answerer = XLMRobertaQuestionAnswerer("skxlmr-mini", learning_rate=1e-3, max_epochs=15, random_state=0)
        >>> ((best,),) = answerer.fit(X, ["bird", "Kind", "dog"]).predict_spans([("Who sings?", "A bird sings.")], n_best=1)
        >>> best["answer"], best["start"], best["end"], 0 < best["score"] < 1
        ('bird', 2, 6, True)
        """
        if isinstance(n_best, bool) or not isinstance(n_best, Integral) or n_best < 1:
            raise ValueError(f"n_best must be a whole number from 1, got {n_best!r}")
        questions, answers = self._answers(X, int(n_best), distinct)
        contexts = questions.second or []
        found = (self._as_records(context, row)[:n_best] for context, row in zip(contexts, answers, strict=True))
        return Answers.of_questions(questions.first, contexts, found)

    def no_answer_score(self, X: Any) -> np.ndarray:
        """Log-odds that a context holds no answer, against the best answer found in it.

        In a context of one window this is the difference of logits that the SQuAD 2.0 scripts compare with a threshold.

        Parameters
        ----------
        X : DataFrame, list of dict, list of pairs or array of shape (n_rows, 2)
            Questions and contexts.

        Returns
        -------
        ndarray of shape (n_rows,), float64
            What ``no_answer_threshold`` is compared with; choose that on validation data.
        """
        return np.array([row.null_log_odds for row in self._answers(X, n_best=1)[1]])

    def score(self, X: Any, y: Any, sample_weight: Any = None) -> float:
        """Token F1 of the predicted answers, as in the SQuAD and MLQA scripts.

        Parameters
        ----------
        X : DataFrame, list of dict, list of pairs or array of shape (n_rows, 2)
            Questions and contexts.
        y : list, Series, array or DataFrame of n_rows answers
            Only the texts count, not where they start.
        sample_weight : array-like of shape (n_rows,), optional
            How much each row counts.

        Returns
        -------
        float
            :func:`skxlmr.metrics.answer_f1_score` with its rules for text of any language.
        """
        return answer_f1_score(y, self.predict(X), sample_weight=sample_weight)

    def _check_X(self, X: Any, reset: bool, name: str = "X") -> Texts:
        X = known_container(X, name)
        table = question_table(X, name)
        questions = check_questions(table, name)
        if reset or table is X or hasattr(table, "columns"):  # records name their columns themselves
            self._check_columns(table, 2, reset)
        return questions

    def _check_targets(self, y: Any, rows: Any, weights: np.ndarray, reset: bool, name: str = "y") -> np.ndarray:
        return read_targets(rows.second, y, name)

    def _encode(self, rows: Any, sampling: SubwordSampling | None = None, **options: Any) -> EncodedBatch:
        """The windows; a question that leaves no room for its context is cut, or its row is named."""
        limit = self._limit()
        budget, stride = limit - self.tokenizer_.n_special(pair=True), self._stride(limit)
        try:
            return self._tokenize(rows, limit, sampling=sampling, **options)
        except NoRoomError as error:
            if self.long_question == "error":
                raise _no_room(rows, error.row, limit, budget, stride, ", or set long_question='truncate'") from error
        cut, lost_N, n_kept = cut_questions(rows, self.tokenizer_, budget, stride)
        try:
            encoded = self._tokenize(cut, limit, sampling=sampling, **options)
        except NoRoomError as error:  # windows that share all tokens but one, or a drawn segmentation
            raise _no_room(rows, error.row, limit, budget, stride, "") from error
        n_dropped = np.zeros(len(encoded), np.int64)
        n_dropped[np.searchsorted(encoded.input_rows, np.arange(len(rows)))] = lost_N  # of each row's first window
        encoded = replace(encoded, n_dropped=n_dropped)
        if sampling is None:
            warn_of_truncation(encoded, lost_N, n_kept, "questions")
        return encoded

    def _stride(self, max_length: int) -> int:
        return min(STRIDE, max_length // 4) if self.stride is None else self.stride

    def _tokenize(self, texts: Texts, max_length: int, **options: Any) -> EncodedBatch:
        stride = self._stride(max_length)
        options = {"return_offsets": True, **options}
        return super()._tokenize(texts, max_length, truncation="only_second", stride=stride, **options)

    def _make_task(self, rows: TrainingRows) -> SpanTask:
        spans = np.array([(target.start, target.end) for target in rows.targets], np.int64)
        task = SpanTask(rows.encoded["encoded"], spans, rows.weights)
        if task.n_hidden:
            limit = self._limit()
            warn_once_per_call(
                f"{task.n_hidden} of the {len(spans)} rows are learnt as rows without an answer, because no window shows the "
                f"whole answer: windows of max_length={limit} tokens share stride={self._stride(limit)}. Raise either, or "
                "shorten these answers",
                about="hidden answers",
            )
        return task

    def _validation_score(self, rows: TrainingRows) -> float:
        contexts = [target.context for target in rows.targets]
        predicted = self._best(contexts, self._search(self._engine(), rows.encoded["encoded"], contexts, n_best=1))
        return answer_f1_score([target.answers for target in rows.targets], predicted, sample_weight=rows.weights)

    def _answers(self, X: Any, n_best: int, distinct: bool = True) -> tuple[Texts, list[RowAnswers]]:
        """Questions with their contexts, and what is found in each."""
        engine = self._engine()
        questions = self._check_X(X, reset=False)
        return questions, self._search(engine, self._encode(questions), questions.second or [], n_best, distinct)

    def _search(
        self, engine: Engine, encoded: EncodedBatch, contexts: list[str], n_best: int, distinct: bool = True
    ) -> list[RowAnswers]:
        return best_answers(
            engine.tokens(encoded),
            encoded,
            contexts,
            n_best=n_best,
            max_answer_length=self.max_answer_length,
            align_to_words=self.align_to_words,
            distinct=distinct,
        )

    def _best(self, contexts: list[str], answers: list[RowAnswers]) -> list[str]:
        """The best answer of each row, '' where there is none."""
        records = [self._as_records(context, row) for context, row in zip(contexts, answers, strict=True)]
        return [row[0]["answer"] if row else "" for row in records]

    def _as_records(self, context: str, row: RowAnswers) -> list[dict[str, Any]]:
        """Answers of a row, best first; no answer is one of them where that is allowed."""
        records = [
            {
                "answer": context[span.start : span.end],
                "score": exp(span.log_score),
                "start": span.start,
                "end": span.end,
            }
            for span in row.spans
        ]
        if self.allow_no_answer:
            rank = sum(span.log_score >= row.log_null_score - self.no_answer_threshold for span in row.spans)
            records.insert(rank, {"answer": "", "score": exp(row.log_null_score), "start": 0, "end": 0})
        return records


def _no_room(rows: Texts, row: int, limit: int, budget: int, stride: int, hint: str) -> ValueError:
    return ValueError(
        f"X row {row}: the question {rows.first[row][:40]!r}... leaves no room for its context: max_length={limit} holds "
        f"{budget} tokens of both, of which windows share {stride}. Shorten it, raise max_length, or lower stride{hint}"
    )
