"""transformers as the oracle: pairs of modules with the same, fully perturbed weights, and how they are compared."""

import torch
import transformers

from skxlmr import nn
from skxlmr.checkpoints import on_meta
from skxlmr.nn import TokenLayout, losses

N_OUTPUTS = 3
N_TAGS = 5
N_CHOICES = 3
GEOMETRY = {
    "vocab_size": 100,
    "hidden_size": 32,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "intermediate_size": 64,
    "max_position_embeddings": 40,
}
TINY = nn.ModelConfig(**GEOMETRY)
XL = nn.XLMRobertaXLConfig(**GEOMETRY)
# XLM-R-base with a small vocabulary, as the large one would only cost memory.
BASE = nn.ModelConfig(vocab_size=1000)


def kinds_of(family):
    """How to build our module and the reference's class of each kind; ``family`` is what their names start with."""

    def pair(suffix, *args):
        return lambda config: getattr(nn, family + suffix)(config, *args), getattr(transformers, family + suffix)

    return {
        "base": (
            lambda config: getattr(nn, f"{family}Encoder")(config, add_pooler=True),
            getattr(transformers, f"{family}Model"),
        ),
        "seqcls": pair("ForSequenceClassification", N_OUTPUTS),
        "multilabel": pair("ForSequenceClassification", N_OUTPUTS),
        "regression": pair("ForSequenceClassification", 1),
        "mlm": pair("ForMaskedLM"),
        "tokcls": pair("ForTokenClassification", N_TAGS),
        "qa": pair("ForQuestionAnswering"),
        "mc": pair("ForMultipleChoice"),
        "clm": pair("ForCausalLM"),
    }


FAMILIES = {nn.ModelConfig: "XLMRoberta", nn.XLMRobertaXLConfig: "XLMRobertaXL"}
KINDS_OF = {config_class: kinds_of(family) for config_class, family in FAMILIES.items()}
KINDS = {kind: made for kind, made in KINDS_OF[nn.ModelConfig].items() if kind != "clm"}
TASKS = [kind for kind in KINDS if kind != "base"]
N_LABELS = {"seqcls": N_OUTPUTS, "multilabel": N_OUTPUTS, "regression": 1, "tokcls": N_TAGS, "qa": 2}


def reference_config(kind, config):
    n_labels = N_LABELS.get(kind, 2)  # the reference's default, for heads that do not depend on it
    config_class = getattr(transformers, f"{FAMILIES[type(config)]}Config")
    return config_class(**config.to_dict(), num_labels=n_labels, attn_implementation="eager")


def named_parameters(theirs):
    """The reference's parameters; tied weights under the names that ours have."""
    tied = {
        "lm_head.decoder.weight": "roberta.embeddings.word_embeddings.weight",
        "lm_head.decoder.bias": "lm_head.bias",
    }
    return {tied.get(name, name): parameter for name, parameter in theirs.named_parameters()}


def make_reference(kind, config, seed=0):
    """A transformers module in eval mode, float32, with noise on every parameter: zeros would hide transposed weights.

    The noise falls with the width: with as much as a narrow model needs, all tokens of a wide one become equal after twelve
    layers, which would hide tokens in the wrong place.
    """
    torch.manual_seed(seed)
    theirs = KINDS_OF[type(config)][kind][1](reference_config(kind, config)).eval()
    noise = 0.05 * (TINY.hidden_size / config.hidden_size) ** 0.5
    with torch.no_grad():
        for parameter in theirs.parameters():
            parameter.add_(torch.randn_like(parameter), alpha=noise)
    return theirs


def make_ours(kind, config, theirs, share=False):
    """Our module with the reference's weights: the names must be the same. ``share`` saves the memory of a copy."""
    with on_meta():
        ours = KINDS_OF[type(config)][kind][0](config)
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


def packed(ids, mask):
    """The real tokens of a padded batch and their layout."""
    return ids[mask.bool()], TokenLayout(mask.sum(1).tolist(), ids.device)


def task_lengths(kind, lengths):
    """Lengths that the reference's loss of this kind can take: whole sets of choices; for spans rows of one length, since
    its softmax would run over padding."""
    if kind == "mc":
        return lengths + lengths[: -len(lengths) % N_CHOICES]
    return [max(lengths)] * len(lengths) if kind == "qa" else lengths


def make_labels(kind, config, mask, seed=0):
    """Targets of the loss.

    A class, value or row of indicators per row; the right one of each N_CHOICES rows; the positions of the first and the last
    token of a span per row, (N, 2), some of them beyond the end of the row, which the loss ignores; a tag for about two thirds
    of the real tokens, or an id for a third, and -100 elsewhere.
    """
    generator = torch.Generator().manual_seed(seed)
    n_rows, width = mask.shape
    if kind == "seqcls":
        return torch.randint(N_OUTPUTS, (n_rows,), generator=generator)
    if kind == "multilabel":
        return torch.randint(2, (n_rows, N_OUTPUTS), generator=generator).float()
    if kind == "regression":
        return torch.randn(n_rows, generator=generator)
    if kind == "mc":
        return torch.randint(N_CHOICES, (n_rows // N_CHOICES,), generator=generator)
    if kind == "qa":
        places_N2 = torch.randint(width, (n_rows, 2), generator=generator).sort(1).values
        places_N2[0, 1], places_N2[1, 0] = width, width + 7
        return places_N2
    ids, share = (range(N_TAGS), 0.65) if kind == "tokcls" else (range(4, config.vocab_size), 0.35)
    labels = torch.randint(ids.start, ids.stop, mask.shape, generator=generator)
    chosen = (torch.rand(mask.shape, generator=generator) < share) & mask.bool()
    chosen[0, mask[0].argmax()] = True
    return labels.masked_fill(~chosen, -100)


def pack_labels(kind, labels, mask):
    """The labels of a packed batch."""
    return labels[mask.bool()] if kind in ("mlm", "tokcls") else labels


def our_loss(kind, logits, labels):
    """Our loss, averaged as the reference does, of padded or packed logits; span logits of rows of one length."""
    if kind == "regression":
        return losses.squared_error(logits, labels[:, None].to(logits.dtype)).mean()
    if kind == "multilabel":
        return losses.binary_cross_entropy(logits, labels).mean()
    if kind == "mc":
        logits = logits.view(-1, N_CHOICES)
    if kind in ("mlm", "tokcls"):
        logits, labels = logits[labels != -100], labels[labels != -100]
    if kind == "qa":
        logits_T2 = logits.reshape(-1, 2)
        width = len(logits_T2) // len(labels)
        loss_N2 = losses.span_cross_entropy(logits_T2, torch.full_like(labels[:, 0], width), labels)
        return (loss_N2.sum(0) / (labels < width).sum(0)).mean()
    return losses.cross_entropy(logits, labels).mean()


def reference_outputs(kind, theirs, ids, mask, labels=None):
    """The reference's logits, in the shape of ours, and its loss."""
    if kind == "mc":
        ids, mask = (tensor.view(-1, N_CHOICES, tensor.shape[1]) for tensor in (ids, mask))
    if kind == "qa":
        starts, ends = (None, None) if labels is None else labels.unbind(1)
        output = theirs(ids, attention_mask=mask, start_positions=starts, end_positions=ends)
        return torch.stack([output.start_logits, output.end_logits], 2), output.loss
    if labels is not None and labels.is_floating_point():
        labels = labels.to(theirs.dtype)  # the reference's loss has the dtype of its targets
    output = theirs(ids, attention_mask=mask, labels=labels)
    return output.logits.flatten() if kind == "mc" else output.logits, output.loss


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
    """All hidden states, attentions and the pooler output agree at every place of every row, including padding."""
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


def assert_tasks_agree(kind, ours, theirs, config, lengths, tolerance):
    """Logits, loss and the gradients of all parameters agree."""
    ids, mask = make_rows(config, task_lengths(kind, lengths))
    device = next(ours.parameters()).device
    ids, mask, labels = (tensor.to(device) for tensor in (ids, mask, make_labels(kind, config, mask)))
    expected_logits, expected = reference_outputs(kind, theirs, ids, mask, labels)
    logits = ours(ids, attention_mask=mask)
    loss = our_loss(kind, logits, labels)
    assert_near(logits, expected_logits, tolerance, "logits")
    assert_near(loss, expected, tolerance, "loss")
    expected.backward()
    loss.backward()
    assert_gradients_agree(ours, theirs, tolerance)


# Planted faults: what comparisons of task modules must find ------------------------------------------------------------


def transpose_a_weight(ours):
    weight = ours.roberta.encoder.layer[1].attention.self.key.weight
    weight.copy_(weight.T.clone())


def transpose_the_pooler(ours):
    weight = ours.roberta.pooler.dense.weight
    weight.copy_(weight.T.clone())


def shift_the_positions(ours):
    weight = ours.roberta.embeddings.position_embeddings.weight
    weight.copy_(weight.roll(1, 0))


def swap_start_and_end(ours):
    for parameter in ours.qa_outputs.parameters():
        parameter.copy_(parameter.flip(0))


def renumber_the_tags(ours):
    for parameter in ours.classifier.parameters():
        parameter.copy_(parameter.roll(1, 0))


def forget_the_bias(ours):
    ours.classifier.bias.zero_()


TASK_FAULTS = [
    *((kind, fault) for kind in ("tokcls", "qa", "mc") for fault in (transpose_a_weight, shift_the_positions)),
    ("tokcls", renumber_the_tags),
    ("qa", swap_start_and_end),
    ("mc", transpose_the_pooler),
    ("mc", forget_the_bias),
]
