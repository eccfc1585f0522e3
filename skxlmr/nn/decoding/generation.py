"""Continue token sequences with a causal language model: greedily, by sampling, or by beam search.

The tokens are those that ``generate`` of the reference chooses for each prompt alone. The prompts of a batch are padded on the
left, each with its own mask and positions, so that a prompt's neighbours do not matter.

Shape legend: N rows, S tokens so far, V vocabulary, R prompts, B beams of a prompt, K candidates of a prompt.
"""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from skxlmr.nn.backbone import LanguageModel
from skxlmr.nn.decoding.cache import KeyValueCache
from skxlmr.utils._devices.device import overflow

Chooser = Callable[[Tensor, list[int]], Tensor]  # (scores (N, V), prompt of each row) -> tokens (N,)

_NEVER = -1e9  # score of tokens that must not be chosen; finite, as in the reference


def penalize_repetition(scores_NV: Tensor, ids_NS: Tensor, penalty: float) -> Tensor:
    """Make the tokens that a row already has less likely: divide positive scores by the penalty, multiply negative ones.

    The id V means no token (Keskar et al. 2019, arXiv:1909.05858).
    """
    if penalty == 1:
        return scores_NV
    n_rows, n_ids = scores_NV.shape
    has_NV = torch.zeros(n_rows, n_ids + 1, dtype=torch.bool, device=scores_NV.device)
    has_NV = has_NV.scatter_(1, ids_NS, True)[:, :n_ids]
    return torch.where(has_NV, torch.where(scores_NV < 0, scores_NV * penalty, scores_NV / penalty), scores_NV)


def restrict(
    scores_NV: Tensor, temperature: float = 1.0, top_k: int | None = None, top_p: float | None = None
) -> Tensor:
    """Return the scores to sample from: sharpened, then minus infinity for all but the likeliest tokens.

    Parameters
    ----------
    scores_NV : Tensor
    temperature : float
        Divisor of the scores.
    top_k : int, optional
        Keep this number of tokens, and any that tie with the last of them (Fan et al. 2018, arXiv:1805.04833).
    top_p : float, optional
        Keep the likeliest tokens that reach this probability together (Holtzman et al. 2020, arXiv:1904.09751).
    """
    if temperature != 1:  # subtracting the maximum leaves the probabilities as they are and avoids overflow
        least = torch.finfo(scores_NV.dtype).tiny
        scores_NV = (scores_NV - scores_NV.amax(1, keepdim=True)) / max(temperature, least)
    if top_k is not None:
        least_N1 = scores_NV.topk(min(top_k, scores_NV.shape[1])).values[:, -1:]
        scores_NV = scores_NV.masked_fill(scores_NV < least_N1, -torch.inf)
    if top_p is not None and top_p < 1:
        ascending_NV, token_NV = scores_NV.sort()
        cut_NV = ascending_NV.softmax(1).cumsum(1) <= 1 - top_p
        cut_NV[:, -1] = False
        scores_NV = scores_NV.masked_fill(cut_NV.scatter(1, token_NV, cut_NV), -torch.inf)
    return scores_NV


def greedily(scores_NV: Tensor, prompts: list[int]) -> Tensor:
    """Choose the likeliest token of each row."""
    return scores_NV.argmax(1)


def sampler(
    generators: Sequence[torch.Generator],
    temperature: float = 1.0,
    top_k: int | None = None,
    top_p: float | None = None,
) -> Chooser:
    """Return a chooser that draws tokens, for each prompt from its own generator: its neighbours do not matter."""

    def choose(scores_NV: Tensor, prompts: list[int]) -> Tensor:
        p_NV = restrict(scores_NV, temperature, top_k, top_p).softmax(1)
        drawn = [torch.multinomial(p_NV[i], 1, generator=generators[prompt]) for i, prompt in enumerate(prompts)]
        return torch.cat(drawn)

    return choose


class Continuations:
    """The rows of a batch that is being continued: their tokens so far, and the cache of the model.

    Parameters
    ----------
    module : LanguageModel
        A decoder.
    prompts : list of list of int
        Token ids, at least one per prompt.
    max_new_tokens : int
        Largest number of tokens that will be appended.
    """

    def __init__(self, module: LanguageModel, prompts: Sequence[Sequence[int]], max_new_tokens: int):
        backbone: Any = module.backbone
        config, device = backbone.config, backbone.get_input_embeddings().weight.device
        width = max(map(len, prompts))
        self.module, self.backbone, self.vocab_size = module, backbone, config.vocab_size
        self.padding = config.pad_token_id
        padded = [[self.padding] * (width - len(prompt)) + list(prompt) for prompt in prompts]
        real = [[False] * (width - len(prompt)) + [True] * len(prompt) for prompt in prompts]
        self.ids_NS = torch.tensor(padded, dtype=torch.int64, device=device)
        self.mask_NS = torch.tensor(real, device=device)
        self.cache = KeyValueCache(config.num_hidden_layers, width + max_new_tokens)
        self._overflows: Tensor | None = None  # whether float16 did; stays on the device until the end

    def scores(self) -> Tensor:
        """Return the logits (N, V) of the next token, in float32 or wider."""
        new = slice(self.cache.length, None)
        positions_NS = self.mask_NS.cumsum(1) * self.mask_NS + self.padding
        output = self.backbone(
            self.ids_NS[:, new], attention_mask=self.mask_NS, position_ids=positions_NS[:, new], cache=self.cache
        )
        logits_NV = self.module.project(output.last_hidden_state[:, -1])
        if logits_NV.dtype == torch.float16:
            overflows = ~logits_NV.isfinite().all()
            self._overflows = overflows if self._overflows is None else self._overflows | overflows
            logits_NV = logits_NV.nan_to_num()
        return logits_NV if logits_NV.dtype == torch.float64 else logits_NV.float()

    def check(self) -> None:
        """Raise FloatingPointError if a score was not finite in float16."""
        if self._overflows is not None and bool(self._overflows):
            raise overflow("a score")

    def seen(self) -> Tensor:
        """Return the tokens of each row, (N, S), for :func:`penalize_repetition`."""
        return self.ids_NS.masked_fill(~self.mask_NS, self.vocab_size)

    def append(self, tokens_N: Tensor) -> None:
        """Append a token to each row."""
        self.ids_NS = torch.cat([self.ids_NS, tokens_N[:, None]], 1)
        self.mask_NS = F.pad(self.mask_NS, (0, 1), value=True)

    def take(self, rows: Tensor) -> None:
        """Keep these rows, in this order; a row may be given more than once."""
        self.ids_NS, self.mask_NS = self.ids_NS[rows], self.mask_NS[rows]
        self.cache.take(rows)


@torch.no_grad()
def generate(
    module: LanguageModel,
    prompts: Sequence[Sequence[int]],
    *,
    max_new_tokens: int,
    stop_ids: Sequence[int],
    choose: Chooser = greedily,
    repetition_penalty: float = 1.0,
) -> list[list[int]]:
    """Continue each prompt token by token.

    Parameters
    ----------
    module : LanguageModel
        A decoder, in eval mode.
    prompts : list of list of int
        Token ids, at least one per prompt.
    max_new_tokens : int
        Largest number of tokens to append.
    stop_ids : list of int
        Tokens that end a row.
    choose : callable
        Chooses tokens (N,) from scores (N, V) and the prompt of each row: :func:`greedily`, or the result of :func:`sampler`.
    repetition_penalty : float
        See :func:`penalize_repetition`.

    Returns
    -------
    list of list of int
        The new tokens of each prompt, including the one that ended it.
    """
    rows = Continuations(module, prompts, max_new_tokens)
    stop = torch.tensor(stop_ids, dtype=torch.int64, device=rows.ids_NS.device)
    found: list[list[int]] = [[] for _ in prompts]
    running = list(range(len(prompts)))
    for _ in range(max_new_tokens):
        scores_NV = penalize_repetition(rows.scores(), rows.seen(), repetition_penalty)
        tokens_N = choose(scores_NV, running)
        for prompt, token in zip(running, tokens_N.tolist(), strict=True):
            found[prompt].append(token)
        rows.append(tokens_N)
        left = torch.isin(tokens_N, stop, invert=True).nonzero()[:, 0]
        if not len(left):
            break
        if len(left) < len(running):
            rows.take(left)
            running = [running[i] for i in left.tolist()]
    rows.check()
    return found


@torch.no_grad()
def beam_search(
    module: LanguageModel,
    prompts: Sequence[Sequence[int]],
    *,
    max_new_tokens: int,
    stop_ids: Sequence[int],
    num_beams: int,
    repetition_penalty: float = 1.0,
) -> list[list[int]]:
    """Keep the ``num_beams`` likeliest continuations of each prompt, and return the best that ended.

    The best has the highest log-probability per token. As in the reference, a prompt is done when its best running beam scores
    less than the worst of its ``num_beams`` finished ones; beams that still run after ``max_new_tokens`` count as finished.
    The arguments are those of :func:`generate`.

    Returns
    -------
    list of list of int
        The new tokens of each prompt, including the one that ended it.
    """
    rows = Continuations(module, prompts, max_new_tokens)
    device = rows.ids_NS.device
    width = rows.ids_NS.shape[1]
    rows.take(torch.arange(len(prompts), device=device).repeat_interleave(num_beams))
    stop = torch.tensor(stop_ids, dtype=torch.int64, device=device)
    n_wanted = max(2, 1 + len(stop_ids)) * num_beams  # enough to continue with if the best of every beam end
    score_RB = torch.full((len(prompts), num_beams), _NEVER, device=device)
    score_RB[:, 0] = 0.0  # the beams start equal: only one of them may be continued at first
    finished: list[list[tuple[float, list[int]]]] = [[] for _ in prompts]  # (score, tokens), best first
    running = list(range(len(prompts)))
    for n_new in range(1, max_new_tokens + 1):
        log_p_NV = penalize_repetition(rows.scores().log_softmax(1), rows.seen(), repetition_penalty)
        n_ids = log_p_NV.shape[1]
        total_RV = (log_p_NV.view(len(running), num_beams, n_ids) + score_RB[..., None]).flatten(1)
        score_RK, place_RK = total_RV.topk(min(n_wanted, total_RV.shape[1]))
        token_RK = place_RK % n_ids
        first_row_R1 = torch.arange(len(running), device=device)[:, None] * num_beams
        row_RK = first_row_R1 + place_RK // n_ids
        ends_RK = torch.isin(token_RK, stop) | (n_new == max_new_tokens)

        # Only the best num_beams candidates may finish; the others are there to be continued.
        for i, k in ends_RK[:, :num_beams].nonzero().tolist():
            tokens = [*rows.ids_NS[row_RK[i, k], width:].tolist(), int(token_RK[i, k])]
            finished[running[i]].append((float(score_RK[i, k]) / n_new, tokens))
        score_RB, best_RB = (score_RK + ends_RK * _NEVER).topk(num_beams)
        unfinished = []
        for i, prompt in enumerate(running):
            finished[prompt] = sorted(finished[prompt], key=lambda item: -item[0])[:num_beams]
            full = len(finished[prompt]) == num_beams
            if not full or float(score_RB[i, 0]) / n_new > finished[prompt][-1][0]:
                unfinished.append(i)
        if not unfinished or n_new == max_new_tokens:
            break
        kept = torch.tensor(unfinished, device=device)
        score_RB, best_RB = score_RB[kept], best_RB[kept]
        rows.take(row_RK[kept].gather(1, best_RB).flatten())
        rows.append(token_RK[kept].gather(1, best_RB).flatten())
        running = [running[i] for i in unfinished]
    rows.check()
    return [ended[0][1] for ended in finished]
