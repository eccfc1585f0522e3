"""Generation: token for token what the reference generates, and what each setting does."""

import copy
import math
from dataclasses import replace

import pytest
import torch
import transformers
from torch.nn import functional as F

from skxlmr.nn.decoding.generation import beam_search, generate, greedily, penalize_repetition, restrict, sampler
from tests.nn.reference import TINY
from tests.nn.test_causal import make_pair

DECODER = replace(TINY, is_decoder=True, vocab_size=60, max_position_embeddings=60)
STOP = DECODER.eos_token_id
NEW = 12


@pytest.fixture(scope="module")
def pair():
    """A module that looks at all earlier tokens and ends rows now and then, and the reference's."""
    ours, theirs = make_pair(DECODER, torch.float64, seed=1)
    with torch.no_grad():
        for module in (ours, theirs):
            module.roberta.embeddings.word_embeddings.weight *= 6
            module.lm_head.bias[STOP] += 3.0
    theirs.generation_config = transformers.GenerationConfig(pad_token_id=1, bos_token_id=0, eos_token_id=STOP)
    return ours, theirs


def make_prompts(n, longest=12):
    generator = torch.Generator().manual_seed(n)
    lengths = torch.randint(1, longest, (n,), generator=generator).tolist()
    return [[0, *torch.randint(4, 60, (length,), generator=generator).tolist()] for length in lengths]


def reference_generate(theirs, prompt, seed=None, **options):
    """What transformers generates for one prompt.

    The positions are those of its own forward. By default ``generate`` of transformers 5 counts them from 0, a position that no
    token of these models has in training.
    """
    if seed is not None:
        torch.manual_seed(seed)
        options = {"do_sample": True, "top_k": 0} | options  # its default would be the 50 likeliest
    positions = torch.arange(len(prompt))[None] + DECODER.pad_token_id + 1
    mask = torch.ones(1, len(prompt), dtype=torch.long)
    found = theirs.generate(
        torch.tensor([prompt]), attention_mask=mask, position_ids=positions, max_new_tokens=NEW, **options
    )
    return found[0, len(prompt) :].tolist()


def check(pair, search, n_prompts, reference_options, min_distinct=10, **options):
    """All prompts in one batch get the tokens that the reference generates one by one, with many endings and lengths."""
    ours, theirs = pair
    prompts = make_prompts(n_prompts)
    found = search(ours, prompts, **{"max_new_tokens": NEW, "stop_ids": [STOP], **options})
    for i, prompt in enumerate(prompts):
        assert found[i] == reference_generate(theirs, prompt, **reference_options), f"prompt {i}"
    assert len(set(map(tuple, found))) >= min(min_distinct, n_prompts // 2)
    return found


@pytest.mark.parametrize("n_prompts", [20, pytest.param(100, marks=pytest.mark.slow)])
@pytest.mark.parametrize("penalty", [1.0, 1.7])
def test_greedy_tokens_are_the_references(pair, penalty, n_prompts):
    found = check(pair, generate, n_prompts, {"repetition_penalty": penalty}, repetition_penalty=penalty)
    free = generate(pair[0], make_prompts(n_prompts), max_new_tokens=NEW, stop_ids=[STOP])
    if penalty == 1:
        assert found == free and {tokens[-1] == STOP for tokens in found} == {True, False}
        assert max(map(len, found)) == NEW and min(map(len, found)) < NEW
    else:
        assert found != free


@pytest.mark.parametrize(
    ("num_beams", "penalty", "n_prompts"),
    [(2, 1.0, 40), (4, 1.0, 15), (3, 1.5, 15)]
    + [pytest.param(*beams, 100, marks=pytest.mark.slow) for beams in [(2, 1.0), (4, 1.0), (3, 1.5)]],
)
def test_beam_search_tokens_are_the_references(pair, num_beams, penalty, n_prompts):
    options = {"num_beams": num_beams, "repetition_penalty": penalty}
    found = check(pair, beam_search, n_prompts, options, min_distinct=8, **options)
    assert min(map(len, found)) < NEW
    ours, _ = pair
    greedy = generate(ours, make_prompts(n_prompts), max_new_tokens=NEW, stop_ids=[STOP])
    assert found != greedy


def test_several_stop_tokens(pair):
    ours, theirs = pair
    prompts = make_prompts(12)
    free = generate(ours, prompts, max_new_tokens=NEW, stop_ids=[])
    assert all(len(tokens) == NEW for tokens in free)
    stops = [STOP, free[0][3], free[1][5]]
    found = generate(ours, prompts, max_new_tokens=NEW, stop_ids=stops)
    for i, prompt in enumerate(prompts):
        assert found[i] == reference_generate(theirs, prompt, eos_token_id=stops)
        end = next((place for place, token in enumerate(free[i]) if token in stops), NEW)
        assert found[i] == free[i][: end + 1]
    beams = beam_search(ours, prompts, max_new_tokens=NEW, stop_ids=stops, num_beams=3)
    for i, prompt in enumerate(prompts):
        assert beams[i] == reference_generate(theirs, prompt, eos_token_id=stops, num_beams=3)


@pytest.mark.parametrize(
    "options", [{}, {"temperature": 0.6}, {"top_k": 5}, {"top_p": 0.7}, {"temperature": 1.5, "top_k": 9, "top_p": 0.8}]
)
def test_samples_are_the_references(pair, options):
    """The same seed draws the same tokens, for a prompt alone as among others."""
    ours, theirs = pair
    prompts = make_prompts(8)
    generators = [torch.Generator().manual_seed(i) for i in range(8)]
    found = generate(ours, prompts, max_new_tokens=NEW, stop_ids=[STOP], choose=sampler(generators, **options))
    for i, prompt in enumerate(prompts):
        assert found[i] == reference_generate(theirs, prompt, seed=i, **options)
        alone = sampler([torch.Generator().manual_seed(i)], **options)
        assert found[i] == generate(ours, [prompt], max_new_tokens=NEW, stop_ids=[STOP], choose=alone)[0]
    assert found != generate(ours, prompts, max_new_tokens=NEW, stop_ids=[STOP])


def test_sampling_frequencies(pair):
    """Draws of the first token follow the restricted distribution."""
    ours, _ = pair
    prompt, n = [0, 7, 8], 600
    with torch.no_grad():
        logits = ours(torch.tensor([prompt]))[:, -1]
    generators = [torch.Generator().manual_seed(i) for i in range(n)]
    choose = sampler(generators, temperature=2.0, top_k=4)
    found = torch.tensor(generate(ours, [prompt] * n, max_new_tokens=1, stop_ids=[STOP], choose=choose))[:, 0]
    p = (logits[0].topk(4).values / 2).softmax(0)
    shares = torch.stack([(found == token).double().mean() for token in logits[0].topk(4).indices])
    assert shares.sum() == 1 and (shares - p).abs().max() < 4 * math.sqrt(0.25 / n)


@pytest.mark.parametrize(
    "search", [generate, lambda *a, **k: beam_search(*a, num_beams=3, **k)], ids=["greedy", "beam"]
)
def test_cached_equals_uncached_and_alone(pair, search):
    """Full forward passes without a cache choose the same tokens; so does a batch of one."""
    ours, _ = pair
    prompts = make_prompts(6)
    found = search(ours, prompts, max_new_tokens=NEW, stop_ids=[STOP])
    assert found == [search(ours, [prompt], max_new_tokens=NEW, stop_ids=[STOP])[0] for prompt in prompts]
    if search is generate:
        for prompt, tokens in zip(prompts, found, strict=True):
            with torch.no_grad():
                logits = ours(torch.tensor([prompt + tokens]))[0]
            assert logits.argmax(1)[len(prompt) - 1 : -1].tolist() == tokens


def test_a_wide_beam_finds_the_likeliest_text(pair):
    """Of all continuations of two tokens, a beam as wide as the vocabulary finds the likeliest, and greedy search does not."""
    ours, _ = pair
    for prompt in make_prompts(4):
        with torch.no_grad():
            first = ours(torch.tensor([prompt]))[0, -1].log_softmax(0)
            second = ours(torch.tensor([[*prompt, token] for token in range(60)]))[:, -1].log_softmax(1)
        best = int((first[:, None] + second).argmax())
        found = beam_search(ours, [prompt], max_new_tokens=2, stop_ids=[], num_beams=60)
        assert found == [[best // 60, best % 60]]


def test_padding_is_not_a_token_of_the_prompt(pair):
    """Short prompts next to long ones: the padding before them is not penalised, even where its id is likely."""
    ours = copy.deepcopy(pair[0])
    with torch.no_grad():
        ours.lm_head.bias[DECODER.pad_token_id] += 6.0
    prompts = make_prompts(8)
    options = {"max_new_tokens": 3, "stop_ids": [STOP], "repetition_penalty": 1.7}
    for search in (generate, lambda *a, **k: beam_search(*a, num_beams=2, **k)):
        found = search(ours, prompts, **options)
        assert any(DECODER.pad_token_id in tokens for tokens in found)
        assert found == [search(ours, [prompt], **options)[0] for prompt in prompts]


def test_as_many_stop_tokens_as_there_are_tokens(pair):
    ours, _ = pair
    every = list(range(60))
    found = beam_search(ours, make_prompts(3), max_new_tokens=NEW, stop_ids=every, num_beams=3)
    assert found == generate(ours, make_prompts(3), max_new_tokens=NEW, stop_ids=every)
    assert all(len(tokens) == 1 for tokens in found)


def test_penalty():
    scores = torch.tensor([[1.0, -1.0, 2.0, -2.0]] * 2)
    ids = torch.tensor([[0, 1, 0], [4, 3, 3]])  # 4 is not an id
    found = penalize_repetition(scores, ids, 2.0)
    assert found.tolist() == [[0.5, -2.0, 2.0, -2.0], [1.0, -1.0, 2.0, -4.0]]
    assert penalize_repetition(scores, ids, 1.0) is scores


def test_restrictions():
    p = torch.tensor([[0.5, 0.2, 0.2, 0.1], [0.1, 0.2, 0.3, 0.4]])
    kept = lambda **options: restrict(p.log(), **options).isfinite().tolist()  # noqa: E731 - one line says it best
    assert kept(top_k=2) == [[True, True, True, False], [False, False, True, True]]  # ties stay
    assert kept(top_k=9) == [[True] * 4] * 2
    assert kept(top_p=0.45) == [[True, False, False, False], [False, False, True, True]]
    assert kept(top_p=1.0) == [[True] * 4] * 2
    assert kept(top_p=1e-9) == [[True, False, False, False], [False, False, False, True]]
    torch.testing.assert_close(restrict(p.log(), temperature=0.5).softmax(1), F.normalize(p**2, 1, 1))
    for scores in (p.log(), p.log() + 50, p.log() - 50):  # colder than float32 can hold
        for temperature in (1e-30, 1e-300):
            assert restrict(scores, temperature, top_p=0.9).softmax(1)[1].tolist() == [0, 0, 0, 1]
    assert greedily(p, [0, 1]).tolist() == [0, 3]
