"""transformers as the oracle of BERT and DistilBERT: pairs of modules with the same weights, all of them perturbed."""

import torch
import transformers

from skxlmr.checkpoints import on_meta
from skxlmr.nn import TokenLayout, config_of, family_of
from tests.nn.reference import N_CHOICES, N_OUTPUTS, N_TAGS

TOLERANCE = {torch.float32: 1e-5, torch.float64: 1e-10}
# kind of task -> end of the names of the classes, number of outputs that ours take
TASKS = {
    "seqcls": ("ForSequenceClassification", N_OUTPUTS),
    "regression": ("ForSequenceClassification", 1),
    "tokcls": ("ForTokenClassification", N_TAGS),
    "qa": ("ForQuestionAnswering", None),
    "mc": ("ForMultipleChoice", None),
    "mlm": ("ForMaskedLM", None),
}
TINY = {
    "bert": {
        "vocab_size": 100,
        "hidden_size": 32,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "intermediate_size": 64,
        "max_position_embeddings": 24,
    },
    "distilbert": {
        "vocab_size": 100,
        "dim": 32,
        "n_layers": 2,
        "n_heads": 4,
        "hidden_dim": 64,
        "max_position_embeddings": 24,
    },
}
NAMES = {"bert": "Bert", "distilbert": "DistilBert"}


def our_config(model_type, **changes):
    return config_of({"model_type": model_type, **TINY[model_type], **changes})


def make_theirs(model_type, kind, seed=0, **changes):
    """A module in eval mode, float32, with noise on every parameter: zeros would hide transposed weights."""
    end, n_outputs = TASKS.get(kind, ("Model", None))
    config = getattr(transformers, f"{NAMES[model_type]}Config")(
        **{**TINY[model_type], **changes}, num_labels=n_outputs or 2, attn_implementation="eager"
    )
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        theirs = getattr(transformers, f"{NAMES[model_type]}{end}")(config).eval()
        with torch.no_grad():
            for parameter in theirs.parameters():
                parameter.add_(torch.randn_like(parameter), alpha=0.1)
    return theirs


def named_parameters(theirs):
    """The reference's parameters, under the names that ours have."""
    found = dict(theirs.named_parameters())
    if "cls.predictions.decoder.bias" in found:  # which a head with a weight of its own computes with
        found["cls.predictions.bias"] = found.pop("cls.predictions.decoder.bias")
    prefix = "" if hasattr(theirs, theirs.base_model_prefix) else f"{theirs.base_model_prefix}."
    return {prefix + name: parameter for name, parameter in found.items()}


def make_pair(model_type, kind, dtype=torch.float32, **changes):
    """Both modules; ours with the reference's weights, which must have the same names."""
    theirs = make_theirs(model_type, kind, **changes).to(dtype)
    config = our_config(model_type, **changes)
    end, n_outputs = TASKS.get(kind, ("Model", None))
    arguments = [True] if kind == "pooler" else [] if n_outputs is None else [n_outputs]
    with on_meta():
        ours = family_of(config).modules[end](config, *arguments)
    weights = {name: parameter.detach().clone() for name, parameter in named_parameters(theirs).items()}
    if kind == "base":
        weights = {name: tensor for name, tensor in weights.items() if ".pooler." not in name}
    ours.load_state_dict(weights, strict=True, assign=True)
    return ours.requires_grad_(True).eval(), theirs


def make_pairs_of_texts(lengths, seed=0):
    """Padded ids, mask and token types (N, S) of pairs; each first text takes a third of its row."""
    generator = torch.Generator().manual_seed(seed)
    ids, types = (torch.zeros(len(lengths), max(lengths), dtype=torch.int64) for _ in range(2))
    starts = [length // 3 for length in lengths]
    for row, (length, start) in enumerate(zip(lengths, starts, strict=True)):
        ids[row, :length] = torch.randint(1, 100, (length,), generator=generator)
        types[row, start:length] = 1
    return ids, (ids != 0).long(), types, starts


def reference_output(kind, theirs, ids, mask, **inputs):
    """The reference's logits, in the shape of ours."""
    if kind == "mc":
        ids, mask = (tensor.view(-1, N_CHOICES, tensor.shape[1]) for tensor in (ids, mask))
        inputs = {name: tensor.view(ids.shape) for name, tensor in inputs.items()}
    output = theirs(ids, attention_mask=mask, **inputs)
    if kind == "qa":
        return torch.stack([output.start_logits, output.end_logits], 2)
    return output.logits.flatten() if kind == "mc" else output.logits


def packed(ids, mask, starts=None):
    """The real tokens of a padded batch, and their layout."""
    return ids[mask.bool()], TokenLayout(mask.sum(1).tolist(), second_starts=starts)
