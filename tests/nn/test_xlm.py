"""The older XLM against transformers': the encoder with each option, each head, in both precisions, and gradients.

Every parameter of every pair is perturbed. The reference rounds its attention weights to float32 whatever its own precision;
in double precision it is asked for its true values (``exact_softmax``).
"""

import contextlib
from dataclasses import replace

import pytest
import torch
import transformers

from skxlmr.checkpoints import emplace, normalize_names, on_meta
from skxlmr.nn import (
    ModelConfig,
    TokenLayout,
    XLMConfig,
    XLMEncoder,
    XLMForMaskedLM,
    XLMForQuestionAnswering,
    XLMForSequenceClassification,
    XLMForTokenClassification,
    config_of,
    losses,
)
from skxlmr.utils._errors import CheckpointError

from .reference import assert_near

N_OUTPUTS = 3
TINY = XLMConfig(vocab_size=80, emb_dim=32, n_layers=3, n_heads=4, max_position_embeddings=24)
OPTIONS = {
    "plain": {},
    "sinusoidal": {"sinusoidal_embeddings": True},
    "languages": {"n_langs": 3},
    "languages without embeddings": {"n_langs": 3, "use_lang_emb": False},
    "relu": {"gelu_activation": False},
    "causal": {"causal": True},
    "other padding id": {"pad_token_id": 0, "bos_token_id": 3},
    "large eps": {"layer_norm_eps": 1e-2},
}
HEADS = {
    "encoder": (XLMEncoder, transformers.XLMModel),
    "lm": (XLMForMaskedLM, transformers.XLMWithLMHeadModel),
    "sequences": (
        lambda config: XLMForSequenceClassification(config, N_OUTPUTS),
        transformers.XLMForSequenceClassification,
    ),
    "tokens": (lambda config: XLMForTokenClassification(config, N_OUTPUTS), transformers.XLMForTokenClassification),
    "spans": (XLMForQuestionAnswering, transformers.XLMForQuestionAnsweringSimple),
}
TOLERANCE = {torch.float32: 1e-5, torch.float64: 1e-12}
dtypes = pytest.mark.parametrize("dtype", TOLERANCE, ids=str)


@contextlib.contextmanager
def exact_softmax(dtype):
    """Let the reference's attention keep double precision, which it casts to float32."""
    with pytest.MonkeyPatch.context() as patch:
        if dtype == torch.float64:
            patch.setattr(torch.Tensor, "float", lambda tensor: tensor)
        yield


def make_pair(kind="encoder", dtype=torch.float32, num_labels=N_OUTPUTS, **options):
    """(ours, theirs) with the same weights, all of them perturbed; the names agree one by one."""
    config = replace(TINY, **options)
    num_labels = 2 if kind == "spans" else num_labels
    torch.manual_seed(0)
    theirs = HEADS[kind][1](transformers.XLMConfig(**config.to_dict(), num_labels=num_labels)).eval()
    with torch.no_grad():
        for parameter in theirs.parameters():
            parameter.add_(torch.randn_like(parameter), alpha=0.1)
    theirs = theirs.to(dtype)
    with on_meta():
        ours = HEADS[kind][0](config)
    weights = {name: parameter.detach().clone() for name, parameter in theirs.named_parameters()}
    ours.load_state_dict(weights, strict=True, assign=True)
    return ours.requires_grad_(True).eval(), theirs


def make_inputs(config, lengths=(9, 4, 7), side="right"):
    """Padded ids, mask and languages, (N, S)."""
    generator = torch.Generator().manual_seed(1)
    width = max(lengths)
    ids = torch.randint(4, config.vocab_size, (len(lengths), width), generator=generator)
    places, lengths_N1 = torch.arange(width), torch.tensor(lengths)[:, None]
    mask = places < lengths_N1 if side == "right" else places >= width - lengths_N1
    ids[~mask] = config.pad_token_id
    langs = torch.randint(config.n_langs, ids.shape, generator=generator)
    return ids, mask.long(), langs


def run_theirs(theirs, dtype, ids, **inputs):
    with exact_softmax(dtype):
        return theirs(input_ids=ids, **inputs)


# Encoder --------------------------------------------------------------------------------------------------------------


@dtypes
@pytest.mark.parametrize("options", OPTIONS.values(), ids=OPTIONS)
@pytest.mark.parametrize("side", ["right", "left"])
def test_encoder_is_the_references(options, side, dtype):
    ours, theirs = make_pair(dtype=dtype, **options)
    ids, mask, langs = make_inputs(ours.config, side=side)
    with torch.no_grad():
        found = ours(ids, attention_mask=mask, langs=langs, output_hidden_states=True, output_attentions=True)
        expected = run_theirs(
            theirs, dtype, ids, attention_mask=mask, langs=langs, output_hidden_states=True, output_attentions=True
        )
    # at padding too, where the reference has zeros
    assert len(found.hidden_states) == len(expected.hidden_states) == TINY.n_layers + 1
    for layer, pair in enumerate(zip(found.hidden_states, expected.hidden_states, strict=True)):
        assert_near(*pair, TOLERANCE[dtype], f"hidden state {layer}")
    for layer, pair in enumerate(zip(found.attentions, expected.attentions, strict=True)):
        assert_near(*pair, TOLERANCE[dtype], f"attention {layer}")
    assert (found.last_hidden_state[mask == 0] == 0).all() and found.last_hidden_state[mask == 1].abs().min() > 0


@dtypes
@pytest.mark.parametrize("options", OPTIONS.values(), ids=OPTIONS)
def test_packed_rows_are_the_references_rows_one_by_one(options, dtype):
    ours, theirs = make_pair(dtype=dtype, **options)
    ids, mask, langs = make_inputs(ours.config, lengths=(9, 4, 7, 9))
    rows = [(ids[i, : mask[i].sum()], langs[i, : mask[i].sum()]) for i in range(len(ids))]
    layout = TokenLayout([len(row) for row, _ in rows])
    with torch.no_grad():
        packed_ids, packed_langs = (torch.cat(part) for part in zip(*rows, strict=True))
        found = ours(packed_ids, layout, langs=packed_langs).last_hidden_state
        expected = [
            run_theirs(theirs, dtype, row[None], langs=of_row[None]).last_hidden_state[0] for row, of_row in rows
        ]
    assert_near(found, torch.cat(expected), TOLERANCE[dtype], "last hidden state")


def test_without_a_mask_rows_end_with_their_last_id_that_is_not_padding():
    ours, theirs = make_pair()
    ids, _, _ = make_inputs(ours.config)
    with torch.no_grad():
        assert_near(ours(ids).last_hidden_state, theirs(ids).last_hidden_state, 1e-5, "last hidden state")
        given = ours.embeddings(ids)
        found = ours(inputs_embeds=given).last_hidden_state
        assert_near(found, theirs(inputs_embeds=given).last_hidden_state, 1e-5, "last hidden state of embeddings")


def test_languages_and_positions_matter_and_may_be_given():
    ours, theirs = make_pair(n_langs=3)
    ids, mask, langs = make_inputs(ours.config)
    positions = torch.arange(ids.shape[1]).flip(0).expand(ids.shape).contiguous()
    inputs = {"attention_mask": mask, "langs": langs, "position_ids": positions}
    with torch.no_grad():
        found = ours(ids, **inputs).last_hidden_state
        assert_near(found, theirs(ids, **inputs).last_hidden_state, 1e-5, "last hidden state")
        for name in ("langs", "position_ids"):
            less = {other: value for other, value in inputs.items() if other != name}
            without = ours(ids, **less).last_hidden_state
            assert (without - found).abs().max() > 0.1
            assert_near(without, theirs(ids, **less).last_hidden_state, 1e-5, f"without {name}")


def test_default_language_stands_for_one_that_is_given():
    ours, _ = make_pair(n_langs=3)
    ids, mask, _ = make_inputs(ours.config)
    with torch.no_grad():
        expected = ours(ids, attention_mask=mask, langs=torch.full_like(ids, 2)).last_hidden_state
        ours.lang_ids = (2,)
        torch.testing.assert_close(ours(ids, attention_mask=mask).last_hidden_state, expected)
        given = ours(ids, attention_mask=mask, langs=torch.ones_like(ids)).last_hidden_state
    assert (given - expected).abs().max() > 0.1


def test_second_texts_have_their_own_language_and_positions():
    ours, theirs = make_pair(n_langs=3)
    ours.lang_ids = (2, 1)
    layout = TokenLayout([9, 6], second_starts=[5, 2])
    ids = make_inputs(ours.config, (15,))[0][0]
    positions = torch.tensor([0, 1, 2, 3, 4, 0, 1, 2, 3, 0, 1, 0, 1, 2, 3])
    langs = torch.tensor([2] * 5 + [1] * 4 + [2] * 2 + [1] * 4)
    assert layout.positions_T.tolist() == positions.tolist() and layout.longest_text == 5
    with torch.no_grad():
        found = ours(ids, layout).last_hidden_state
        for row in (slice(0, 9), slice(9, 15)):
            inputs = {"langs": langs[None, row], "position_ids": positions[None, row]}
            assert_near(found[row], theirs(ids[None, row], **inputs).last_hidden_state[0], 1e-5, "last hidden state")


def test_two_texts_may_share_the_positions_that_one_may_not():
    ours, _ = make_pair()
    ids = make_inputs(ours.config, (25,))[0][0]
    assert ours(ids, TokenLayout([25], second_starts=[12])).last_hidden_state.shape == (25, 32)
    with pytest.raises(ValueError, match="a text of 25 tokens is longer than the 24 positions"):
        ours(ids, TokenLayout([25]))
    with pytest.raises(ValueError, match="a text of 25 tokens is longer"):
        ours(ids[None])


def test_a_causal_model_never_looks_ahead():
    ours, _ = make_pair(causal=True)
    ids = make_inputs(ours.config, (9,))[0][0]
    changed = ids.clone()
    changed[5] += 1
    with torch.no_grad():
        before, after = (ours(row, TokenLayout([9])).last_hidden_state for row in (ids, changed))
    assert torch.equal(before[:5], after[:5]) and (before[5:] - after[5:]).abs().amax(1).min() > 1e-3


def test_fewer_layers_and_wrong_calls():
    ours, _ = make_pair()
    ids, mask, _ = make_inputs(ours.config)
    with torch.no_grad():
        states = ours(ids, attention_mask=mask, output_hidden_states=True).hidden_states
        torch.testing.assert_close(ours(ids, attention_mask=mask, n_layers=2).last_hidden_state, states[2])
    with pytest.raises(ValueError, match="pass either input_ids or inputs_embeds"):
        ours()
    with pytest.raises(ValueError, match="pass either input_ids or inputs_embeds"):
        ours(ids, inputs_embeds=ours.embeddings(ids))
    with pytest.raises(ValueError, match="attention_mask belongs to padded batches"):
        ours(ids[0], TokenLayout([9]), attention_mask=mask)


def test_sinusoidal_positions_are_the_references_and_fixed():
    ours, theirs = (
        XLMEncoder(replace(TINY, sinusoidal_embeddings=True)),
        transformers.XLMModel(transformers.XLMConfig(**replace(TINY, sinusoidal_embeddings=True).to_dict())),
    )
    expected = theirs.position_embeddings.weight.detach()
    assert_near(ours.position_embeddings.weight, expected, 1e-6, "positions")
    assert "position_embeddings.weight" in ours.state_dict()
    assert "position_embeddings.weight" not in dict(ours.named_parameters())


def test_blocks_hold_every_parameter_once():
    ours, _ = make_pair("lm", n_langs=2)
    blocks = ours.backbone.blocks
    held = [parameter for block in blocks for parameter in block.parameters()]
    assert len(blocks) == TINY.n_layers + 1
    assert len(held) == len(set(held)) and set(held) == set(ours.transformer.parameters())
    assert set(blocks[2].parameters()) >= set(ours.transformer.ffns[1].parameters())


# Heads ----------------------------------------------------------------------------------------------------------------


def logits_of(kind, output):
    if kind == "spans":
        return torch.stack([output.start_logits, output.end_logits], -1)
    return output.logits


@dtypes
@pytest.mark.parametrize("kind", [kind for kind in HEADS if kind != "encoder"])
@pytest.mark.parametrize("options", [{}, {"sinusoidal_embeddings": True, "n_langs": 2}, {"causal": True}], ids=str)
def test_heads_and_gradients_are_the_references(kind, options, dtype):
    ours, theirs = make_pair(kind, dtype, **options)
    ids, mask, langs = make_inputs(ours.transformer.config, (7, 7, 7) if kind == "sequences" else (9, 4, 7))
    found = ours(ids, attention_mask=mask, langs=langs)
    expected = logits_of(kind, run_theirs(theirs, dtype, ids, attention_mask=mask, langs=langs))
    assert_near(found.detach(), expected.detach(), TOLERANCE[dtype], "logits")
    if kind != "sequences":
        found, expected = found[mask == 1], expected[mask == 1]
    labels = torch.arange(found.numel() // found.shape[-1]) % found.shape[-1]
    losses.cross_entropy(found, labels).mean().backward()
    torch.nn.functional.cross_entropy(expected, labels).backward()
    of_ours, of_theirs = (
        {name: p.grad for name, p in module.named_parameters() if p.grad is not None} for module in (ours, theirs)
    )
    if options.get("sinusoidal_embeddings"):  # they train what the paper fixes
        del of_theirs["transformer.position_embeddings.weight"]
    assert of_ours.keys() == of_theirs.keys()
    largest = max(gradient.abs().max().item() for gradient in of_theirs.values())
    for name, gradient in of_theirs.items():
        assert_near(of_ours[name], gradient, TOLERANCE[dtype] * largest, f"gradient of {name}")


@pytest.mark.parametrize("kind", [kind for kind in HEADS if kind != "encoder"])
def test_heads_draw_the_same_dropout(kind):
    options = {"dropout": 0.3, "attention_dropout": 0.2, "summary_first_dropout": 0.5}
    ours, theirs = make_pair(kind, **options)
    ids, mask, _ = make_inputs(ours.transformer.config, (7, 7, 7) if kind == "sequences" else (9, 4, 7))
    results = []
    for module in (ours.train(), theirs.train()):
        torch.manual_seed(3)
        output = module(ids, attention_mask=mask)
        results.append(output if module is ours else logits_of(kind, output))
    assert_near(results[0].detach(), results[1].detach(), 1e-5, "logits in training")
    assert (ours.eval()(ids, attention_mask=mask) - results[0]).abs().max() > 0.01


SUMMARIES = [
    {"summary_type": "last"},
    {"summary_type": "mean"},
    {"summary_type": "cls_index"},
    {"summary_activation": "tanh"},
    {"summary_activation": "gelu"},
    {"summary_activation": "relu"},
    {"summary_proj_to_labels": False, "num_labels": TINY.emb_dim},
    {"summary_use_proj": False, "num_labels": TINY.emb_dim},
]


@dtypes
@pytest.mark.parametrize("options", SUMMARIES, ids=str)
def test_summary_options(options, dtype, monkeypatch):
    monkeypatch.setitem(
        HEADS,
        "sequences",
        (
            lambda config: XLMForSequenceClassification(config, options.get("num_labels", N_OUTPUTS)),
            HEADS["sequences"][1],
        ),
    )
    ours, theirs = make_pair("sequences", dtype, **options)
    ids, _, _ = make_inputs(ours.transformer.config, (7, 7))
    with torch.no_grad():
        expected = run_theirs(theirs, dtype, ids).logits
        assert_near(ours(ids), expected, TOLERANCE[dtype], "logits")
        assert_near(ours(ids.flatten(), TokenLayout([7, 7])), expected, TOLERANCE[dtype], "logits of packed rows")


@pytest.mark.parametrize("summary_type", ["first", "last", "mean", "cls_index"])
def test_summary_of_a_padded_row_is_that_of_the_row_alone(summary_type):
    ours, theirs = make_pair("sequences", summary_type=summary_type)
    ids, mask, _ = make_inputs(ours.transformer.config)
    with torch.no_grad():
        found = ours(ids, attention_mask=mask)
        alone = [theirs(row[of_row == 1][None]).logits[0] for row, of_row in zip(ids, mask, strict=True)]
    assert_near(found, torch.stack(alone), 1e-5, "logits")


def test_last_dropout_of_the_summary():
    ours, _ = make_pair(
        "sequences", summary_last_dropout=0.5, summary_first_dropout=0.0, dropout=0.0, attention_dropout=0.0
    )
    ids, _, _ = make_inputs(ours.transformer.config, (7,) * 20)
    with torch.no_grad():
        expected = ours(ids)
        found = ours.train()(ids)
    dropped = found == 0
    assert 10 < dropped.sum() < 50
    torch.testing.assert_close(found[~dropped], 2 * expected[~dropped])


def test_summary_that_cannot_give_the_outputs_is_refused():
    for field in ("summary_use_proj", "summary_proj_to_labels"):
        with pytest.raises(
            ValueError, match=f"the config's {field} is false, which makes 32 outputs where 3 are needed"
        ):
            XLMForSequenceClassification(replace(TINY, **{field: False}), 3)


def test_untied_language_model():
    ours, theirs = make_pair("lm", tie_word_embeddings=False)
    ids, mask, _ = make_inputs(ours.transformer.config)
    assert not torch.equal(ours.pred_layer.proj.weight, ours.transformer.embeddings.weight)
    with torch.no_grad():
        assert_near(ours(ids, attention_mask=mask), theirs(ids, attention_mask=mask).logits, 1e-5, "logits")


def test_gradient_checkpointing_changes_nothing():
    gradients = []
    for checkpointing in (False, True):
        ours, _ = make_pair("tokens", dropout=0.2)
        ours.backbone.gradient_checkpointing = checkpointing
        torch.manual_seed(0)
        ids, _, _ = make_inputs(ours.transformer.config)
        ours.train()(ids.flatten(), TokenLayout([9, 9, 9])).square().sum().backward()
        gradients.append(torch.cat([p.grad.flatten() for p in ours.parameters() if p.grad is not None]))
    torch.testing.assert_close(*gradients)


def test_the_answer_head_of_the_beam_search_is_refused():
    theirs = transformers.XLMForQuestionAnswering(transformers.XLMConfig(**TINY.to_dict()))
    tensors = normalize_names(theirs.state_dict(), "transformer")
    with on_meta():
        ours = XLMForQuestionAnswering(TINY)
    with pytest.raises(
        CheckpointError, match=r"there: .*missing \(qa_outputs\.bias.*unexpected \(qa_outputs\.answer_class"
    ):
        emplace(ours, tensors, source="there")


# Config ---------------------------------------------------------------------------------------------------------------

PUBLISHED = {
    "model_type": "xlm", "asm": False, "attention_dropout": 0.1, "bos_index": 0, "causal": False, "dropout": 0.1,
    "emb_dim": 1024, "embed_init_std": 0.02, "eos_index": 1, "gelu_activation": True, "id2lang": {"0": "de", "1": "en"},
    "init_std": 0.02, "is_encoder": True, "lang2id": {"de": 0, "en": 1}, "layer_norm_eps": 1e-12, "n_heads": 8,
    "n_langs": 2, "n_layers": 6, "n_words": 64699, "pad_index": 2, "sinusoidal_embeddings": False, "summary_type": "first",
    "unk_index": 3, "use_lang_emb": True, "max_position_embeddings": 512,
}  # fmt: skip


def test_config_of_a_published_checkpoint():
    config = config_of(PUBLISHED)
    assert isinstance(config, XLMConfig) and config.vocab_size == 64699 and config.pad_token_id == 2
    assert config.has_lang_embeddings and config.lang2id == {"de": 0, "en": 1} and config.max_length == 512
    assert (config.hidden_size, config.num_hidden_layers, config.head_size) == (1024, 6, 128)
    assert config.extra["unk_index"] == 3 and config.extra["id2lang"] == {"0": "de", "1": "en"}
    assert XLMConfig.from_dict(config.to_dict()) == config
    theirs = transformers.XLMConfig(**config.to_dict())
    assert (theirs.vocab_size, theirs.n_langs, theirs.pad_token_id, theirs.emb_dim) == (64699, 2, 2, 1024)


def test_defaults_are_the_references():
    theirs = transformers.XLMConfig()
    for name, value in XLMConfig().to_dict().items():
        if name != "summary_last_dropout":
            assert getattr(theirs, name) == value, name


def test_the_model_type_chooses_the_family():
    assert isinstance(config_of(ModelConfig().to_dict()), ModelConfig)
    with pytest.raises(ValueError, match="model_type must be one of"):
        config_of({**ModelConfig().to_dict(), "model_type": ["xlm"]})
    with pytest.raises(ValueError, match="model_type is missing"):
        config_of({})
    with pytest.raises(ValueError, match="model_type is missing"):
        XLMConfig.from_dict({})


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"asm": True}, "asm is true, and adaptive softmax is not supported"),
        ({"is_encoder": False}, "is_encoder is false, and XLM decoders are not supported"),
        ({"n_heads": 3}, "emb_dim must be a multiple of n_heads, got 1024 and 3"),
        ({"n_layers": 0}, "n_layers must be a whole number from 1 to 512, got 0"),
        ({"n_langs": True}, "n_langs must be a whole number"),
        ({"emb_dim": None}, "emb_dim must be a whole number"),
        ({"max_position_embeddings": 3}, "max_position_embeddings leaves no room"),
        ({"eos_token_id": [1, 2], "eos_index": [1, 2]}, "eos_token_id must be a whole number from 0"),
        ({"dropout": 1.0}, "dropout must be a number from 0 to below 1"),
        ({"layer_norm_eps": 0}, "layer_norm_eps must be a number above 0"),
        ({"causal": 1}, "causal must be true or false, got 1"),
        ({"model_type": "flaubert"}, "model_type must be 'xlm', got 'flaubert'"),
        ({"summary_type": "attn"}, "summary_type must be one of .* got 'attn'"),
        ({"summary_activation": "mish"}, "summary_activation must be null or one of"),
        ({"lang2id": ["de"]}, "lang2id must be an object of language ids"),
        ({"lang2id": {"de": 2}}, "lang2id must give ids from 0 to n_langs - 1, got 2 for 'de'"),
        ({"vocab_size": 5}, "vocab_size stands under two names with different values"),
    ],
    ids=str,
)
def test_config_that_is_wrong(change, said):
    with pytest.raises(ValueError, match=said):
        XLMConfig.from_dict({**PUBLISHED, **change})


@pytest.mark.parametrize("name", ["n_words", "emb_dim", "n_layers", "n_heads"])
def test_config_that_lacks_a_size(name):
    with pytest.raises(ValueError, match="missing"):
        XLMConfig.from_dict({key: value for key, value in PUBLISHED.items() if key != name})
