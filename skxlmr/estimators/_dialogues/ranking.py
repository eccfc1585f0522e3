"""What a dialogue model predicts: vectors of dialogues, and which response follows a context."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from skxlmr.estimators._core.truncation import warn_of_truncation
from skxlmr.estimators._dialogues.rows import Dialogues, check_candidates, check_dialogues, encode_turns, turn_bounds
from skxlmr.estimators._dialogues.task import context_row, possible_responses, response_row, stack_rows
from skxlmr.estimators._fine_tuning.fine_tuned import FineTuned
from skxlmr.estimators._fine_tuning.training_rows import check_one_weight_each
from skxlmr.estimators._vectors.transformer import Transformer
from skxlmr.estimators.parameters import LanguageModelParameters, parameter, parameters
from skxlmr.text import EncodedBatch, SubwordSampling
from skxlmr.utils._sklearn import check_sample_weight

SPEAKER_TOKENS = ("[SYS]", "[USR]")
N_SCORED = 100  # responses among which `score` looks for the right one


@parameters
class ResponseRanker(Transformer, LanguageModelParameters, FineTuned):
    """Vectors of dialogues, ``rank_responses`` and ``score``; the vocabulary has the speakers' tokens."""

    speakers: dict[str, str] | None = parameter(
        None,
        [dict, None],
        "Which names of speakers mean ``'system'`` and which ``'user'``, beyond ``system``, ``sys``, ``user`` and "
        "``usr`` (in any case), such as ``{'agent': 'system', 'caller': 'user'}``.",
    )

    _row = "dialogue"

    def rank_responses(self, contexts: Any, candidates: Any) -> tuple[Any, Any]:
        """Rank candidates by how well they follow each context.

        Parameters
        ----------
        contexts : list, Series, object array or DataFrame of dialogues
            The turns so far, as ``fit`` takes them.
        candidates : list, array, Series or column of str, or of lists of str
            What the system may say: the same candidates for all contexts, or one list for each context.

        Returns
        -------
        order : ndarray of shape (n_contexts, n_candidates), int64
            Numbers of the candidates, best first. With one list for each context, a list of 1-D arrays.
        scores : ndarray of shape (n_contexts, n_candidates), float32
            Dot product of the vectors of context and candidate, in the order of the candidates. With one list for each
            context, a list of 1-D arrays.

        Raises
        ------
        ValueError
            If a turn has no known speaker or no text, or a candidate is not a text; names it.

        See Also
        --------
        skxlmr.metrics.recall_at_k : Scores such rankings.

        Examples
        --------
        >>> from skxlmr import XLMRobertaDialogueLM
        >>> dialogues = [[("user", "A table for two, please."), ("system", "For what time?")]] * 2
        >>> lm = XLMRobertaDialogueLM("skxlmr-mini", max_epochs=1, random_state=0).fit(dialogues)
        >>> order, scores = lm.rank_responses([[("user", "A table, please.")]], ["For what time?", "Goodbye.", "No."])
        >>> order.shape, scores[0, order[0]].tolist() == sorted(scores[0].tolist(), reverse=True)
        ((1, 3), True)
        """
        engine = self._engine()
        dialogues = check_dialogues(contexts, "contexts", self.speakers)
        lists, shared = check_candidates(candidates, len(dialogues))
        if not lists:
            return [], []
        number: dict[str, int] = {}  # each distinct candidate is encoded once
        numbers = [np.array([number.setdefault(text, len(number)) for text in texts]) for texts in lists]
        single = Dialogues(list(number), np.ones(len(number), bool), np.ones(len(number), np.int64))
        turns = self._encode(single, kept="start")
        limit = self._limit()
        responses = [response_row(turns, i, self.tokenizer_, limit) for i in range(len(turns))]
        responses_MD = engine.rows(stack_rows(responses), engine.first_vectors())
        contexts_ND = engine.rows(self._whole(self._encode(dialogues)), engine.first_vectors())
        if shared:
            scores = contexts_ND @ responses_MD[numbers[0]].T
            return np.argsort(-scores, axis=1, kind="stable"), scores
        each = [responses_MD[own] @ context_D for own, context_D in zip(numbers, contexts_ND, strict=True)]
        return [np.argsort(-values, kind="stable") for values in each], each

    def score(self, X: Any, y: Any = None, sample_weight: Any = None) -> float:
        """Recall@1 of the responses.

        Of each dialogue a system turn is drawn, the same whenever the same dialogues are scored. It counts if it has the
        highest score, after the turns before it, among the drawn turns of 100 dialogues that stand together in X (X is cut
        into equal parts of at most 100). A dialogue with no system turn after another one is left out.

        Parameters
        ----------
        X : list, Series, object array or DataFrame of dialogues
            As ``fit`` takes them.
        y : None
            Ignored.
        sample_weight : array-like of shape (n_dialogues,), optional
            How much each dialogue counts; 0 leaves it out, so that its response is not a candidate either.

        Returns
        -------
        float
            From 0 to 1.

        Raises
        ------
        ValueError
            If no dialogue has a system turn after another turn.
        """
        engine = self._engine()
        turns = self._encode(self._check_X(X, reset=False))
        bounds = turn_bounds(turns)
        check_one_weight_each(sample_weight, len(bounds), self._row)
        weights = check_sample_weight(sample_weight, np.empty(len(bounds)), ensure_non_negative=True)
        rng = np.random.default_rng(0)
        contexts, responses, counts = [], [], []
        for (first, last), weight in zip(bounds, weights, strict=True):
            possible = possible_responses(turns, first, last, self._speaker_ids[0])
            if len(possible) and weight:
                turn = rng.choice(possible)
                counts.append(weight)
                contexts.append(context_row(turns, first, turn, self.tokenizer_, self._limit()))
                responses.append(response_row(turns, turn, self.tokenizer_, self._limit()))
        if not contexts:
            raise ValueError("X has no dialogue with a system turn after another turn: there is nothing to rank")
        if len(contexts) < 2:
            raise ValueError("X has one dialogue with a response alone: a score needs another one's to choose from")
        contexts_ND, responses_ND = (
            engine.rows(stack_rows(rows), engine.first_vectors()) for rows in (contexts, responses)
        )
        right = np.empty(len(contexts), bool)
        for part in np.array_split(np.arange(len(contexts)), -(-len(contexts) // N_SCORED)):
            best = part[(contexts_ND[part] @ responses_ND[part].T).argmax(1)]
            right[part] = [np.array_equal(responses[i], responses[j]) for i, j in zip(part, best, strict=True)]
        return float(np.average(right, weights=counts))

    @property
    def _speaker_ids(self) -> tuple[int, int]:
        """Ids of the tokens of the system and of the user."""
        system, user = map(self.tokenizer_.token_to_id, SPEAKER_TOKENS)
        assert system is not None and user is not None, "added when the checkpoint was opened"
        return system, user

    def _encode(
        self,
        rows: Any,
        sampling: SubwordSampling | None = None,
        kept: str = "last turns",
        n_prompt: int = 0,
        **options: Any,
    ) -> EncodedBatch:
        """The turns, see `encode_turns`, with room for a prompt; warns of dialogues that are too long."""
        limit = self._limit() - n_prompt
        turns = encode_turns(rows, self.tokenizer_, self._speaker_ids, limit, sampling)
        if sampling is None:
            n_dropped = turns.n_dropped[[first for first, _ in turn_bounds(turns)]]
            what = "dialogues" if kept == "last turns" else "responses"
            warn_of_truncation(turns, n_dropped, limit, what, how=f" to their {kept}")
        return turns

    def _whole(self, turns: EncodedBatch, prompt: Sequence[int] | np.ndarray = ()) -> EncodedBatch:
        """Each dialogue as one row, with a prompt before it."""
        limit, bounds = self._limit() - len(prompt), turn_bounds(turns)
        rows = [context_row(turns, first, last, self.tokenizer_, limit) for first, last in bounds]
        return stack_rows([np.concatenate([row[:1], prompt, row[1:]]) for row in rows] if len(prompt) else rows)
