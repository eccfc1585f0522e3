"""Under another default device the modules compute the same: every tensor is made on the device of its batch."""

import copy
from dataclasses import replace

import pytest
import torch

from skxlmr.checkpoints import on_meta
from skxlmr.nn import KeyValueCache, TokenLayout, losses
from skxlmr.nn.decoding.generation import beam_search, generate, sampler
from skxlmr.nn.sentence.pooling import POOLINGS, pool
from skxlmr.nn.vocabulary import extend_vocabulary
from tests.nn import test_causal as causal
from tests.nn.reference import KINDS, TINY, make_pair, make_rows, packed
from tests.nn.xlm import reference as xlm

LENGTHS = [11, 4, 8, 11, 2]
ROWS = make_rows(TINY, LENGTHS)
XLM_KINDS = ("encoder", "lm", "sequences", "tokens", "spans", "choices")


def assert_unchanged(call):
    """The call returns the same tensors or lists with and without another default device."""
    with torch.no_grad():
        torch.manual_seed(0)
        expected = call()
        torch.manual_seed(0)
        with torch.device("meta"):
            found = call()
    assert len(found) == len(expected) > 0
    for ours, theirs in zip(found, expected, strict=True):
        assert torch.equal(ours, theirs) if isinstance(theirs, torch.Tensor) else ours == theirs


def tensors_of(output):
    """The vectors of an encoder, or the logits of a head, as a list."""
    return [output] if isinstance(output, torch.Tensor) else [output.last_hidden_state, *(output.attentions or ())]


@pytest.mark.parametrize("kind", KINDS)
def test_xlm_roberta(kind):
    ours = make_pair(kind)[0].train()  # dropout draws from the same generator
    ids, mask = ROWS
    tokens, _ = packed(ids, mask)
    assert_unchanged(lambda: tensors_of(ours(tokens, TokenLayout(LENGTHS))))
    for inputs in ({}, {"attention_mask": mask}):
        assert_unchanged(lambda inputs=inputs: tensors_of(ours(ids, **inputs)))
    if kind == "base":
        assert_unchanged(lambda: tensors_of(ours(ids, head_mask=torch.ones(4, device="cpu"), output_attentions=True)))
        vectors = ours.embeddings.word_embeddings(ids).detach()
        assert_unchanged(lambda: tensors_of(ours(inputs_embeds=vectors, attention_mask=mask)))
    if kind == "mlm":
        assert_unchanged(
            lambda: tensors_of(ours(tokens, TokenLayout(LENGTHS), positions=torch.tensor([3], device="cpu")))
        )


@pytest.mark.parametrize("kind", XLM_KINDS)
@pytest.mark.parametrize("options", [{}, {"sinusoidal_embeddings": True, "n_langs": 2, "causal": True}], ids=str)
def test_original_xlm(kind, options):
    ours = xlm.make_pair(kind, summary_type="last", **options)[0].train()
    ours.get_submodule("" if kind == "encoder" else "transformer").lang_ids = (1, 0)
    for side in ("right", "left"):
        ids, mask, langs = xlm.make_inputs(ours.config if kind == "encoder" else ours.transformer.config, side=side)
        for inputs in ({}, {"attention_mask": mask, "langs": langs}):
            assert_unchanged(lambda ids=ids, inputs=inputs: tensors_of(ours(ids, **inputs)))
    tokens = ids[mask == 1]
    assert_unchanged(lambda: tensors_of(ours(tokens, TokenLayout([9, 4, 7], second_starts=[5, 4, 2]))))


def test_answer_search():
    ours = xlm.make_pair("search")[0]
    ids, mask, _ = xlm.make_inputs(ours.transformer.config)
    places = torch.tensor([0, 2, 1])
    for cls_index in (None, places):
        assert_unchanged(lambda cls=cls_index: list(vars(ours(ids, attention_mask=mask, cls_index=cls)).values()))
        assert_unchanged(lambda cls=cls_index: list(vars(ours.logits(ids, starts=places, cls_index=cls)).values()))


@pytest.mark.parametrize("pooling", POOLINGS)
def test_pooling(pooling):
    encoder = make_pair("base")[0]
    tokens, _ = packed(*ROWS)
    assert_unchanged(lambda: [pool(encoder, tokens, TokenLayout(LENGTHS), pooling, [1, 3])])
    x, mask = encoder(ROWS[0]).last_hidden_state.detach(), ROWS[1]
    for how in ("mean", "max", "first", "last"):
        assert_unchanged(lambda how=how: [getattr(TokenLayout.padded(mask.shape, mask), how)(x)])


def test_long_rows_of_a_decoder_with_cache_and_another_text():
    ours = causal.make_pair(causal.LONG)[0]
    source = causal.make_source(torch.float32)
    ids, mask = make_rows(causal.LONG, [90, 70, 80], "left")

    def decode():
        cache = KeyValueCache(causal.LONG.num_hidden_layers, 90)
        return [
            ours(ids[:, start:end], attention_mask=mask[:, :end], cache=cache, **source)
            for start, end in [(0, 80), (80, 88), (88, 89)]
        ]

    assert_unchanged(decode)
    assert_unchanged(lambda: [ours(ids, **source), ours(packed(ids, mask)[0], TokenLayout([90, 70, 80]))])


@pytest.mark.parametrize("search", ["greedy", "sample", "beam"])
def test_generation(search):
    ours = causal.make_pair(replace(causal.DECODER, max_position_embeddings=60), seed=1)[0]
    prompts = [[0, 7, 8, 9], [0, 5], [0, 11, 12]]

    def search_once():
        options = {"max_new_tokens": 6, "stop_ids": [2, 17], "repetition_penalty": 1.3}
        if search == "beam":
            return beam_search(ours, prompts, num_beams=3, **options)
        if search == "sample":
            options["choose"] = sampler([torch.Generator().manual_seed(i) for i in range(3)], top_k=9, top_p=0.9)
        return generate(ours, prompts, **options)

    assert_unchanged(search_once)


def test_losses():
    vectors, lengths, spans = torch.randn(6, 4), torch.tensor([2, 4]), torch.tensor([[0, 1], [2, 3]])
    assert_unchanged(lambda: [losses.multiple_negatives_ranking(vectors, vectors.flip(0))])
    assert_unchanged(lambda: [losses.response_contrastive(vectors, vectors.flip(0))])
    assert_unchanged(lambda: [losses.span_cross_entropy(vectors[:, :2], lengths, spans)])


def test_more_words():
    module = make_pair("mlm")[0]

    def extend():
        longer = copy.deepcopy(module)
        extend_vocabulary(longer, 110, 0.02)
        return [longer.roberta.embeddings.word_embeddings.weight, longer.lm_head.bias]

    assert_unchanged(extend)


def test_modules_are_still_built_on_meta():
    with on_meta():
        modules = [KINDS[kind][0](TINY) for kind in KINDS]
        config = replace(xlm.TINY, sinusoidal_embeddings=True, tie_word_embeddings=False, n_langs=2)
        modules += [xlm.HEADS[kind][0](config) for kind in xlm.HEADS]
    for module in modules:
        assert all(tensor.is_meta for tensor in [*module.parameters(), *module.buffers()])
