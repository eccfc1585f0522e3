"""transformers as the oracle: pairs of modules with the same, fully perturbed weights, and how they are compared."""

import torch
import transformers

from skxlmr.checkpoints import on_meta
from skxlmr.nn import ModelConfig, XLMRobertaEncoder, XLMRobertaForMaskedLM, XLMRobertaForSequenceClassification, losses

N_OUTPUTS = 3
TINY = ModelConfig(
    vocab_size=100,
    hidden_size=32,
    num_hidden_layers=3,
    num_attention_heads=4,
    intermediate_size=64,
    max_position_embeddings=40,
)
# XLM-R-base but for its vocabulary, which would only cost memory.
BASE = ModelConfig(vocab_size=1000)

KINDS = {
    "base": (lambda config: XLMRobertaEncoder(config, add_pooler=True), transformers.XLMRobertaModel),
    "seqcls": (
        lambda config: XLMRobertaForSequenceClassification(config, N_OUTPUTS),
        transformers.XLMRobertaForSequenceClassification,
    ),
    "mlm": (XLMRobertaForMaskedLM, transformers.XLMRobertaForMaskedLM),
}


def reference_config(config):
    return transformers.XLMRobertaConfig(**config.to_dict(), num_labels=N_OUTPUTS, attn_implementation="eager")


def named_parameters(theirs):
    """The reference's parameters; the tied weight goes by its name in the encoder, where ours has it."""
    tied = {
        "lm_head.decoder.weight": "roberta.embeddings.word_embeddings.weight",
        "lm_head.decoder.bias": "lm_head.bias",
    }
    return {tied.get(name, name): parameter for name, parameter in theirs.named_parameters()}


def make_reference(kind, config, seed=0):
    """A transformers module in eval mode, float32, with noise on every parameter: zeros would hide transposed weights."""
    torch.manual_seed(seed)
    theirs = KINDS[kind][1](reference_config(config)).eval()
    with torch.no_grad():
        for parameter in theirs.parameters():
            parameter.add_(torch.randn_like(parameter), alpha=0.05)
    return theirs


def make_ours(kind, config, theirs, share=False):
    """Our module with the reference's weights: the names must agree one by one. ``share`` saves the memory of a copy."""
    with on_meta():
        ours = KINDS[kind][0](config)
    weights = {name: p.detach() if share else p.detach().clone() for name, p in named_parameters(theirs).items()}
    ours.load_state_dict(weights, strict=True, assign=True)
    return ours.requires_grad_(True).eval()


def make_pair(kind, config=TINY, dtype=torch.float32, seed=0, share=False):
    theirs = make_reference(kind, config, seed).to(dtype)
    return make_ours(kind, config, theirs, share), theirs


def make_rows(config, lengths, side="right", seed=0):
    """Padded ids and attention mask, (N, S): ``<s> tokens </s>``, padding on one side."""
    generator = torch.Generator().manual_seed(seed)
    width = max(lengths)
    ids = torch.full((len(lengths), width), config.pad_token_id)
    for row, length in enumerate(lengths):
        start = 0 if side == "right" else width - length
        ids[row, start : start + length] = torch.randint(4, config.vocab_size, (length,), generator=generator)
        ids[row, start], ids[row, start + length - 1] = config.bos_token_id, config.eos_token_id
    return ids, (ids != config.pad_token_id).long()


def make_labels(kind, config, mask, seed=0):
    """Targets of the loss: a class a row, or an id for about a third of the real tokens and -100 elsewhere."""
    generator = torch.Generator().manual_seed(seed)
    if kind == "seqcls":
        return torch.randint(N_OUTPUTS, mask.shape[:1], generator=generator)
    labels = torch.randint(4, config.vocab_size, mask.shape, generator=generator)
    chosen = (torch.rand(mask.shape, generator=generator) < 0.35) & mask.bool()
    chosen[0, mask[0].argmax()] = True
    return labels.masked_fill(~chosen, -100)


def our_loss(kind, logits, labels):
    if kind == "mlm":
        logits, labels = logits[labels != -100], labels[labels != -100]
    return losses.cross_entropy(logits, labels).mean()


def largest_difference(found, expected):
    assert found.shape == expected.shape and found.dtype == expected.dtype
    return (found - expected).abs().max().item()


def assert_near(found, expected, tolerance, what):
    """The largest difference is within ``tolerance``."""
    difference = largest_difference(found, expected)
    assert difference <= tolerance, f"{what}: differs by {difference:.1e}, more than {tolerance:.1e}"


def outputs_of_encoders(ours, theirs, ids, mask, grad=False):
    """Every output of both encoders: {name: (found, expected)}."""
    with torch.set_grad_enabled(grad):
        found = ours(ids, attention_mask=mask, output_hidden_states=True, output_attentions=True)
        expected = theirs(ids, attention_mask=mask, output_hidden_states=True, output_attentions=True)
    pairs = {
        "last hidden state": (found.last_hidden_state, expected.last_hidden_state),
        "pooler output": (found.pooler_output, expected.pooler_output),
    }
    for what in ("hidden_states", "attentions"):
        for layer, pair in enumerate(zip(getattr(found, what), expected[what], strict=True)):
            pairs[f"{what} {layer}"] = pair
    return pairs


def assert_encoders_agree(ours, theirs, ids, mask, tolerance, grad=False):
    """All hidden states, attentions and the pooler output agree at every row and every place, padding included."""
    for what, (found, expected) in outputs_of_encoders(ours, theirs, ids, mask, grad).items():
        assert_near(found, expected, tolerance, what)


def assert_gradients_agree(ours, theirs, tolerance):
    """Gradients of all parameters agree within ``tolerance`` times the largest gradient."""
    expected = {name: p.grad for name, p in named_parameters(theirs).items() if p.grad is not None}
    found = {name: p.grad for name, p in ours.named_parameters() if p.grad is not None}
    assert found.keys() == expected.keys() and expected
    largest = max(gradient.abs().max().item() for gradient in expected.values())
    for name, gradient in expected.items():
        assert_near(found[name], gradient, tolerance * largest, f"gradient of {name}")
