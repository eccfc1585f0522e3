"""The causal language model: equal to the reference with and without cache and cross-attention, and really causal."""

import copy
from dataclasses import replace

import numpy as np
import pytest
import torch
import transformers

from skxlmr.checkpoints import assign_weights, normalize_names, on_meta, read_config, read_tensors
from skxlmr.nn import KeyValueCache, ModelConfig, TokenLayout, XLMRobertaEncoder, XLMRobertaForCausalLM, losses
from skxlmr.nn.attention import SHORT_ROW, attend
from tests.nn.reference import TINY, assert_gradients_agree, assert_near, make_rows, named_parameters, reference_config

DECODER = replace(TINY, is_decoder=True)
CROSS = replace(DECODER, add_cross_attention=True)
LONG = replace(CROSS, max_position_embeddings=SHORT_ROW + 40)  # rows for the fused kernel
TOLERANCE = {torch.float32: 1e-5, torch.float64: 1e-12}
each_dtype = pytest.mark.parametrize("dtype", TOLERANCE, ids=["fp32", "fp64"])


def make_reference(config, dtype, seed=0):
    """The reference's module, all of its weights perturbed."""
    torch.manual_seed(seed)
    theirs = transformers.XLMRobertaForCausalLM(reference_config("clm", config)).eval()
    with torch.no_grad():
        for parameter in theirs.parameters():
            parameter.add_(torch.randn_like(parameter), alpha=0.05)
    return theirs.to(dtype)


def make_pair(config, dtype=torch.float32, seed=0):
    """Our module and the reference's with the same weights."""
    theirs = make_reference(config, dtype, seed)
    with on_meta():
        ours = XLMRobertaForCausalLM(config)
    ours.load_state_dict({name: p.detach().clone() for name, p in named_parameters(theirs).items()}, assign=True)
    return ours.requires_grad_(True).eval(), theirs


def make_source(dtype, width=6, n_rows=3):
    """Vectors of another text with their own mask: the second row shorter, the third padded on the left."""
    source = torch.randn(n_rows, width, TINY.hidden_size, generator=torch.Generator().manual_seed(5)).to(dtype)
    mask = torch.ones(n_rows, width, dtype=torch.long)
    mask[1, 2:] = 0
    mask[2, :3] = 0
    return {"encoder_hidden_states": source, "encoder_attention_mask": mask}


def at(mask, *logits):
    """The logits at real tokens: those of padding that sees only itself do not matter."""
    return [x[mask.bool()] for x in logits]


@each_dtype
@pytest.mark.parametrize("side", ["left", "right"])
@pytest.mark.parametrize("config", [DECODER, CROSS, LONG], ids=["causal", "cross", "long"])
def test_uncached_forward_loss_and_gradients(config, side, dtype):
    ours, theirs = make_pair(config, dtype)
    lengths = [SHORT_ROW + 20, 30, SHORT_ROW + 1] if config is LONG else [11, 4, 7]
    ids, mask = make_rows(config, lengths, side)
    labels = torch.where((ids % 5 == 0) | (mask == 0), -100, ids)
    sources = [make_source(dtype) if config.add_cross_attention else {} for _ in range(2)]
    for source in sources:
        for vectors in source.values():
            vectors.requires_grad_(vectors.is_floating_point())
    expected = theirs(ids, attention_mask=mask, labels=labels, **sources[1])
    logits = ours(ids, attention_mask=mask, **sources[0])
    assert_near(*at(mask, logits, expected.logits), TOLERANCE[dtype], "logits")
    assert logits.isfinite().all()
    loss = losses.next_token_cross_entropy(logits, labels).mean()
    assert_near(loss, expected.loss.to(dtype), max(TOLERANCE[dtype], 1e-6), "loss")  # theirs is computed in float32
    losses.next_token_cross_entropy(expected.logits, labels).mean().backward()
    loss.backward()
    assert_gradients_agree(ours, theirs, TOLERANCE[dtype])
    if config.add_cross_attention:  # with which an encoder before the decoder would be trained
        found, wanted = (source["encoder_hidden_states"].grad for source in sources)
        assert_near(found, wanted, TOLERANCE[dtype] * wanted.abs().max().item(), "gradient of the other text")
        assert not found[sources[0]["encoder_attention_mask"] == 0].any()


@each_dtype
def test_untied_head(dtype):
    config = replace(DECODER, tie_word_embeddings=False)
    theirs = make_reference(config, dtype)
    with on_meta():
        ours = XLMRobertaForCausalLM(config)
    tensors = {name: p.detach().clone() for name, p in theirs.named_parameters()}
    assign_weights(ours, normalize_names(tensors, tied=False), source="the reference", dtype=dtype)
    ours.eval().requires_grad_(True)
    ids, mask = make_rows(config, [9, 5])
    expected, logits = theirs(ids, attention_mask=mask).logits, ours(ids, attention_mask=mask)
    assert_near(*at(mask, logits, expected), TOLERANCE[dtype], "logits")
    for of_module in (logits, expected):
        losses.next_token_cross_entropy(of_module, ids.masked_fill(mask == 0, -100)).mean().backward()
    for name in ("lm_head.decoder.weight", "roberta.embeddings.word_embeddings.weight"):
        wanted = theirs.get_parameter(name).grad
        assert_near(ours.get_parameter(name).grad, wanted, TOLERANCE[dtype] * wanted.abs().max().item(), name)


def look_ahead(ours):
    for layer in ours.roberta.encoder.layer:
        layer.attention.self.causal = False


def swap_the_attentions(ours):
    layer = ours.roberta.encoder.layer[1]
    layer.attention.self.key.weight, layer.crossattention.self.key.weight = (
        layer.crossattention.self.key.weight,
        layer.attention.self.key.weight,
    )


def transpose_a_weight(ours):
    weight = ours.roberta.encoder.layer[0].crossattention.self.value.weight
    weight.copy_(weight.T.clone())


def shift_the_positions(ours):
    weight = ours.roberta.embeddings.position_embeddings.weight
    weight.copy_(weight.roll(1, 0))


def forget_a_norm(ours):
    norm = ours.roberta.encoder.layer[2].crossattention.output.LayerNorm
    norm.weight.fill_(1.0)
    norm.bias.zero_()


@pytest.mark.parametrize(
    "fault",
    [look_ahead, swap_the_attentions, transpose_a_weight, shift_the_positions, forget_a_norm],
    ids=lambda fault: fault.__name__,
)
def test_the_comparison_finds_planted_faults(fault):
    ours, theirs = make_pair(CROSS)
    ids, mask = make_rows(CROSS, [9, 9, 9])
    source = make_source(torch.float32)
    with torch.no_grad():
        expected = theirs(ids, attention_mask=mask, **source).logits
        assert_near(ours(ids, attention_mask=mask, **source), expected, 1e-5, "logits")
        fault(ours)
        with pytest.raises(AssertionError, match="logits: differs by"):
            assert_near(ours(ids, attention_mask=mask, **source), expected, 1e-5, "logits")


@each_dtype
def test_train_mode_draws_the_same_dropout(dtype):
    ours, theirs = make_pair(CROSS, dtype)
    ids, mask = make_rows(CROSS, [9, 9, 9])
    source = make_source(dtype)
    torch.manual_seed(3)
    expected = theirs.train()(ids, attention_mask=mask, **source).logits
    torch.manual_seed(3)
    found = ours.train()(ids, attention_mask=mask, **source)
    assert_near(found, expected, TOLERANCE[dtype], "logits")
    assert (found - ours.eval()(ids, attention_mask=mask, **source)).abs().max() > 0.01


@each_dtype
@pytest.mark.parametrize("config", [DECODER, CROSS], ids=["causal", "cross"])
def test_cached_forward(config, dtype):
    """A prompt, then two tokens at once, then one by one: each step equals the reference's and the uncached logits."""
    ours, theirs = make_pair(config, dtype)
    ids, mask = make_rows(config, [12, 12, 12])
    source = make_source(dtype) if config.add_cross_attention else {}
    cache, past, start = KeyValueCache(config.num_hidden_layers, 12), None, 0
    with torch.no_grad():
        whole = ours(ids, attention_mask=mask, **source)
        for end in (6, 8, 9, 10, 11, 12):
            expected = theirs(
                ids[:, start:end], attention_mask=mask[:, :end], past_key_values=past, use_cache=True, **source
            )
            past = expected.past_key_values
            found = ours(ids[:, start:end], attention_mask=mask[:, :end], cache=cache, **source)
            assert_near(found, expected.logits, TOLERANCE[dtype], f"cached logits up to {end}")
            assert_near(found, whole[:, start:end], TOLERANCE[dtype], f"uncached logits up to {end}")
            start = end
    assert cache.length == 12


def test_cached_forward_of_left_padded_rows():
    """With positions passed as in generation, a row's neighbours and their padding do not matter."""
    ours, _ = make_pair(DECODER, torch.float64)
    ids, mask = make_rows(DECODER, [9, 5, 3], side="left")
    positions = mask.cumsum(1) * mask + DECODER.pad_token_id
    cache = KeyValueCache(DECODER.num_hidden_layers, 9)
    with torch.no_grad():
        for start, end in [(0, 6), (6, 7), (7, 9)]:
            found = ours(
                ids[:, start:end], attention_mask=mask[:, :end], position_ids=positions[:, start:end], cache=cache
            )
        for row, length in enumerate([9, 5, 3]):
            alone = ours(ids[row : row + 1, 9 - length :])
            assert_near(found[row, -2:], alone[0, -2:], 1e-12, f"row {row}")


def test_positions_with_cache_and_padding_are_the_references():
    ours, theirs = make_pair(DECODER)
    ids, mask = make_rows(DECODER, [9, 5], side="left")
    cache = KeyValueCache(DECODER.num_hidden_layers, 9)
    with torch.no_grad():
        past = theirs(ids[:, :7], attention_mask=mask[:, :7], use_cache=True).past_key_values
        expected = theirs(ids[:, 7:], attention_mask=mask, past_key_values=past).logits
        ours(ids[:, :7], attention_mask=mask[:, :7], cache=cache)
        assert_near(ours(ids[:, 7:], attention_mask=mask, cache=cache), expected, 1e-5, "logits")
        vectors = ours.roberta.embeddings.word_embeddings(ids[:, 5:6])
        with_vectors = KeyValueCache(DECODER.num_hidden_layers, 2)
        ours(inputs_embeds=vectors, cache=with_vectors)
        found = ours(inputs_embeds=vectors, cache=with_vectors)
        assert_near(found, ours(ids[:, 5:6].expand(-1, 2))[:, 1:], 1e-5, "logits of vectors")


@pytest.mark.parametrize("lengths", [[9, 9, 4], [SHORT_ROW + 20, SHORT_ROW + 9, 20]], ids=["short", "long"])
def test_later_tokens_do_not_matter(lengths):
    """To the last bit, packed and padded; a token and those before it do matter."""
    ours, _ = make_pair(replace(LONG, add_cross_attention=False))
    ids, mask = make_rows(DECODER, lengths)
    packed, layout = ids[mask.bool()], TokenLayout(lengths)
    t = lengths[0] // 2
    with torch.no_grad():
        for place in (0, t, lengths[0] - 1):
            changed, changed_packed = ids.clone(), packed.clone()
            changed[0, place] = changed_packed[place] = (ids[0, place] - 4 + 1) % 90 + 4
            for before, after in [
                (ours(ids, attention_mask=mask)[0], ours(changed, attention_mask=mask)[0]),
                (ours(packed, layout)[: lengths[0]], ours(changed_packed, layout)[: lengths[0]]),
            ]:
                assert torch.equal(before[:place], after[:place])
                assert (before[place : lengths[0]] != after[place : lengths[0]]).any(1).all()


@pytest.mark.parametrize("lengths", [[9, 9, 4, 8], [SHORT_ROW + 20, SHORT_ROW + 9, 20]], ids=["short", "long"])
def test_packed_equals_padded(lengths):
    ours, _ = make_pair(replace(LONG, add_cross_attention=False), torch.float64)
    ids, mask = make_rows(DECODER, lengths)
    packed, layout = ids[mask.bool()], TokenLayout(lengths)
    positions = torch.tensor([1, 3, lengths[0] + 2])
    with torch.no_grad():
        expected = ours(ids, attention_mask=mask)[mask.bool()]
        assert_near(ours(packed, layout), expected, 1e-12, "packed logits")
        assert_near(ours(packed, layout, positions=positions), expected[positions], 1e-12, "logits at positions")


def test_attention_weights_and_head_masks_of_a_decoder():
    ours, theirs = make_pair(DECODER)
    ids, mask = make_rows(DECODER, [7, 7])
    with torch.no_grad():
        found = ours.roberta(ids, attention_mask=mask, output_attentions=True)
        expected = theirs.roberta(ids, attention_mask=mask, output_attentions=True)
        silent = ours.roberta(ids, attention_mask=mask, head_mask=torch.zeros(4)).last_hidden_state
    for ours_NHSS, theirs_NHSS in zip(found.attentions, expected.attentions, strict=True):
        assert_near(ours_NHSS, theirs_NHSS, 1e-6, "attention weights")
        assert not ours_NHSS.triu(1).any()
    assert (silent - found.last_hidden_state).abs().max() > 0.01


def test_the_other_text_its_mask_and_its_cache_matter():
    ours, _ = make_pair(CROSS)
    ids, mask = make_rows(CROSS, [5, 5, 5])
    source = make_source(torch.float32)
    changed = copy.deepcopy(source)
    changed["encoder_hidden_states"][source["encoder_attention_mask"] == 0] += 1.0  # masked places do not matter
    cache = KeyValueCache(CROSS.num_hidden_layers, 5)
    with torch.no_grad():
        expected = ours(ids, attention_mask=mask, **source)
        assert torch.equal(ours(ids, attention_mask=mask, **changed), expected)
        assert (ours(ids, encoder_hidden_states=source["encoder_hidden_states"])[1:] != expected[1:]).any()
        assert (ours(ids) != expected).any()
        # the text that the cache has seen counts, until another cache is started
        ours(ids[:, :4], cache=cache, **source)
        other = {**source, "encoder_hidden_states": source["encoder_hidden_states"] * 2}
        assert_near(ours(ids[:, 4:], cache=cache, **other), expected[:, 4:], 1e-5, "logits")


def test_cache_takes_rows_in_any_order():
    ours, _ = make_pair(CROSS, torch.float64)
    ids, _ = make_rows(CROSS, [6, 6, 6])
    source = make_source(torch.float64)
    rows = torch.tensor([2, 0, 2])
    cache = KeyValueCache(CROSS.num_hidden_layers, 8)
    with torch.no_grad():
        ours(ids[:, :4], cache=cache, **source)
        cache.take(rows)
        found = ours(ids[rows, 4:], cache=cache, **{name: x[rows] for name, x in source.items()})
        assert_near(found, ours(ids, **source)[rows, 4:], 1e-12, "logits")


def test_a_full_cache_raises():
    ours, _ = make_pair(DECODER)
    ids, _ = make_rows(DECODER, [6])
    with pytest.raises(ValueError, match="a cache for 5 tokens has no room for 6"):
        ours(ids, cache=KeyValueCache(DECODER.num_hidden_layers, 5))
    cache = KeyValueCache(DECODER.num_hidden_layers, 50)
    ours(torch.cat([ids] * 6, 1)[:, :36], cache=cache)
    with pytest.raises(ValueError, match="a sequence of 39 tokens is longer than the 38 positions"):
        ours(ids[:, :3], cache=cache)


def test_wrong_calls_are_refused():
    ids, mask = make_rows(TINY, [4, 3])
    encoder = XLMRobertaEncoder(TINY)
    cache = KeyValueCache(TINY.num_hidden_layers, 4)
    with pytest.raises(ValueError, match="is_decoder=False"):
        encoder(ids, cache=cache)
    with pytest.raises(ValueError, match="is_decoder=True"):
        XLMRobertaForCausalLM(TINY)
    decoder = XLMRobertaEncoder(DECODER)
    with pytest.raises(ValueError, match="add_cross_attention=False"):
        decoder(ids, encoder_hidden_states=torch.zeros(2, 3, TINY.hidden_size))
    with pytest.raises(ValueError, match="padded batch"):
        decoder(ids[mask.bool()], TokenLayout([4, 3]), cache=cache)
    decoder(ids[:, :2], cache=cache)
    with pytest.raises(ValueError, match=r"attention_mask must have shape \(2, 4\), got \(2, 2\)"):
        decoder(ids[:, 2:], attention_mask=mask[:, 2:], cache=cache)
    x = torch.zeros(7, 8)
    with pytest.raises(ValueError, match="need a padded batch"):
        attend(x, x, x, TokenLayout([4, 3]), head_size=4, keys=TokenLayout([4, 3]))
    with pytest.raises(ValueError, match="padded keys"):
        attend(x[None], x[None], x[None], TokenLayout.padded((1, 7)), head_size=4, keys=TokenLayout([7]))


def test_an_encoder_reads_a_decoders_config():
    """A checkpoint with is_decoder is causal with every head, as in the reference."""
    ours, theirs = make_pair(DECODER)
    ids, mask = make_rows(DECODER, [7, 4])
    encoder = XLMRobertaEncoder(DECODER).eval()
    encoder.load_state_dict(ours.roberta.state_dict())
    with torch.no_grad():
        expected = theirs.roberta(ids, attention_mask=mask).last_hidden_state
        assert_near(encoder(ids, attention_mask=mask).last_hidden_state, expected, 1e-5, "vectors")


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"is_decoder": 1}, "is_decoder must be true or false, got 1"),
        ({"add_cross_attention": None, "is_decoder": True}, "add_cross_attention must be true or false"),
        ({"add_cross_attention": True}, "it needs is_decoder=true"),
    ],
)
def test_config_fields(fields, message):
    assert ModelConfig.from_dict(CROSS.to_dict()) == CROSS
    with pytest.raises(ValueError, match=message):
        ModelConfig.from_dict({**TINY.to_dict(), **fields})


@pytest.mark.parametrize("part", ["", "bin", "tf", "flax"])
def test_recorded_outputs(shared_data, part):
    folder = shared_data / "checkpoints" / "clm"
    golden = np.load(folder / "golden.npz")
    config = ModelConfig.from_dict(read_config(folder / part))
    with on_meta():
        module = XLMRobertaForCausalLM(config)
    assign_weights(
        module, normalize_names(read_tensors(folder / part), tied=True, source=str(folder)), source=str(folder)
    )
    ids, mask = torch.from_numpy(golden["input_ids"]), torch.from_numpy(golden["attention_mask"])
    with torch.no_grad():
        logits = module.eval()(ids, attention_mask=mask)
    assert_near(*at(mask, logits, torch.from_numpy(golden["logits"])), 1e-5, "logits")
